"""Measure models on a device: latency on real images, accuracy on the test images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import plugins
from edgekd.artifact import Artifact, is_artifact
from edgekd.errors import UsageError
from edgekd.files import write_json, write_text
from edgekd.profiling import Policy, profile
from edgekd.recipe import Data
from edgekd.watching import Silent, Watch


@dataclass(frozen=True)
class Truth:
    """What accuracy is measured on."""

    data: Data
    reference: Sequence[int] | None = None
    """Classes the float network chose for the same images, for a paired comparison."""


def measure(
    models: Sequence[Path],
    policy: Policy,
    device: str = "local",
    truth: Truth | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
) -> list[dict[str, Any]]:
    """Profile artifacts or plain ``.onnx`` files, interleaved, and keep what was measured.

    Args:
        models: folders of kind ``onnx``, or files.
        policy: how to measure.
        device: name of a transport.
        truth: the images to measure accuracy on; ``None`` measures none.
        out: ``profile.json`` is written here, and the raw samples beside it as JSON lines.
        watch: told the stages.

    Returns:
        The records of :func:`edgekd.profiling.profile`.
    """
    files = [model_file(path) for path in models]
    heard = _Heard(watch or Silent())
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        given = _arrays(Path(folder), models[0], truth) if truth is not None else {}
        records = profile(files, plugins.load("device", device)(), policy, on_event=heard, **given)
    if out is not None:
        write_json(out, records)
        lines = "".join(json.dumps(event) + "\n" for event in heard.samples)
        write_text(out.with_suffix(".samples.jsonl"), lines)
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
    if artifact.manifest["kind"] != "onnx":
        raise UsageError(f"{path} is a network. Export it first: edgekd export {path} --onnx")
    return artifact.model_file


def _arrays(folder: Path, model: Path, truth: Truth) -> dict[str, Any]:
    """Decode the test images once, as the first model expects them, for the device to read."""
    import numpy as np

    from edgekd.loading import open_splits
    from edgekd.loading.decode import decode
    from edgekd.preprocess import Preprocess

    if not model.is_dir():
        raise UsageError(
            f"{model} does not say how its images are made; give the artifact's folder to measure "
            "its accuracy, or leave --data out."
        )
    section: Mapping[str, Any] = Artifact.open(model).manifest["input"]
    test = decode(open_splits(truth.data).test, Preprocess.from_dict(section))
    np.save(folder / "images.npy", test.pixels)
    np.save(folder / "targets.npy", test.targets)
    return {
        "images": folder / "images.npy",
        "targets": folder / "targets.npy",
        "preprocess": section,
        "reference": truth.reference,
    }


class _Heard:
    """Pass the agent's progress on, and keep its raw samples."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.samples: list[dict[str, Any]] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "samples":
            self.samples.append(dict(event))
        elif event["event"] == "progress":
            done, total = int(event.get("done", 0)), int(event.get("total", 1))
            self._watch.progress("profile", done, total, str(event.get("stage", "")))
