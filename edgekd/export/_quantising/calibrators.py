"""Calibrators: from what a tensor was seen to hold, the range that int8 gives its 256 steps to.

All of them read the same pass over the images. ONNX Runtime's own histograms keep every activation
of every image until the last one was run, and its "entropy" has as many bins as levels, so that it
can drop nothing and gives the range of min-max. Here, eight images are run at a time, and what
stays of a tensor is one histogram of fixed size, whatever the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Pixels
from edgekd.errors import GateError
from edgekd.export._quantising.quantise import FloatGraph, Ranges
from edgekd.export._running import chunks_of, open_session
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

__all__ = ["BATCH", "CALIBRATORS", "Spread", "observe", "ranges_of"]

BATCH = 8
"""Images run at a time: their activations are in memory at once, those of no others."""
BINS = 8192
"""Of a histogram, both signs together: 64 KiB a tensor."""
SIDE = BINS // 2
PIECE = 1 << 18
"""Values counted at a time: they and their bins stay in the cache."""

Counts = NDArray[np.int64]
Span = tuple[float, float]


class Spread:
    """What one tensor was seen to hold: a histogram that widens as larger values come.

    Its reach is a power of two, so that widening merges whole bins, and the result does not depend
    on the order of the images.
    """

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(BINS, np.int64)
        """Of equal bins from ``-reach`` to ``reach``."""
        self.reach = 0.0
        self.low, self.high = math.inf, -math.inf
        self._lows, self._highs, self._batches = 0.0, 0.0, 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one batch, of any shape; nothing of them is kept.

        Raises:
            ValueError: they are not all finite.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("not finite")
        self._lows, self._highs = self._lows + low, self._highs + high
        self._batches += 1
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        flat = values.reshape(-1)
        scale = np.float32(SIDE / self.reach if self.reach else 0.0)
        for start in range(0, flat.size, PIECE):
            bins = np.floor(flat[start : start + PIECE] * scale).astype(np.int32) + SIDE
            self.counts += np.bincount(bins, minlength=BINS)

    @property
    def usual(self) -> Span:
        """Mean over the batches of their least and greatest values."""
        return self._lows / self._batches, self._highs / self._batches

    @property
    def magnitudes(self) -> Counts:
        """The histogram of absolute values, (SIDE,)."""
        return self.counts[SIDE:] + self.counts[SIDE - 1 :: -1]

    def _widen(self, peak: float) -> None:
        if peak < self.reach or not peak:  # at the reach itself there is no bin any more
            return
        # Below 2^-100, SIDE / reach would overflow; a tensor of such values might as well be zero.
        reach = math.ldexp(1.0, max(math.frexp(peak)[1], -100))
        merged = min(reach / self.reach, SIDE) if self.reach else SIDE
        factor = int(merged)
        wider = np.zeros_like(self.counts)
        inner = self.counts.reshape(-1, factor).sum(axis=1)
        edge = (BINS - len(inner)) // 2
        wider[edge : edge + len(inner)] = inner
        self.counts, self.reach = wider, reach


def observe(
    graph: FloatGraph, pixels: Pixels, preprocess: Preprocess, folder: Path
) -> dict[str, Spread]:
    """Run images (N, H, W, 3) through the float graph once, and see what each tensor holds.

    Args:
        graph: whose ``tensors`` are watched.
        pixels: a batch of :data:`BATCH` at a time is run.
        preprocess: for a graph that takes normalised images.
        folder: for a copy of the graph that shows its activations.

    Raises:
        GateError: an activation is not finite.
    """
    spreads = {name: Spread() for name in graph.tensors}
    session = open_session(_showing(graph, folder / "showing.onnx"))
    for chunk in chunks_of(len(pixels), BATCH):
        try:
            _look(session, pixels[chunk], preprocess, spreads)
        except ValueError as error:
            raise GateError(
                f"{graph.model.graph.name} computes NaN or infinity for training images, in "
                f"float32 already: {error}. int8 has no range for that. Check the weights, or "
                "train it again."
            ) from error
    return spreads


def _look(
    session: Any, pixels: Pixels, preprocess: Preprocess, spreads: Mapping[str, Spread]
) -> None:
    """Run one batch; its activations are given up before the next one."""
    (entry,) = session.get_inputs()
    feed: Any = pixels if entry.type == "tensor(uint8)" else normalised(pixels, preprocess)
    shown = [name for name in spreads if name != entry.name]
    values = dict(zip(shown, session.run(shown, {entry.name: feed}), strict=True))
    for name, spread in spreads.items():
        try:
            spread.add(feed if name == entry.name else values[name])
        except ValueError as error:
            raise ValueError(f"{name} is {error}") from error


def ranges_of(spreads: Mapping[str, Spread], calibrator: str, symmetric: bool) -> Ranges:
    """Ranges as one of :data:`CALIBRATORS` has them.

    Args:
        spreads: from :func:`observe`.
        calibrator: its name.
        symmetric: whether zero is to be in the middle.
    """
    chosen = CALIBRATORS[calibrator]
    return {name: chosen(spread, symmetric) for name, spread in spreads.items()}


def _minmax(spread: Spread, symmetric: bool) -> Span:
    return spread.low, spread.high


def _moving_average(spread: Spread, symmetric: bool) -> Span:
    return spread.usual


def _percentile(share: float) -> Callable[[Spread, bool], Span]:
    """Keep this share of the values: half the rest is cut at each end, or all by magnitude."""

    def span(spread: Spread, symmetric: bool) -> Span:
        if symmetric:
            return _within(spread, _quantile(spread.magnitudes, share) / SIDE * spread.reach)
        rest = (1 - share) / 2
        low, high = (_quantile(spread.counts, q) / SIDE - 1 for q in (rest, 1 - rest))
        return _seen(spread, low * spread.reach, high * spread.reach)

    return span


def _quantile(counts: Counts, share: float) -> float:
    """Below how many bins this share of all values lies, with the fraction of the last one."""
    total = np.cumsum(counts)
    wanted = share * total[-1]
    index = int(np.searchsorted(total, wanted))
    before = total[index - 1] if index else 0
    return index + float((wanted - before) / max(counts[index], 1))


def _entropy(spread: Spread, symmetric: bool) -> Span:
    """The range whose quantised distribution tells least from the real one.

    Migacz, "8-bit inference with TensorRT", GTC 2017: for each bound, what lies outside is counted
    at the bound, what lies inside is merged into as many levels as int8 has, and the bound of least
    Kullback-Leibler divergence is taken. Exact zeros, of which a Relu makes many, cost int8 nothing
    and are counted like their neighbours.
    """
    counts = spread.magnitudes.astype(np.float64)
    counts[0] = counts[1]
    filled = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    levels = 255 if spread.low >= 0 and not symmetric else 128
    if filled <= 2 * levels:
        return spread.low, spread.high
    bounds = np.unique(np.linspace(levels, filled, 128).astype(int))
    divergences = [_divergence(counts, int(bound), levels) for bound in bounds]
    return _within(spread, int(bounds[int(np.argmin(divergences))]) / SIDE * spread.reach)


def _divergence(counts: NDArray[np.float64], bound: int, levels: int) -> float:
    """KL(real || quantised) of the values below a bound, those above it counted at the bound."""
    inside = counts[:bound]
    real = inside.copy()
    real[-1] += counts[bound:].sum()
    starts = np.arange(levels) * bound // levels
    sizes = np.diff(np.append(starts, bound))
    some = inside > 0
    filled = np.add.reduceat(some.astype(np.int64), starts)
    means = np.add.reduceat(inside, starts) / np.maximum(filled, 1)
    quantised = np.where(some, np.repeat(means, sizes), 0.0)
    if not quantised.any():
        return math.inf
    p, q = real / real.sum(), quantised / quantised.sum()
    counted = p > 0
    floor = 1e-9  # the bound itself may have no values of its own, and would cost infinitely much
    return float((p[counted] * np.log(p[counted] / np.maximum(q[counted], floor))).sum())


def _within(spread: Spread, bound: float) -> Span:
    """From minus to plus a bound, as far as there were values."""
    return _seen(spread, -bound, bound)


def _seen(spread: Spread, low: float, high: float) -> Span:
    """What of a range there were values in; where all are one, a bin's edge may be beside it."""
    return max(min(low, spread.high), spread.low), min(max(high, spread.low), spread.high)


CALIBRATORS: Mapping[str, Callable[[Spread, bool], Span]] = {
    "minmax": _minmax,
    "percentile": _percentile(0.9999),
    "percentile99999": _percentile(0.99999),
    "moving-average": _moving_average,
    "entropy": _entropy,
}


def _showing(graph: FloatGraph, file: Path) -> Path:
    """Write the graph with its activations as further outputs."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    known: Iterable[Any] = [*model.graph.value_info, *model.graph.output]
    types = {value.name: value for value in known}
    given = {entry.name for entry in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(types[name] for name in graph.tensors if name not in given)
    onnx.save(model, file)
    return file
