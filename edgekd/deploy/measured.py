"""Measured: how a model was run when it was measured, which is how it is to run from then on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.errors import UsageError
from edgekd.structure import shown

ENGINES = ("onnxruntime", "openvino", "tensorrt")
"""Runtimes that a deployed folder has a program for."""
MOST_THREADS = 1024  # that a deployed folder takes
VERSION = re.compile(r"\d[A-Za-z0-9.!+_-]{0,60}")
"""Of a release, as pip takes it behind ``==``; it comes with artifacts, and those from others."""


@dataclass(frozen=True)
class Measured:
    """A runtime with its settings, and what was found."""

    runtime: str
    """One of :data:`ENGINES`."""
    version: str
    provider: str
    threads: int
    spinning: bool
    affinity: tuple[int, ...]
    """CPUs it was pinned to; empty where that was left to the system."""
    machine: str
    """What the device is: a kind of computer, and not the name or address it has with its owner."""
    found: str
    """The median with its interval, and the verdict."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """Read a record of ``edgekd profile``.

        Raises:
            UsageError: it is of a runtime that no deployed folder can have.
        """
        device, policy, runtime = record["device"], record["policy"], record["runtime"]
        _check_runtime(device["profile"], runtime)
        try:
            if not 0 <= int(policy["threads"]) <= MOST_THREADS:
                raise ValueError(f"{policy['threads']} threads")
            pinned = bool(record["evidence"]["asked"].get("affinity"))
            return cls(
                str(runtime["name"]),
                str(runtime["version"]).partition("+")[0],
                str(runtime["provider"]),
                int(policy["threads"]),
                bool(policy["spinning"]),
                tuple(policy["affinity"] or ()) if pinned else (),
                _machine(device, str(runtime["provider"])),
                _found(record),
            )
        except (KeyError, TypeError, ValueError) as error:
            wrong = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"the proof for {device['profile']} does not say how the model ran ({wrong}). "
                "Measure the artifact again with edgekd profile, or name another device's proof "
                "with --device."
            ) from error

    def check_for(self, kind: str, model_sha256: str, record: Mapping[str, Any]) -> None:
        """Refuse a measurement of something else than the file that is deployed.

        Args:
            kind: of the artifact, ``onnx`` or ``tensorrt``.
            model_sha256: of its model file.
            record: the measurement.

        Raises:
            UsageError: an engine ran that was built of the file, or built again.
        """
        engine = record["artifact"].get("engine")
        if self.runtime == "tensorrt" and kind == "onnx":
            raise UsageError(
                f"the proof for {record['device']['profile']} is of an engine that TensorRT built "
                "of model.onnx there, and this artifact does not hold it. Export the engine "
                "(edgekd export NETWORK --trt --device NAME), measure and deploy that; or name "
                "another device's proof with --device."
            )
        if engine is not None and engine.get("sha256") != model_sha256:
            raise UsageError(
                f"model.plan did not fit {record['device']['profile']}, where another engine was "
                f"built of its model.onnx ({engine.get('rebuilt')}). Export the engine on that "
                "device (edgekd export NETWORK --trt --device NAME), measure and deploy that."
            )


def _check_runtime(device: Any, runtime: Mapping[str, Any]) -> None:
    """Proofs come with artifacts, and artifacts from others."""
    name, version = str(runtime["name"]), str(runtime["version"])
    if name not in ENGINES or not VERSION.fullmatch(version):
        raise UsageError(
            f"the proof for {device} is of the runtime {shown(name)} in version {shown(version)}; "
            f"deploy knows {', '.join(ENGINES)}. Measure the artifact again with edgekd profile, "
            "or name another device's proof with --device."
        )


def _machine(device: Mapping[str, Any], provider: str) -> str:
    """What ran the model: a GPU only where that did."""
    chips = [device[key] for key in ("soc", "cpu")]
    if not provider.startswith("CPU"):
        chips.insert(0, device["gpu"])
    return str(next((chip for chip in chips if chip), "a device without a name"))


def _found(record: Mapping[str, Any]) -> str:
    """``median 0.31 ms [0.30, 0.31] a run of 1 picture, 2 threads, verdict stable``."""
    policy, median = record["policy"], record["timing"]["median"]
    batch, threads = policy["batch_size"], policy["threads"]
    span = ""
    if median["lo"] is not None and median["hi"] is not None:
        span = f" [{median['lo']:.3g}, {median['hi']:.3g}]"
    return (
        f"median {median['value']:.3g} ms{span} a run of {batch} picture{'s' * (batch != 1)}, "
        f"{threads} thread{'s' * (threads != 1)}, clock {policy['clock']}, "
        f"verdict {record['verdict']['state']}"
    )
