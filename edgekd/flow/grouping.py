"""Groups of models: those that one job can time in turn, and so compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact, is_artifact, read_manifest
from edgekd.errors import ArtifactError, UsageError
from edgekd.flow.unpacking import taken_by
from edgekd.profiling import PROVIDERS, Policy
from edgekd.records import ENGINE

TAKEN = ("size", "interpolation", "crop_pct")
"""What an artifact's manifest says of how a picture becomes its input, but for the colours."""


@dataclass(frozen=True)
class Group:
    """Models of one runtime that take pictures made in the same way."""

    models: tuple[Path, ...]
    """As they were given: artifacts' folders, or files."""
    files: tuple[Path, ...]
    policy: Policy
    input: Mapping[str, Any] | None
    """The ``input`` of the first artifact's manifest; None where all are plain files."""
    taken: Mapping[str, Any] | None = None
    """Size, interpolation and crop, for the clock ``end_to_end``."""
    assumed: str = ""
    """What was taken for granted about them, where no one says."""


def groups_of(models: Sequence[Path], policy: Policy) -> list[Group]:
    """Group models by runtime, and by size and cut of their images; plain files go with the first.

    A group is one job of the agent's, and a job has one runtime. Engines run in TensorRT whatever
    the policy's runtime is, unless that is another one by name.

    Raises:
        UsageError: a path that is no model, or a knob that its runtime does not have.
    """
    files = {path: model_file(path) for path in models}
    policies = {path: _settled(policy, file) for path, file in files.items()}
    inputs = {path: input_of(path) for path in models}
    found: dict[tuple[str, str], list[Path]] = {}
    for path in models:
        key, section = next((first for first, _ in found), ""), inputs[path]
        if section is not None:
            key = json.dumps([section[name] for name in TAKEN])
        found.setdefault((key, policies[path].runtime), []).append(path)
    return [
        _group(paths, [files[path] for path in paths], policies[paths[0]], inputs)
        for paths in found.values()
    ]


def _group(
    paths: Sequence[Path],
    files: Sequence[Path],
    policy: Policy,
    inputs: Mapping[Path, dict[str, Any] | None],
) -> Group:
    section = next((inputs[path] for path in paths if inputs[path] is not None), None)
    group = Group(tuple(paths), tuple(files), policy, section)
    if policy.clock != "end_to_end":
        return group
    if section is not None:
        return replace(group, taken={name: section[name] for name in TAKEN})
    taken, assumed = taken_by(files[0], policy.image_size)
    return replace(group, taken=taken, assumed=assumed)


def model_file(path: Path) -> Path:
    """The file to run: the path itself, or the model of a verified artifact."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"there is no {path}; expected an .onnx file or an exported artifact.")
    if not is_artifact(path):
        raise UsageError(f"{path} is a folder without a manifest.json; expected an artifact.")
    artifact = Artifact.open(path)
    if artifact.manifest["kind"] == "network":
        raise UsageError(f"{path} is a network. Export it first: edgekd export {path} --onnx")
    return artifact.model_file


def input_of(path: Path) -> dict[str, Any] | None:
    """How an artifact takes its images; None of a plain file.

    Raises:
        ArtifactError: its manifest does not say it.
    """
    if not path.is_dir():
        return None
    section = dict(read_manifest(path).get("input") or {})
    missing = [name for name in (*TAKEN, "mean", "std") if name not in section]
    if missing:
        raise ArtifactError(
            f"the manifest of {path} does not say how its images are made: input has no "
            f"{missing[0]}. Make the artifact again."
        )
    return section


def _settled(policy: Policy, file: Path) -> Policy:
    """The policy for a model's file: engines run in TensorRT and nowhere else.

    Raises:
        UsageError: another runtime was asked for by name, or a knob or a clock that the runtime
            does not have.
    """
    settled = policy
    if file.suffix == ENGINE and policy.runtime != "trt":
        if policy.runtime != Policy.runtime:
            raise UsageError(
                f"{file} is a TensorRT engine, which {policy.runtime} cannot run. Measure the ONNX "
                f"file instead (edgekd export --onnx), or leave --runtime {policy.runtime} out."
            )
        own = policy.provider == PROVIDERS[policy.runtime]
        settled = replace(policy, runtime="trt", provider="" if own else policy.provider)
    if settled.clock == "compute" and settled.runtime != "trt":
        raise UsageError(
            f"the clock compute reads a GPU's own events, and {file} is run by {settled.runtime}, "
            "which has none. Use --clock inference, or --runtime trt on a device with TensorRT."
        )
    return settled
