"""ONNX: one file for ONNX Runtime, TensorRT and most others, the preprocessing inside.

The graph takes ``images`` (B, H, W, 3) uint8 RGB and returns ``logits`` (B, K). With
``float_input`` it takes ``input`` (B, 3, H, W) float32, normalised outside. The batch is dynamic.

Whatever is asked for, the float32 file comes first and is proved to be the network; fp16 and int8
are judged beside it on labelled images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from edgekd.data import Images
from edgekd.errors import AccuracyError, GateError, UsageError
from edgekd.export import Written
from edgekd.export._explaining.explain import explain
from edgekd.export._exporters import check_opset
from edgekd.export._graph import facts, move
from edgekd.export._halving.half import half_network
from edgekd.export._made import Made
from edgekd.export._names import MODEL, REJECTED
from edgekd.export._network import check_weights, parameters, reference, reparameterised
from edgekd.export._order import Order
from edgekd.export._parity import Logits
from edgekd.export._proof import sample
from edgekd.export._quantising.int8 import quantised
from edgekd.export._running import answers, run_file
from edgekd.export._verdict import Verdict, check_enough, judge
from edgekd.export._writing import Draft, input_section, write
from edgekd.models import Backbone

__all__ = ["write_onnx"]

HALF_DB = 20.0
"""Least signal to noise of an fp16 file: half floats have 11 bits, so usual are 50 to 65 dB."""
EXPLAINED = 32  # images are enough to see where an error begins


@dataclass(frozen=True)
class Task:
    """One network on its way into a file."""

    backbone: Backbone
    network: nn.Module
    """A copy in float32: what every file is compared with."""
    draft: Draft
    """Of the float32 file."""
    order: Order
    images: Images
    expected: Logits
    """What the float student answers to ``images``."""


def write_onnx(backbone: Backbone, folder: Path, order: Order) -> Written:
    """Write ``model.onnx``; see :class:`edgekd.export.Format`."""
    options, target = order.options, order.target
    opset = options.opset or target.opset
    check_opset(opset, target.opsets, target.name)
    if options.precision not in WRITERS:
        raise UsageError(
            f"precision {options.precision} is chosen by timing files on a device; here expected "
            f"one of {', '.join(WRITERS)}."
        )
    if options.precision != "fp32":
        check_enough(len(order.images), options.max_drop)
    network = reference(backbone.model)
    check_weights(network, backbone.name)
    images = order.images
    merged = reparameterised(network)
    draft = Draft(backbone, merged, network, opset, options.float_input)
    expected = order.answers
    if expected is None:
        expected = answers(network, backbone.preprocess, images.pixels)
    bad = int((~np.isfinite(expected)).any(axis=1).sum())
    if bad:
        raise GateError(
            f"{backbone.name} itself gives logits that are not finite on {bad} of {len(images)} "
            "validation images; no file can be made of it. Train it again, or look at its weights."
        )
    task = Task(backbone, network, draft, order, images, expected)
    with TemporaryDirectory(prefix=".float.", dir=folder) as private:
        floating = _write_float(task, Path(private))
        final = _reduced(task, floating, folder)
        section = {
            "format": "onnx",
            "precision_asked": options.precision,
            **final.record,
            "batch": "dynamic",
            "float_input": options.float_input,
            "parameters": {"before": parameters(network), "after": parameters(merged)},
        }
        if order.explain:
            section["explanation"] = _explained(task, final.file, floating.file)
        if final is floating:
            final = Made(move(floating.file, folder / MODEL), {})
    return Written("onnx", input_section(draft), section)


def _write_float(task: Task, folder: Path) -> Made:
    """The float32 file, which has to be the network to the last few bits."""
    backbone, network = task.backbone, task.network
    pixels = sample(task.images, task.order.options.samples, backbone.preprocess)
    rejected = folder / f"{MODEL}{REJECTED}"
    try:
        made = write(task.draft, folder, pixels)
    except GateError as error:
        kept = move(rejected, folder.parent / rejected.name)
        found = explain(network, backbone.preprocess, pixels[:EXPLAINED], kept)
        raise GateError(f"{error.bare} {found.sentence}".strip(), found.to_dict()) from error
    answered = run_file(made.file, backbone.preprocess, task.images.pixels)
    # it is held to its parity; with all answers the same, few images would still allow a drop
    verdict = _judged(task, answered, 1.0)
    if not verdict.passed:
        move(made.file, folder.parent / rejected.name)
        reasons = "; ".join(verdict.reasons)
        raise GateError(f"{backbone.name} as ONNX is not the same network any more: {reasons}.")
    return Made(made.file, {**made.record, "verdict": verdict.to_dict()})


def _reduced(task: Task, floating: Made, folder: Path) -> Made:
    """The file in the precision asked for."""
    try:
        return WRITERS[task.order.options.precision](task, floating, folder)
    except GateError as error:
        rejected = folder / f"{MODEL}{REJECTED}"
        if not rejected.is_file():  # it was refused before there was a file
            raise
        found = _explained(task, rejected, floating.file)
        raise error.told(f"{error.bare} {found['sentence']}".strip(), found) from error


def _float(task: Task, floating: Made, folder: Path) -> Made:
    return floating


def _half(task: Task, floating: Made, folder: Path) -> Made:
    """The half network, written by the same exporters and proved in the same way."""
    preprocess, options = task.backbone.preprocess, task.order.options
    pixels = sample(task.images, options.samples, preprocess)
    halved, scan = half_network(task.draft.graph, preprocess, pixels)
    draft = replace(task.draft, graph=halved, precision="fp16", least_db=HALF_DB)
    made = write(draft, folder, pixels)
    answered = run_file(made.file, preprocess, task.images.pixels)
    verdict = _judged(task, answered, options.max_drop)
    if not verdict.passed:
        move(made.file, folder / f"{MODEL}{REJECTED}")
        raise AccuracyError(
            f"{task.backbone.name} in fp16 is refused: {'; '.join(verdict.reasons)}."
        )
    return Made(made.file, {**made.record, "half": scan, "verdict": verdict.to_dict()})


def _int8(task: Task, floating: Made, folder: Path) -> Made:
    """Quantised from the float32 file, whose proof stays in the record."""
    preprocess = task.backbone.preprocess
    made = quantised(floating.file, folder, task.order, preprocess, task.expected)
    return Made(made.file, {**floating.record, **facts(made.file), **made.record})


WRITERS: Mapping[str, Callable[[Task, Made, Path], Made]] = {
    "fp32": _float,
    "fp16": _half,
    "int8": _int8,
}


def _judged(task: Task, found: Logits, max_drop: float) -> Verdict:
    return judge(task.expected, found, task.images.targets.tolist(), max_drop)


def _explained(task: Task, file: Path, float_file: Path) -> dict[str, Any]:
    """Where on the way from the network to the file its error appears."""
    preprocess = task.backbone.preprocess
    pixels = sample(task.images, EXPLAINED, preprocess)
    return explain(task.network, preprocess, pixels, file, float_file).to_dict()
