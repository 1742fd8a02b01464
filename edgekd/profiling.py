"""Profiling: models on a device, timed against each other, into records that can be repeated."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path
from typing import Any

from edgekd import plugins, records
from edgekd.devices import AGENT, Device, Event, address, ship, unshared
from edgekd.errors import UnknownNameError, UsageError
from edgekd.records import beside

PROVIDERS = {"ort": "CPUExecutionProvider", "openvino": "CPU", "trt": "GPU"}


@dataclass(frozen=True)
class Policy:
    """How to measure; every field is in the record."""

    batch_size: int = 1
    threads: int = 0
    """0: as many as the device has physical cores."""
    spinning: bool = False
    """Whether idle threads burn the CPU to wake up sooner."""
    provider: str = ""
    """Of ONNX Runtime, which has several; empty is the runtime's own (ONNX Runtime's CPU)."""
    runtime: str = "ort"
    input: str = "photos"
    """``photos`` (the caller's images where given), or ``random`` for whatever a model takes."""
    image_size: tuple[int, int] | None = None
    """Height and width, for models that leave them free."""
    warmup_runs: int = 10
    warmup_seconds: float = 1.0
    blocks: int = 5
    block_runs: int = 30
    block_seconds: float = 0.3
    """At least so long a block takes, and so many runs it has."""
    min_seconds: float = 3.0
    max_seconds: float = 30.0
    """After these a measurement ends, known well enough or not."""
    layers: bool = False
    """Whether to run the runtime's own profiler as well, apart from the timing."""
    seed: int = 0
    timeout_s: float = 3600.0
    """For the whole job, accuracy included."""

    def __post_init__(self) -> None:
        self._settle_runtime()
        if self.input not in ("photos", "random"):
            raise UsageError(f"the input is {self.input!r}; expected photos or random.")
        low = [name for name in ("batch_size", "blocks", "block_runs") if getattr(self, name) < 1]
        low += [name for name in ("threads", "min_seconds", "seed") if getattr(self, name) < 0]
        low += [name for name in ("max_seconds", "timeout_s") if getattr(self, name) <= 0]
        if low:
            raise UsageError(f"{low[0]} is {getattr(self, low[0])}, which is too low. Raise it.")

    def _settle_runtime(self) -> None:
        """Fill in the provider, and refuse knobs that only ONNX Runtime has."""
        if self.runtime not in PROVIDERS:
            raise UnknownNameError("runtime", self.runtime, plugins.summaries("runtime"))
        own = PROVIDERS[self.runtime]
        provider = self.provider or own
        if self.runtime != "ort" and (provider != own or self.spinning):
            knob = "--spinning" if self.spinning else "--provider"
            raise UsageError(
                f"{knob} is a knob of ONNX Runtime's and {self.runtime} has none like it. "
                "Leave it out, or use --runtime ort."
            )
        object.__setattr__(self, "provider", provider)  # frozen: this is its construction


def profile(
    models: Sequence[Path],
    device: Device,
    policy: Policy,
    *,
    images: Path | None = None,
    targets: Path | None = None,
    preprocess: Mapping[str, Any] | None = None,
    reference: Sequence[int] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure models on a device; several are timed in turn and compared with the first.

    Args:
        models: ONNX files, or engines with what lies beside them.
        device: where they run.
        policy: how.
        images: a ``.npy`` of decoded images, uint8 (N, H, W, 3): real input for the timing, and
            the accuracy is measured on all of them.
        targets: a ``.npy`` of their classes, int64 (N,).
        preprocess: mean and std for models that take float; else from the model's metadata.
        reference: the float network's predictions on the same images, for the first model.
        on_event: called with the agent's events (``progress``, ``samples``: raw runs in order)
            and with ``predictions`` of each model that was given images.

    Returns:
        A record for each model, then one with the key ``comparison`` for each but the first.

    Raises:
        UsageError: files that are not there or do not fit together.
        DeviceError: the device or the runtime on it refused.
    """
    names = _names(models)
    truth = _check_data(images, targets, reference)
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        photos = None
        if images is None and policy.input == "photos":
            photos = _photos(Path(folder) / "photos.npy")
        places = [address(path, *beside(path)) for path in models]
        files = _model_files(models, places)
        data = {"photos": photos, "images": images, "targets": targets}
        sent = {key: unshared(path) for key, path in data.items() if path is not None}
        passing = {sent[key]: path for key, path in data.items() if path is not None}
        job = {
            "agent": AGENT,
            "runtime": policy.runtime,
            "policy": asdict(policy),
            "models": [{"name": n, "path": p} for n, p in zip(names, places, strict=True)],
            "preprocess": _mean_std(preprocess),
            **sent,
        }
        found = ship(device, job, files, policy.timeout_s, on_event, passing)
    _report_predictions(found, on_event)
    head = records.head()
    made = [
        records.measured(path, one, found, device.name, asdict(policy), head)
        | {"accuracy": records.accuracy(one["accuracy"], truth, None if i else reference)}
        for i, (path, one) in enumerate(zip(models, found["models"], strict=True))
    ]
    return made + [head | {"comparison": compared} for compared in found["comparisons"]]


def _report_predictions(found: Mapping[str, Any], on_event: Callable[[Event], None] | None) -> None:
    for index, one in enumerate(found["models"]):
        if on_event is not None and one["accuracy"] is not None:
            answers = one["accuracy"]["predictions"]
            on_event({"event": "predictions", "model": index, "predictions": answers})


def _names(models: Sequence[Path]) -> list[str]:
    """What the models are called: the file, or its folder where all files are ``model.onnx``."""
    if not models:
        raise UsageError("no model to measure. Give at least one .onnx file or engine.")
    for path in models:
        if not path.is_file():
            raise UsageError(f"there is no file {path}. Give the path of an exported model.")
    short = [path.name for path in models]
    if len(set(short)) < len(short):
        short = [f"{path.resolve().parent.name}/{path.name}" for path in models]
    seen: Counter[str] = Counter()
    names = []
    for name in short:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _model_files(models: Sequence[Path], places: Sequence[str]) -> dict[str, Path]:
    files = dict(zip(places, models, strict=True))
    for path, place in zip(models, places, strict=True):
        files |= {f"{place.partition('/')[0]}/{each.name}": each for each in beside(path)}
    return files


def _mean_std(preprocess: Mapping[str, Any] | None) -> dict[str, list[float]] | None:
    if preprocess is None:
        return None
    missing = {"mean", "std"} - set(preprocess)
    if missing:
        raise UsageError(f"the preprocessing has no {min(missing)}; expected mean and std.")
    return {key: [float(value) for value in preprocess[key]] for key in ("mean", "std")}


def _check_data(
    images: Path | None, targets: Path | None, reference: Sequence[int] | None
) -> list[int] | None:
    """The true classes, once everything was found to have the same length."""
    if images is None:
        if targets is not None or reference is not None:
            raise UsageError("classes were given without images. Give the images they belong to.")
        return None
    counts = {images: len(_array(images))}
    truth = None
    if targets is not None:
        truth = [int(value) for value in _array(targets)]
        counts[targets] = len(truth)
    if reference is not None:
        counts[Path("the reference predictions")] = len(reference)
    if len(set(counts.values())) > 1 or 0 in counts.values():
        found = ", ".join(f"{count} in {path}" for path, count in counts.items())
        raise UsageError(f"expected as many of each, in the same order, and found {found}.")
    return truth


def _array(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a .npy array: {error}. Write it with np.save.") from error


def _photos(target: Path) -> Path | None:
    """The two photographs that come with scikit-learn, found without importing it."""
    spec = util.find_spec("sklearn")
    folder = Path(spec.origin).parent / "datasets/images" if spec and spec.origin else None
    if folder is None or not (folder / "china.jpg").is_file():
        return None
    from PIL import Image

    pixels, shape = b"", (0, 0)
    for name in ("china.jpg", "flower.jpg"):
        with Image.open(folder / name) as image:
            pixels += image.convert("RGB").tobytes()
            shape = image.height, image.width
    target.write_bytes(_npy_header((2, *shape, 3)) + pixels)
    return target


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """What ``np.save`` writes before bytes; importing numpy for it would double the start-up."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(64 * math.ceil((len(text) + 11) / 64) - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
