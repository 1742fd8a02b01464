"""Measure models on a device: latency on real images, accuracy on the test images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact, is_artifact, read_manifest
from edgekd.devices import reach
from edgekd.errors import UsageError
from edgekd.files import check_folder, write_json, write_text
from edgekd.profiling import PROVIDERS, Policy, profile
from edgekd.recipe import Data
from edgekd.records import ENGINE, sample_lines
from edgekd.watching import Silent, Watch


@dataclass(frozen=True)
class Truth:
    """What accuracy is measured on."""

    data: Data
    reference: Sequence[int] | None = None
    """Classes the float network behind the first model chose for the same images."""


def measure(
    models: Sequence[Path],
    policy: Policy,
    device: str = "local",
    truth: Truth | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
) -> list[dict[str, Any]]:
    """Profile artifacts or plain ``.onnx`` files, interleaved, and keep what was measured.

    Engines run in TensorRT whatever the policy's runtime is, unless that is another one by name.

    Args:
        models: exported folders, or files. Those that run in the same runtime and take images made
            in the same way are timed in turn and compared; others one after the other.
        policy: how to measure.
        device: how to reach it; see :func:`edgekd.devices.reach`.
        truth: the images to measure accuracy on; ``None`` measures none.
        out: ``profile.json`` is written here, and the raw samples beside it as JSON lines.
        watch: told the stages.

    Returns:
        The records of :func:`edgekd.profiling.profile`.
    """
    if out is not None:
        _check_file(out)
    files = {path: model_file(path) for path in models}
    runtimes = {path: _settled(policy, file) for path, file in files.items()}
    reached = reach(device)
    heard = _Heard(watch or Silent(), policy.max_seconds)
    records: list[dict[str, Any]] = []
    for together in _groups(models, runtimes):
        with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
            given = _arrays(Path(folder), together, truth) if truth is not None else {}
            these = [files[path] for path in together]
            records += profile(these, reached, runtimes[together[0]], on_event=heard, **given)
            heard.finished()
        truth = None if truth is None else replace(truth, reference=None)
    if out is not None:
        runs = (run for event in heard.samples for run in sample_lines(event))
        write_json(out, records)
        write_text(out.with_suffix(".samples.jsonl"), "".join(f"{json.dumps(r)}\n" for r in runs))
    return records


def model_file(path: Path) -> Path:
    """The file to run: the path itself, or the model of a verified artifact."""
    if not path.exists():
        raise UsageError(f"there is no {path}; expected an .onnx file or an exported artifact.")
    if not path.is_dir():
        return path
    if not is_artifact(path):
        raise UsageError(f"{path} is a folder without a manifest.json; expected an artifact.")
    artifact = Artifact.open(path)
    if artifact.manifest["kind"] == "network":
        raise UsageError(f"{path} is a network. Export it first: edgekd export {path} --onnx")
    return artifact.model_file


def _check_file(out: Path) -> None:
    """Before half a minute is spent, refuse a place for the result where it cannot be written."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Expected a file, such as --output profile.json.")
    check_folder(out.parent)


def _settled(policy: Policy, file: Path) -> Policy:
    """The policy for a model's file: engines run in TensorRT and nowhere else.

    Raises:
        UsageError: another runtime was asked for by name, or a knob TensorRT does not have.
    """
    if file.suffix != ENGINE or policy.runtime == "trt":
        return policy
    if policy.runtime != Policy.runtime:
        raise UsageError(
            f"{file} is a TensorRT engine, which {policy.runtime} cannot run. Measure the ONNX "
            f"file instead (edgekd export --onnx), or leave --runtime {policy.runtime} out."
        )
    own = policy.provider == PROVIDERS[policy.runtime]
    return replace(policy, runtime="trt", provider="" if own else policy.provider)


def _groups(models: Sequence[Path], runtimes: Mapping[Path, Policy]) -> list[list[Path]]:
    """Group models by runtime, and by size and cut of their images; plain files go with the first.

    A group is one job of the agent's, and a job has one runtime.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in models:
        key = next((first for first, _ in groups), "")
        if path.is_dir() and is_artifact(path):
            section = read_manifest(path)["input"]
            key = json.dumps([section[name] for name in ("size", "interpolation", "crop_pct")])
        groups.setdefault((key, runtimes[path].runtime), []).append(path)
    return list(groups.values())


def _arrays(folder: Path, models: Sequence[Path], truth: Truth) -> dict[str, Any]:
    """Decode the test images once, as the first model expects them, for the device to read."""
    import numpy as np

    from edgekd.loading import check_labels, open_splits
    from edgekd.loading.decode import decode
    from edgekd.preprocess import Preprocess

    model = models[0]
    if not model.is_dir():
        raise UsageError(
            f"{model} does not say how its images are made; give the artifact's folder to measure "
            "its accuracy, or leave --data out."
        )
    splits = open_splits(truth.data)
    for path in (path for path in models if path.is_dir()):
        check_labels(splits, Artifact.open(path).manifest["labels"], str(path))
    section: Mapping[str, Any] = Artifact.open(model).manifest["input"]
    test = decode(splits.test, Preprocess.from_dict(section))
    np.save(folder / "images.npy", test.pixels)
    np.save(folder / "targets.npy", test.targets)
    return {
        "images": folder / "images.npy",
        "targets": folder / "targets.npy",
        "reference": truth.reference,
    }


class _Heard:
    """Pass the agent's progress on, and keep its raw samples."""

    def __init__(self, watch: Watch, max_seconds: float) -> None:
        self._watch, self._seconds = watch, max(1, round(max_seconds))
        self.samples: list[dict[str, Any]] = []
        self._medians = ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "samples":
            self.samples.append(dict(event))
        elif event["event"] == "note":
            self._watch.say(str(event["text"]))
        elif event["event"] == "progress" and event["step"] == "timing":
            done = min(round(event["seconds"]), self._seconds - 1)
            medians = ", ".join(f"{ms:.3g} ms" for ms in event["median_ms"].values())
            self._medians = f"median {medians}"
            self._watch.progress("profile", done, self._seconds, self._medians)
        elif event["event"] == "progress" and event["step"] == "accuracy":
            self._watch.progress("accuracy", event["done"], event["of"], event["model"])

    def finished(self) -> None:
        """A measurement that knows enough ends before its time is up."""
        self._watch.progress("profile", self._seconds, self._seconds, self._medians)
