"""Calibrators: one pass over the images, memory that does not grow, and ranges that mean it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.data import Images
from edgekd.errors import GateError
from edgekd.export._quantising import calibrators
from edgekd.export._quantising.calibrators import (
    BATCH,
    BINS,
    CALIBRATORS,
    Spread,
    observe,
    ranges_of,
)
from edgekd.export._quantising.flavours import FLAVOURS
from edgekd.export._quantising.quantise import FloatGraph, read_float_graph
from edgekd.export._running import open_session
from edgekd.preprocess import Preprocess
from edgekd.sections import CALIBRATORS as KNOWN

Values = np.ndarray[Any, np.dtype[np.float32]]


def spread_of(*batches: Values) -> Spread:
    spread = Spread()
    for batch in batches:
        spread.add(batch)
    return spread


@pytest.fixture(scope="module")
def bell() -> Values:
    return np.random.default_rng(0).normal(0, 1, 400_000).astype(np.float32)


@pytest.fixture(scope="module")
def outlying(bell: Values) -> Values:
    """The same with two values in 400,000 that are fifty times as large as the others."""
    return np.concatenate([bell, np.array([250, -250], np.float32)])


def test_every_calibrator_of_the_recipe_is_there() -> None:
    assert set(CALIBRATORS) == set(KNOWN)


def test_the_histogram_is_that_of_numpy(bell: Values) -> None:
    spread = spread_of(bell)
    expected, _ = np.histogram(bell, BINS, (-spread.reach, spread.reach))
    assert spread.reach == 8.0
    assert np.abs(spread.counts - expected).sum() <= 2  # numpy rounds at the edges
    assert spread.counts.sum() == bell.size


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_the_order_of_the_images_changes_nothing(bell: Values, factor: float) -> None:
    parts = [part * np.float32(factor) for part in np.split(bell, 8)]
    parts[3] = parts[3] * np.float32(1000)  # the histogram has to widen at another time
    there, back = spread_of(*parts), spread_of(*reversed(parts))
    assert there.reach == back.reach
    assert (there.counts == back.counts).all()
    assert there.counts.sum() == bell.size


def test_zeros_stay_in_the_middle_whatever_comes_later() -> None:
    spread = spread_of(np.zeros(10, np.float32), np.full(5, 3, np.float32))
    assert spread.counts[BINS // 2] == 10
    assert (spread.low, spread.high) == (0.0, 3.0)
    for calibrator in CALIBRATORS:
        assert ranges_of({"x": spread_of(np.zeros(9, np.float32))}, calibrator, False)["x"] == (
            0,
            0,
        )


def test_minmax_and_the_mean_of_the_batches_are_exact() -> None:
    spreads = {"x": spread_of(np.array([-1, 2], np.float32), np.array([-3, 10], np.float32))}
    assert ranges_of(spreads, "minmax", False)["x"] == (-3, 10)
    assert ranges_of(spreads, "moving-average", False)["x"] == (-2, 6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("value", [3.0, -3.0, 0.1, -1e-3, 7.7e5])
def test_a_constant_has_the_range_of_one_value(value: float, name: str, symmetric: bool) -> None:
    spreads = {"x": spread_of(np.full(1000, value, np.float32))}
    low, high = ranges_of(spreads, name, symmetric)["x"]
    assert low == high == np.float32(value)


@pytest.mark.parametrize(("name", "share"), [("percentile", 0.9999), ("percentile99999", 0.99999)])
def test_percentiles_are_those_of_the_values(bell: Values, name: str, share: float) -> None:
    values = bell + np.float32(0.7)
    spreads, bin_width = {"x": spread_of(*np.split(values, 4))}, 16 / BINS
    rest = (1 - share) / 2
    # so far out, values are sparse: the bound lies between two of them
    least = np.quantile(values, [rest, 1 - rest], method="lower") - bin_width
    most = np.quantile(values, [rest, 1 - rest], method="higher") + bin_width
    found = ranges_of(spreads, name, False)["x"]
    assert (least < found).all()
    assert (found < most).all()
    low, high = ranges_of(spreads, name, True)["x"]
    bounds = [np.quantile(np.abs(values), share, method=m) for m in ("lower", "higher")]
    assert bounds[0] - bin_width < high < bounds[1] + bin_width
    assert low == max(-high, float(values.min()))


@pytest.mark.parametrize("name", ["percentile", "percentile99999", "entropy"])
def test_a_rare_outlier_is_cut(outlying: Values, bell: Values, name: str) -> None:
    low, high = ranges_of({"x": spread_of(outlying)}, name, False)["x"]
    assert -20 < low < -2.5
    assert 2.5 < high < 20
    assert ranges_of({"x": spread_of(outlying)}, "minmax", False)["x"] == (-250, 250)


def test_entropy_is_not_minmax(bell: Values) -> None:
    """ONNX Runtime's, with as many bins as levels, gives min-max whatever the values are."""
    spreads = {"x": spread_of(np.abs(bell) ** 3)}
    _, high = ranges_of(spreads, "entropy", False)["x"]
    assert high < 0.9 * spreads["x"].high


