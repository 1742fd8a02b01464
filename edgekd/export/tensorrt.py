"""TensorRT: an engine built on the device it runs on, and judged by what it answers there.

The device says which TensorRT it has; the ONNX file is written for that release, goes there, and
comes back as ``model.plan`` with its logits for the validation images. ``model.onnx`` stays beside
it: where the engine does not fit, the device builds it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgekd.agent.tensorrt.inspector import fits
from edgekd.agent.tensorrt.spec import SHARE
from edgekd.devices import AGENT, Device, Event, address, discard, reach, ship, unshared
from edgekd.errors import AccuracyError, DeviceError
from edgekd.export import Written
from edgekd.export._names import REJECTED
from edgekd.export._network import reference
from edgekd.export._order import Order
from edgekd.export._parity import Logits
from edgekd.export._releases import Release, release_of
from edgekd.export._running import answers
from edgekd.export._verdict import Verdict, judge
from edgekd.export.onnx import write_onnx
from edgekd.models import Backbone
from edgekd.records import beside
from edgekd.scratch import temporary

__all__ = ["write_tensorrt"]

PLAN = "model.plan"
SIDE = "model.plan.json"
TIMEOUT = 3600.0
"""Seconds for one engine; a Jetson needs up to half an hour for a big network."""
PROBE_TIMEOUT = 120.0
MOST_BESIDE = 2**24
"""Bytes of what lies beside an engine, and of the head of a file of logits."""
FP32_DB = 60.0
"""Least signal to noise of an fp32 engine. GPUs add up in another order, which costs little; TF32,
which is switched off, would be near this bound."""


@dataclass(frozen=True)
class Site:
    """A device that can build engines, and what it is."""

    device: Device
    release: Release
    found: Event


def write_tensorrt(backbone: Backbone, folder: Path, order: Order) -> Written:
    """Write ``model.plan`` and ``model.onnx``; see :class:`edgekd.export.Format`.

    Raises:
        UnknownNameError: the target's name is a profile's and not a device's; engines need one.
        DeviceError: no TensorRT, no GPU, or the engine is not in the precision asked for.
        AccuracyError: the engine loses too much; it is left as ``model.plan.rejected``.
    """
    site = _site(order.target.name)
    precision, release = order.options.precision, site.release
    target = release.target(order.target)
    # 8.x has no typed networks: fp16 is a permission there, and the graph stays float32
    graph = precision if release.typed or precision == "int8" else "fp32"
    options = replace(order.options, precision=graph)
    order.say(f"{site.device.name} has TensorRT {release.version}: opset {target.opset}, {graph}")
    written = write_onnx(backbone, folder, replace(order, options=options, target=target))
    with temporary() as private:
        shape = len(order.images.targets), len(backbone.labels)
        built = _build(site, folder / "model.onnx", written, order, private, shape[1])
        logits = _logits(site.device, private / "logits.npy", shape)
    rungs = (written.export.get("int8") or {}).get("rungs") or order.attempts
    # the graph and its engine both have to pass, so that the engine is no further attempt
    verdict = _judged(backbone, logits, order, max(1, len(rungs)))
    if not verdict.passed:
        (folder / PLAN).rename(folder / f"{PLAN}{REJECTED}")
        raise AccuracyError(
            f"{backbone.name} as a TensorRT engine in {precision} is refused: "
            f"{'; '.join(verdict.reasons)}.",
            attempts=rungs,
        )
    section = {
        **written.export,
        "format": "tensorrt",
        "precision_asked": precision,
        "precision": built["inspection"]["label"],
        "graph": {key: written.export.get(key) for key in ("precision", "bytes", "verdict")},
        "bytes": (folder / PLAN).stat().st_size,
        "verdict": verdict.to_dict(),
        "engine": _engine(built),
    }
    return Written("tensorrt", written.input, section)


def _site(name: str) -> Site:
    """The device of a name, once it was found to have a GPU and TensorRT: bindings or trtexec."""
    device = reach(name)
    found = ship(device, {"agent": AGENT, "task": "describe"}, {}, PROBE_TIMEOUT)
    version = (found.get("tensorrt") or {}).get("version")
    if found.get("error") or version is None:
        raise DeviceError(f"{device.name}: {found.get('error') or 'TensorRT was not found.'}")
    return Site(device, release_of(str(version)), found)


def _build(
    site: Site, onnx: Path, written: Written, order: Order, private: Path, classes: int
) -> Event:
    """Have the device build the engine and answer the images; fetch both."""
    images = private / "images.npy"
    np.save(images, order.images.pixels)
    companions = beside(onnx)
    place = address(onnx, *companions)
    sent = unshared(images)
    files = {place: onnx}
    files |= {f"{place.partition('/')[0]}/{each.name}": each for each in companions}
    job = {
        "agent": AGENT,
        "task": "build",
        "runtime": "trt",
        "build": _wish(order, written.input, site.release, place),
        "images": sent,
        "metadata": _metadata(onnx),
        "preprocess": {key: list(written.input[key]) for key in ("mean", "std")},
        "dtype": written.input["dtype"],
    }

    def on_event(event: Event) -> None:
        if event["event"] == "note":
            order.say(str(event["text"]))

    built = ship(site.device, job, files, TIMEOUT, on_event, {sent: images})
    if not fits(built["inspection"], order.options.precision, SHARE):  # the agent saw to it
        raise DeviceError(
            f"{site.device.name}: {order.options.precision} was asked for and the engine is "
            f"{built['inspection']['label']}. Its agent should have refused it: report this."
        )
    engine, logits = (_named(site.device, built, key) for key in ("engine", "logits"))
    site.device.pull(engine, onnx.with_name(PLAN), int(built["bytes"]))
    site.device.pull(f"{engine}.json", onnx.with_name(SIDE), MOST_BESIDE)
    most = MOST_BESIDE + 4 * len(order.images.targets) * classes
    site.device.pull(logits, private / "logits.npy", most)
    discard(site.device, [logits])
    return built


def _logits(device: Device, file: Path, shape: tuple[int, int]) -> Logits:
    """The engine's answers (N, K); mapped, as a head may claim more than there is."""
    try:
        found: Logits = np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, MemoryError) as error:
        raise DeviceError(f"{device.name}: its answers are no .npy array: {error}.") from error
    if found.shape != shape or found.dtype != np.float32:
        raise DeviceError(
            f"{device.name}: its answers are {found.dtype} {found.shape}; expected float32 {shape}."
        )
    return found


