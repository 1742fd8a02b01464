"""Write a graph as an ONNX file with whichever exporter gives the same network.

PyTorch's newer exporter is tried first and its older one second, and what counts is the proof: a
file that does not agree with the network on real images is refused, whoever wrote it.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import edgekd
from edgekd.data import Pixels
from edgekd.errors import GateError, UsageError
from edgekd.export._exporters import EXPORTERS, Exporter, cause_of, reason_of
from edgekd.export._graph import discard, facts, finish, move, opset_of
from edgekd.export._made import Made
from edgekd.export._names import MODEL, REJECTED
from edgekd.export._network import Baked
from edgekd.export._opset import NATIVE
from edgekd.export._parity import FP32_DB, Parity
from edgekd.export._proof import prove
from edgekd.models import Backbone, weights
from edgekd.preprocess import Preprocess

__all__ = ["Draft", "Proof", "input_section", "write"]

FALLBACK = "%s: written by the %s exporter, because %s failed: %s"
log = logging.getLogger("edgekd.export")


@dataclass(frozen=True)
class Draft:
    """A graph to write."""

    backbone: Backbone
    """Whose names, labels and preprocessing the file carries."""
    graph: nn.Module
    """Normalised images (B, 3, H, W) float32 to logits (B, K) float32."""
    reference: nn.Module
    """What the file must equal."""
    opset: int
    float_input: bool = False
    precision: str = "fp32"
    least_db: float = FP32_DB
    """Signal to noise below which the file is refused."""


@dataclass(frozen=True)
class Attempt:
    """What came of one exporter."""

    exporter: str
    file: Path
    parity: Parity | None = None
    """None where no file came of it."""
    reason: str = ""
    """Why it was not accepted."""


class Proof(Protocol):
    """Compares a file with its network, as :func:`edgekd.export._proof.prove` does."""

    def __call__(
        self,
        file: Path,
        network: nn.Module,
        preprocess: Preprocess,
        pixels: Pixels,
        least_db: float,
    ) -> Parity: ...


def write(
    draft: Draft,
    folder: Path,
    pixels: Pixels,
    proof: Proof = prove,
    exporters: Mapping[str, Exporter] | None = None,
) -> Made:
    """Write ``model.onnx`` and prove it on real pixels (N, H, W, 3).

    Args:
        draft: the graph to write.
        folder: for the file.
        pixels: what it is proved on.
        proof: how.
        exporters: are tried in this order; PyTorch's two unless told.

    Raises:
        GateError: no exporter's file is the network; one is left as ``model.onnx.rejected``.
        UsageError: none could write a file.
    """
    name, refused = draft.backbone.name, []
    for exporter, export in (exporters or EXPORTERS).items():
        attempt = _attempt(exporter, export, draft, folder)
        if not attempt.reason:
            parity = proof(
                attempt.file, draft.reference, draft.backbone.preprocess, pixels, draft.least_db
            )
            attempt = Attempt(exporter, attempt.file, parity, "; ".join(parity.reasons))
        if attempt.parity and not attempt.reason:
            break
        refused.append(attempt)
    else:
        raise _refusal(draft, folder, refused)
    for other in refused:
        discard(other.file)
        log.warning(FALLBACK, name, exporter, other.exporter, other.reason)
    file = move(attempt.file, folder / MODEL)
    record = {
        "exporter": attempt.exporter,
        "exporter_versions": {
            p: version(p) for p in ("torch", "onnx", "onnxscript", "onnxruntime")
        },
        "fallbacks": [{"exporter": o.exporter, "reason": o.reason} for o in refused],
        **facts(file),
        "parity": attempt.parity.to_dict(),
    }
    return Made(file, record)


def input_section(draft: Draft) -> dict[str, Any]:
    """The ``input`` section of the manifest."""
    dtype, layout = ("float32", "NCHW") if draft.float_input else ("uint8", "NHWC")
    return draft.backbone.preprocess.to_dict() | {"dtype": dtype, "layout": layout}


def _attempt(exporter: str, export: Exporter, draft: Draft, folder: Path) -> Attempt:
    """Let one exporter write its file, and read back that it is what was asked for."""
    file = folder / f"{exporter}.onnx"
    name, example, graph = _entry(draft)
    try:
        export(graph, example, name, file, draft.opset)
        found = opset_of(file)
        if found != draft.opset:
            raise UsageError(f"it wrote opset {found}, asked was {draft.opset}")
        finish(file, draft.backbone.name, _description(draft), _metadata(draft, exporter))
    except Exception as error:  # exporters raise anything; the next one may still do it
        discard(file)
        cause = cause_of(error)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise cause from None  # the next one would find no more space
        return Attempt(exporter, file, reason=reason_of(error))
    return Attempt(exporter, file)


def _entry(draft: Draft) -> tuple[str, Tensor, nn.Module]:
    """The graph input's name, an example of it, and the module that takes it."""
    preprocess = draft.backbone.preprocess
    height, width = preprocess.size
    if draft.float_input:
        return "input", torch.zeros(2, 3, height, width), draft.graph
    pixels = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    return "images", pixels, Baked(draft.graph, preprocess).eval()


def _metadata(draft: Draft, exporter: str) -> dict[str, str]:
    """What the file says of itself, for those who have the file alone; lists are JSON.

    The weights' hash is that of their file, and not that of the manifest, which says when it was
    made: who trains the same again gets the same bytes.
    """
    values = {
        **input_section(draft),
        "labels": list(draft.backbone.labels),
        "weights": weights.digest(draft.backbone.model),
        "precision": draft.precision,
        "version": edgekd.__version__,
        "exporter": f"{exporter}, torch {version('torch')}",
    }
    return {
        f"edgekd.{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }


def _description(draft: Draft) -> str:
    height, width = draft.backbone.preprocess.size
    taken = (
        f"input (batch, 3, {height}, {width}) float32 RGB, normalised by edgekd.mean, .std"
        if draft.float_input
        else f"images (batch, {height}, {width}, 3) uint8 RGB, normalised inside"
    )
    return (
        f"{draft.backbone.name}, exported by edgekd {edgekd.__version__}. Takes {taken}. Returns "
        f"logits (batch, {len(draft.backbone.labels)}) in the order of edgekd.labels."
    )


def _refusal(draft: Draft, folder: Path, refused: list[Attempt]) -> GateError | UsageError:
    """Say why no exporter was good enough; keep the first file there is, under another name."""
    name, opset = draft.backbone.name, draft.opset
    reasons = " ".join(f"{a.exporter}: {a.reason.rstrip('.')}." for a in refused)
    written = [attempt for attempt in refused if attempt.parity]
    if not written:
        other = f" Opset {NATIVE} works with the most networks: --opset {NATIVE}."
        return UsageError(
            f"{name} cannot be written as ONNX with opset {opset}. {reasons}"
            f"{other if opset != NATIVE else ''}"
        )
    move(written[0].file, folder / f"{MODEL}{REJECTED}")
    return GateError(
        f"{name} as ONNX is not the same network any more. {reasons} "
        "Do not deploy it; try another --opset, or report the network's name."
    )
