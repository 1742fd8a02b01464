"""Sensitivity: which layers int8 hurts most, measured one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.data import Pixels
from edgekd.export._parity import Logits, snr_db
from edgekd.export._quantising.quantise import FloatGraph, Ranges, quantise
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess

__all__ = ["MOST_IMAGES", "MOST_TRIALS", "Sensitivity", "rank_layers"]

MOST_IMAGES = 64
MOST_TRIALS = 64
"""Files that are written and run; with more layers than that, neighbours are tried together."""


@dataclass(frozen=True)
class Sensitivity:
    """What it does to the logits that these layers alone are int8."""

    layers: tuple[str, ...]
    snr_db: float


def rank_layers(
    graph: FloatGraph,
    ranges: Ranges,
    pixels: Pixels,
    expected: Logits,
    preprocess: Preprocess,
    folder: Path,
) -> list[Sensitivity]:
    """Quantise one layer alone, for every layer; the one that hurts most comes first.

    One alone in int8, not one alone in float: errors of several layers add up, so what leaving one
    out gains is hidden as long as another is as bad. A tensor that int8 serves badly shows up in
    the layer that makes it and in those that read it, and it takes both to keep it float.

    Args:
        graph: the float graph.
        ranges: as calibrated.
        pixels: images (N, H, W, 3) that judge nothing; at most :data:`MOST_IMAGES` are used.
        expected: logits (N, K) of the float graph for them.
        preprocess: for a graph that takes normalised images.
        folder: for the files that are tried.
    """
    layers = np.array(list(graph.layers), dtype=object)
    parts = np.array_split(layers, min(len(layers), MOST_TRIALS))
    pixels, expected = pixels[:MOST_IMAGES], expected[:MOST_IMAGES]
    file, found = folder / "alone.onnx", []
    for part in parts:
        quantise(graph, file, ranges, floats=set(layers) - set(part))
        db = snr_db(expected, run_file(file, preprocess, pixels))
        found.append(Sensitivity(tuple(part), db))
    return sorted(found, key=lambda sensitivity: sensitivity.snr_db)