def _named(device: Device, built: Event, key: str) -> str:
    """A file the agent named; what comes from a device is not trusted to stay in its folder."""
    name = built.get(key)
    path = PurePosixPath(name) if isinstance(name, str) else None
    if path is None or not path.parts or path.is_absolute() or ".." in path.parts:
        raise DeviceError(
            f"{device.name}: its agent named {name!r} as the {key}; expected a file in its own "
            "folder. Try again, and report this if it stays."
        )
    return str(path)


def _wish(order: Order, section: Mapping[str, Any], release: Release, place: str) -> dict[str, Any]:
    """The job's ``build`` section: edgekd.agent.tensorrt.spec."""
    options = order.options
    height, width = section["size"]
    name, sizes = (
        ("input", [3, height, width]) if options.float_input else ("images", [height, width, 3])
    )
    best, most = options.batches
    return {
        "onnx": place,
        "precision": options.precision,
        "inputs": {name: sizes},
        "batch": [1, best, most],
        "workspace_mib": options.workspace_mb,
        "dla_core": options.dla_core if options.dla_core >= 0 else None,
        "typed": release.typed,
        "share": SHARE,
    }


def _metadata(file: Path) -> dict[str, str]:
    """What the ONNX file says of itself; an engine has no room for it."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def _judged(backbone: Backbone, logits: Logits, order: Order, attempt: int) -> Verdict:
    """The engine's answers beside the float network's."""
    expected = order.answers
    if expected is None:
        network = reference(backbone.model)
        expected = answers(network, backbone.preprocess, order.images.pixels)
    exact = order.options.precision == "fp32"
    # fp32 is held to its signal: with few images, even equal answers would allow for a drop
    allowed = 1.0 if exact else order.options.max_drop
    verdict = judge(expected, logits, order.images.targets.tolist(), allowed, attempt)
    if exact and verdict.passed and verdict.snr_db < FP32_DB:
        reason = f"its logits are {verdict.snr_db:.1f} dB above their error; expected {FP32_DB:g}"
        return replace(verdict, reasons=(reason,))
    return verdict


def _engine(built: Event) -> dict[str, Any]:
    """The manifest's record of the engine; JSON keeps it comparable."""
    inspection = built["inspection"]
    record = {
        "key": built["key"],
        "maker": built["maker"],
        "typed": built["typed"],
        "label": inspection["label"],
        "shares": inspection["shares"],
        "counts": inspection["counts"],
        "layers": len(inspection["layers"]),
        "seconds": built["seconds"],
        "timing_cache": built["timing_cache"],
        "reused": not built["built"],
    }
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain
