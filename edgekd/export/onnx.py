"""ONNX: one file for ONNX Runtime, TensorRT and most others, the preprocessing inside.

The graph takes ``images`` (B, H, W, 3) uint8 RGB and returns ``logits`` (B, K). With
``float_input`` it takes ``input`` (B, 3, H, W) float32, normalised outside. The batch is dynamic.

PyTorch's newer exporter is tried first and its older one second, and what counts is the proof: a
file that does not agree with the network on real images is refused, whoever wrote it.
"""

from __future__ import annotations

import errno
import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import edgekd
from edgekd.data import Images
from edgekd.errors import GateError, UsageError
from edgekd.export import REJECTED, Written
from edgekd.export._exporters import EXPORTERS, cause_of, reason_of
from edgekd.export._graph import facts, finish, opset_of
from edgekd.export._network import Baked, parameters, reference, reparameterised
from edgekd.export._opset import NATIVE
from edgekd.export._parity import Parity
from edgekd.export._proof import prove, sample
from edgekd.models import Backbone
from edgekd.preprocess import Preprocess
from edgekd.recipe import Export

__all__ = ["write_onnx"]

MODEL = "model.onnx"
FALLBACK = "%s: written by the %s exporter, because %s failed: %s"

log = logging.getLogger("edgekd.export")


@dataclass(frozen=True)
class Attempt:
    """What came of one exporter."""

    exporter: str
    file: Path
    parity: Parity | None = None
    """None where no file came of it."""
    reason: str = ""
    """Why it was not accepted."""


def write_onnx(backbone: Backbone, folder: Path, options: Export, images: Images) -> Written:
    """Write ``model.onnx``; see :class:`edgekd.export.Format`."""
    pixels = sample(images, options.samples, backbone.preprocess)
    network = reference(backbone.model)
    merged = reparameterised(network)
    refused: list[Attempt] = []
    for exporter in EXPORTERS:
        attempt = _attempt(exporter, backbone, merged, folder, options)
        if not attempt.reason:
            parity = prove(attempt.file, network, backbone.preprocess, pixels)
            attempt = Attempt(exporter, attempt.file, parity, "; ".join(parity.reasons))
        if attempt.parity and not attempt.reason:
            break
        refused.append(attempt)
    else:
        raise _refusal(backbone, folder, options, refused)
    for other in refused:
        other.file.unlink(missing_ok=True)
        log.warning(FALLBACK, backbone.name, exporter, other.exporter, other.reason)
    file = attempt.file.rename(folder / MODEL)
    section = {
        "format": "onnx",
        "exporter": attempt.exporter,
        "exporter_versions": {
            p: version(p) for p in ("torch", "onnx", "onnxscript", "onnxruntime")
        },
        "fallbacks": [{"exporter": o.exporter, "reason": o.reason} for o in refused],
        **facts(file),
        "batch": "dynamic",
        "float_input": options.float_input,
        "parameters": {"before": parameters(network), "after": parameters(merged)},
        "parity": attempt.parity.to_dict(),
    }
    return Written("onnx", _input(backbone.preprocess, options), section)


def _attempt(
    exporter: str, backbone: Backbone, merged: nn.Module, folder: Path, options: Export
) -> Attempt:
    """Let one exporter write its file, and read back that it is what was asked for."""
    file = folder / f"{exporter}.onnx"
    name, example, graph = _entry(merged, backbone.preprocess, options)
    try:
        EXPORTERS[exporter](graph, example, name, file, options.opset)
        found = opset_of(file)
        if found != options.opset:
            raise UsageError(f"it wrote opset {found}, asked was {options.opset}")
        finish(
            file,
            backbone.name,
            _description(backbone, options),
            _metadata(backbone, options, exporter),
        )
    except Exception as error:  # exporters raise anything; the next one may still do it
        file.unlink(missing_ok=True)
        cause = cause_of(error)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise cause from None  # the next one would find no more space
        return Attempt(exporter, file, reason=reason_of(error))
    return Attempt(exporter, file)


def _entry(
    merged: nn.Module, preprocess: Preprocess, options: Export
) -> tuple[str, Tensor, nn.Module]:
    """The graph input's name, an example of it, and the module that takes it."""
    height, width = preprocess.size
    if options.float_input:
        return "input", torch.zeros(2, 3, height, width), merged
    pixels = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    return "images", pixels, Baked(merged, preprocess).eval()


def _input(preprocess: Preprocess, options: Export) -> dict[str, Any]:
    """The ``input`` section of the manifest."""
    dtype, layout = ("float32", "NCHW") if options.float_input else ("uint8", "NHWC")
    return preprocess.to_dict() | {"dtype": dtype, "layout": layout}


def _metadata(backbone: Backbone, options: Export, exporter: str) -> dict[str, str]:
    """What the file says of itself, for those who have the file alone; lists are JSON."""
    values = {
        **_input(backbone.preprocess, options),
        "labels": list(backbone.labels),
        "parent": backbone.parent,
        "version": edgekd.__version__,
        "exporter": f"{exporter}, torch {version('torch')}",
    }
    return {
        f"edgekd.{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }


def _description(backbone: Backbone, options: Export) -> str:
    height, width = backbone.preprocess.size
    taken = (
        f"input (batch, 3, {height}, {width}) float32 RGB, normalised by edgekd.mean, .std"
        if options.float_input
        else f"images (batch, {height}, {width}, 3) uint8 RGB, normalised inside"
    )
    return (
        f"{backbone.name}, exported by edgekd {edgekd.__version__}. Takes {taken}. Returns logits "
        f"(batch, {len(backbone.labels)}) in the order of edgekd.labels."
    )


def _refusal(
    backbone: Backbone, folder: Path, options: Export, refused: list[Attempt]
) -> GateError | UsageError:
    """Say why no exporter was good enough; keep the first file there is, under another name."""
    reasons = " ".join(f"{a.exporter}: {a.reason.rstrip('.')}." for a in refused)
    written = [attempt for attempt in refused if attempt.parity]
    if not written:
        return UsageError(
            f"{backbone.name} cannot be written as ONNX with opset {options.opset}. {reasons} "
            f"Opset {NATIVE} works with the most networks: --opset {NATIVE}."
        )
    written[0].file.rename(folder / f"{MODEL}{REJECTED}")
    return GateError(
        f"{backbone.name} as ONNX is not the same network any more. {reasons} "
        "Do not deploy it; try another --opset, or report the network's name."
    )