def test_entropy_keeps_the_range_of_even_values() -> None:
    even = np.random.default_rng(0).uniform(-1, 1, 400_000).astype(np.float32)
    low, high = ranges_of({"x": spread_of(even)}, "entropy", True)["x"]
    assert low < -0.98
    assert high > 0.98


@pytest.fixture(scope="module")
def graph(float_resnet: Path) -> FloatGraph:
    return read_float_graph(float_resnet, FLAVOURS["vnni"])


def test_a_pass_sees_what_the_graph_computes(
    graph: FloatGraph,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
    tmp_path: Path,
) -> None:
    pixels, plain = images(20, 32).pixels, preprocess(32)
    spreads = observe(graph, pixels, plain, tmp_path)
    assert set(spreads) == set(graph.tensors)
    (first,) = [n.input[0] for n in graph.model.graph.node if n.op_type == "Conv"][:1]
    normalised = pixels / 255 @ np.diag(1 / np.array(plain.std)) - np.array(plain.mean) / plain.std
    assert spreads[first].low == pytest.approx(normalised.min(), abs=1e-5)
    assert spreads[first].high == pytest.approx(normalised.max(), abs=1e-5)
    assert spreads[first].counts.sum() == pixels.size


def test_memory_does_not_grow_with_the_images(
    graph: FloatGraph,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a batch is run, no activation of an earlier one is in memory any more."""
    seen: list[weakref.ref[Any]] = []
    sizes: list[int] = []

    class Watched:
        def __init__(self, file: Path) -> None:
            self._session = open_session(file)
            self.get_inputs = self._session.get_inputs

        def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
            assert not [ref for ref in seen if ref() is not None]
            found: list[Any] = self._session.run(names, feed)
            seen.extend(weakref.ref(array) for array in found)
            sizes.append(sum(array.nbytes for array in found))
            return found

    monkeypatch.setattr(calibrators, "open_session", Watched)
    spreads = observe(graph, images(6 * BATCH, 32).pixels, preprocess(32), tmp_path)
    assert len(sizes) == 6
    assert len(set(sizes)) == 1  # BATCH images at a time, from the first to the last
    kept = sum(spread.counts.nbytes for spread in spreads.values())
    assert kept == 8 * BINS * len(graph.tensors)


def test_activations_that_are_not_finite_are_refused(
    graph: FloatGraph,
    images: Callable[[int, int], Images],
    preprocess: Callable[[int], Preprocess],
    tmp_path: Path,
) -> None:
    from onnx import numpy_helper

    broken = type(graph.model)()
    broken.CopyFrom(graph.model)
    weight = next(t for t in broken.graph.initializer if len(t.dims) == 4 and t.dims[1] == 16)
    array = np.full(tuple(weight.dims), np.inf, np.float32)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    other = replace(graph, model=broken)
    with pytest.raises(GateError, match=r"NaN or infinity .* is not finite.* train it again"):
        observe(other, images(8, 32).pixels, preprocess(32), tmp_path)


def test_a_value_at_the_very_reach_is_counted() -> None:
    """A gate saturates at exactly 1, which is where a histogram up to 1 ends."""
    spread = spread_of(np.array([0.7, 0.2], np.float32), np.array([1.0, -1.0, 0.5], np.float32))
    assert spread.counts.sum() == 5
    assert (spread.low, spread.high) == (-1.0, 1.0)
    zeros = spread_of(np.zeros(3, np.float32), np.array([1e-3], np.float32))
    assert zeros.reach == pytest.approx(2.0**-9)
