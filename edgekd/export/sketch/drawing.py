"""Drawing: the steps from a network's name to a sketch of it in one of the precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from edgekd.data import Pixels
from edgekd.errors import UsageError
from edgekd.export._exporters import Exporter, check_opset, reason_of, torchscript
from edgekd.export._graph import move
from edgekd.export._halving.half import half_network
from edgekd.export._names import MODEL
from edgekd.export._network import reference, reparameterised
from edgekd.export._parity import Parity, compare, failed
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.flavours import flavour_named
from edgekd.export._quantising.quantise import quantise, read_float_graph
from edgekd.export._running import as_function, open_session, run_session
from edgekd.export._suspects import normalised
from edgekd.export._writing import Draft, write
from edgekd.export.sketch.filling import fill
from edgekd.export.sketch.plain import quickest
from edgekd.files import writing
from edgekd.models import Backbone, zoo
from edgekd.preprocess import Preprocess
from edgekd.targets import Target

__all__ = ["draw", "draw_int8"]

SEED = 20150309
IMAGES = 4
"""Of noise: enough for batch norms to see a spread, and to run the file alone and in twos."""
LEAST_DB = 40.0
"""Signal to noise below which a file is not the network: random weights are rougher than trained
ones, and a wrong graph has 30 dB at most."""
HALF_DB = 10.0
CALIBRATOR = "minmax"
UNUSED = Preprocess((1, 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""A sketch normalises its pixels itself."""
EXPORTERS: Mapping[str, Exporter] = {"quickest": quickest, "torchscript": torchscript}


@dataclass(frozen=True)
class Drawn:
    """A network with random weights, on its way into a file."""

    backbone: Backbone
    draft: Draft
    pixels: Pixels
    target: Target


def draw(
    name: str, size: int, classes: int, folder: Path, target: Target, precision: str
) -> tuple[Path, Drawn]:
    """Write ``model.onnx`` into a folder, whole or not at all; see :func:`edgekd.export.sketch`."""
    if precision not in WRITERS:
        raise UsageError(f"precision {precision!r}; expected one of {', '.join(WRITERS)}.")
    check_opset(target.opset, target.opsets, target.name)
    drawn = _network(name, size, classes, target)
    with _private(folder) as private:
        return move(WRITERS[precision](drawn, private), folder / MODEL), drawn


def draw_int8(file: Path, size: int, folder: Path, target: Target) -> Path:
    """Write ``model.onnx`` from a float one; see :func:`edgekd.export.quantised`."""
    with _private(folder) as private:
        return move(_quantised(file, _noise(size), target, private), folder / MODEL)


@contextmanager
def _private(folder: Path) -> Iterator[Path]:
    """A folder within a folder, that goes with the block."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".sketch.", dir=folder) as private:
            yield Path(private)


def _network(name: str, size: int, classes: int, target: Target) -> Drawn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = zoo.create(name, classes, size)
    labels = tuple(map(str, range(classes)))
    backbone = Backbone(name, model, zoo.preprocess_of(model, size), labels)
    noise = _noise(size)
    try:
        fill(model, torch.from_numpy(normalised(noise, backbone.preprocess)), SEED)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError):
        backbone.macs()  # which says in a sentence where it cannot take the size
        raise
    network = reference(model)
    draft = Draft(backbone, reparameterised(network), network, target.opset, least_db=LEAST_DB)
    return Drawn(backbone, draft, noise, target)


def _noise(size: int) -> Pixels:
    shape = (IMAGES, size, size, 3)
    return np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)


def _float(drawn: Drawn, folder: Path) -> Path:
    return write(drawn.draft, folder, drawn.pixels, look, EXPORTERS).file


def _half(drawn: Drawn, folder: Path) -> Path:
    halved, _ = half_network(drawn.draft.graph, drawn.backbone.preprocess, drawn.pixels)
    draft = replace(drawn.draft, graph=halved, precision="fp16", least_db=HALF_DB)
    return write(draft, folder, drawn.pixels, look, EXPORTERS).file


def _int8(drawn: Drawn, folder: Path) -> Path:
    return _quantised(_float(drawn, folder), drawn.pixels, drawn.target, folder)


def _quantised(file: Path, pixels: Pixels, target: Target, folder: Path) -> Path:
    """In the target's own flavour, with the ranges of noise."""
    graph = read_float_graph(file, flavour_named(target.flavour))
    spreads = observe(graph, pixels, UNUSED, folder)
    made = folder / "int8.onnx"
    quantise(graph, made, ranges_of(spreads, CALIBRATOR, graph.flavour.symmetric))
    return made


WRITERS: Mapping[str, Callable[[Drawn, Path], Path]] = {
    "fp32": _float,
    "fp16": _half,
    "int8": _int8,
}


def look(
    file: Path, network: nn.Module, preprocess: Preprocess, pixels: Pixels, least_db: float
) -> Parity:
    """A short proof, see :func:`edgekd.export._proof.prove`: one image, then the others together.

    A graph that answers the same to every image was folded to a constant, and its time is nobody's.
    """
    chunks, sizes = [slice(0, 1), slice(1, len(pixels))], (1, len(pixels) - 1)
    expected = as_function(network)(normalised(pixels, preprocess))
    try:
        found = run_session(open_session(file), preprocess, pixels, chunks)
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        return failed(len(pixels), f"ONNX Runtime refuses it: {reason_of(error)}", sizes)
    if not np.isfinite(found).all() or not np.ptp(found, axis=0).any():
        return failed(len(pixels), "it answers the same to every image, or not at all", sizes)
    return compare(expected, found, sizes, least_db)
