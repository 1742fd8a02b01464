"""Profiling: models on a device, timed against each other, into records that can be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd import records
from edgekd.devices import AGENT, Device, Event, address, ship
from edgekd.errors import DeviceError, UsageError, reason
from edgekd.files import sha256
from edgekd.profiling.pictures import decoded_photos, encoded_photos
from edgekd.profiling.policy import CLOCKS, PROVIDERS, Policy
from edgekd.records import beside
from edgekd.scratch import temporary

__all__ = ["CLOCKS", "PROVIDERS", "Policy", "called", "profile"]

DECODING = {"size": list, "interpolation": str, "crop_pct": float}
"""What the device needs to know to decode an image itself, for the clock ``end_to_end``."""


def profile(
    models: Sequence[Path],
    device: Device,
    policy: Policy,
    *,
    images: Path | None = None,
    targets: Path | None = None,
    encoded: Path | None = None,
    preprocess: Mapping[str, Any] | None = None,
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
        encoded: a zip of encoded images, for the clock ``end_to_end``; without one the two
            photographs of scikit-learn's.
        preprocess: how the models take images, as far as they do not say so themselves: ``mean``
            and ``std`` for those that take float; ``size``, ``interpolation`` and ``crop_pct``
            for the clock ``end_to_end``.
        on_event: called with the agent's events (``progress``, ``samples``: raw runs in order)
            and then, for each model, with ``found``: its ``predictions`` for the images and its
            ``answers``, the logits for the first image of each input that was timed.

    Returns:
        A record for each model, then one with the key ``comparison`` for each but the first.

    Raises:
        UsageError: files that are not there or do not fit together.
        DeviceError: the device or the runtime on it refused.
    """
    names = called(models)
    truth = _check_data(images, targets)
    with temporary() as folder:
        shown = _shown(folder, policy, images, targets, encoded)
        sent = {key: address(path) for key, path in shown.items()}
        hashes = [_hash(path) for path in models]  # now: they may be made again meanwhile
        places = [address(path, *beside(path)) for path in models]
        files = _model_files(models, places) | {sent[key]: path for key, path in shown.items()}
        job = {
            "agent": AGENT,
            "task": "profile",
            "runtime": policy.runtime,
            "policy": asdict(policy),
            "models": [{"name": n, "path": p} for n, p in zip(names, places, strict=True)],
            "preprocess": _preprocess(preprocess),
            **sent,
        }
        found = ship(device, job, files, policy.limit_s(len(models)), on_event)
    _check_answer(found, device.name, len(models), images)
    _report(found, on_event)
    made = _records(found, models, device.name, policy, truth)
    for record, measured in zip(made, hashes, strict=False):  # comparisons follow
        record["artifact"]["sha256"] = measured
    return made


def _check_answer(found: Mapping[str, Any], device: str, models: int, images: Path | None) -> None:
    """See that as much was answered as was asked for."""
    asked = {"models": models, "comparisons": max(0, models - 1)}
    counts: list[tuple[str, int | None, int | None]]
    counts = [(key, len(found[key]), count) for key, count in asked.items()]
    shown = None if images is None else len(_array(images))
    for one in found["models"]:
        said = one["accuracy"]
        counts.append(("predictions", len(said["predictions"]) if said else None, shown))
    for what, there, expected in counts:
        if there != expected:
            raise DeviceError(
                f"{device}: its agent answered with {there} {what}; expected {expected}. What "
                "answers there is not edgekd's agent, or is broken: edgekd device doctor looks "
                "closer."
            )


def _records(
    found: Mapping[str, Any],
    models: Sequence[Path],
    device: str,
    policy: Policy,
    truth: Sequence[int] | None,
) -> list[dict[str, Any]]:
    head = records.head()
    made = [
        records.measured(path, one, found, device, asdict(policy), head)
        | {"accuracy": records.accuracy(one["accuracy"], truth)}
        for path, one in zip(models, found["models"], strict=True)
    ]
    return made + [head | {"comparison": compared} for compared in found["comparisons"]]


def called(models: Sequence[Path]) -> list[str]:
    """What models are called: the file, or its folder where all files are ``model.onnx``.

    Raises:
        UsageError: none, or a file that is not there.
    """
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


def _hash(path: Path) -> str:
    """Of a model's file, before it is sent.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}. Expected a model's file that you may read."
        ) from error


def _shown(
    folder: Path, policy: Policy, images: Path | None, targets: Path | None, encoded: Path | None
) -> dict[str, Path]:
    """The files of inputs; they are named by their content and stay on the device, as models do."""
    shown = {"images": images, "targets": targets}
    if policy.clock == "end_to_end":
        shown["encoded"] = encoded or encoded_photos(folder / "photos.zip")
    if images is None and policy.input == "photos":
        shown["photos"] = decoded_photos(folder / "photos.npy")
    return {key: path for key, path in shown.items() if path is not None}


def _report(found: Mapping[str, Any], on_event: Callable[[Event], None] | None) -> None:
    """What each model said, image by image, for those who compare it with another's."""
    for index, one in enumerate(found["models"]):
        if on_event is not None:
            said = one["accuracy"]
            event = {"predictions": said and said["predictions"], "answers": one["answers"]}
            on_event({"event": "found", "model": index, **event})


def _model_files(models: Sequence[Path], places: Sequence[str]) -> dict[str, Path]:
    files = dict(zip(places, models, strict=True))
    for path, place in zip(models, places, strict=True):
        files |= {f"{place.partition('/')[0]}/{each.name}": each for each in beside(path)}
    return files


def _preprocess(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the agent is told; numbers that came from elsewhere are made plain."""
    if given is None:
        return None
    normal = {"mean", "std"}
    missing = normal - set(given)
    if missing and missing != normal:
        raise UsageError(f"the preprocessing has no {min(missing)}; expected mean and std.")
    told: dict[str, Any] = {
        key: [float(value) for value in given[key]] for key in ("mean", "std") if key in given
    }
    return told | {key: kind(given[key]) for key, kind in DECODING.items() if key in given}


def _check_data(images: Path | None, targets: Path | None) -> list[int] | None:
    """The true classes, once there were found to be as many as images."""
    if images is None:
        if targets is not None:
            raise UsageError("classes were given without images. Give the images they belong to.")
        return None
    counts = {images: len(_array(images))}
    truth = None
    if targets is not None:
        truth = [int(value) for value in _array(targets)]
        counts[targets] = len(truth)
    if len(set(counts.values())) > 1 or 0 in counts.values():
        found = ", ".join(f"{count} in {path}" for path, count in counts.items())
        raise UsageError(f"expected as many of each, in the same order, and found {found}.")
    return truth


def _array(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not a .npy array: {reason(error)}. Write it with np.save."
        ) from error
