"""Sensitivity: the layer that int8 hurts is found by quantising one layer at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from edgekd.data import Images
from edgekd.export._quantising import sensitivity
from edgekd.export._quantising.calibrators import observe, ranges_of
from edgekd.export._quantising.flavours import FLAVOURS
from edgekd.export._quantising.quantise import FloatGraph, Ranges, read_float_graph
from edgekd.export._quantising.sensitivity import Sensitivity, rank_layers
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess

PLAIN = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
Rank = Callable[..., list[Sensitivity]]


@pytest.fixture
def rank(
    digit_net: nn.Sequential,
    digits: Callable[[int, int], Images],
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    tmp_path: Path,
) -> Rank:
    """Rank the layers of the digit net after something was done to it."""

    def run(spoil: Callable[[nn.Sequential], None] = lambda net: None) -> list[Sensitivity]:
        net = copy.deepcopy(digit_net)
        spoil(net)
        file = as_onnx(net, PLAIN, tmp_path / "float.onnx")
        graph: FloatGraph = read_float_graph(file, FLAVOURS["vnni"])
        spreads = observe(graph, digits(0, 32).pixels, PLAIN, tmp_path)
        ranges: Ranges = ranges_of(spreads, "minmax", False)
        pixels = digits(100, 200).pixels
        expected = run_file(file, PLAIN, pixels)
        return rank_layers(graph, ranges, pixels, expected, PLAIN, tmp_path)

    return run


def test_a_weight_that_int8_cannot_hold_comes_first(rank: Rank) -> None:
    """One huge weight per filter, on a channel that is always 0: the others are rounded to 0."""

    def spoil(net: nn.Sequential) -> None:
        made, read = cast("nn.Conv2d", net[4]), cast("nn.Conv2d", net[6])
        assert made.bias is not None
        with torch.no_grad():
            made.weight[3], made.bias[3], read.weight[:, 3] = 0.0, -1.0, 300.0

    found = rank(spoil)
    assert found[0].layers == ("6",)
    assert found[0].snr_db < 10
    assert found[1].snr_db > found[0].snr_db + 10
    assert len(found) == 8


def test_a_tensor_that_int8_cannot_hold_names_who_makes_it_and_who_reads_it(rank: Rank) -> None:
    def spoil(net: nn.Sequential) -> None:
        made, read = cast("nn.Conv2d", net[4]), cast("nn.Conv2d", net[6])
        assert made.bias is not None
        with torch.no_grad():
            made.weight[3], made.bias[3], read.weight[:, 3] = 0.0, 5000.0, 0.0

    found = rank(spoil)
    assert {found[0].layers, found[1].layers} == {("4",), ("6",)}
    assert found[2].snr_db > found[1].snr_db + 10


def test_layers_are_sorted_and_the_trials_are_bounded(
    rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = rank()
    assert [s.snr_db for s in every] == sorted(s.snr_db for s in every)
    monkeypatch.setattr(sensitivity, "MOST_TRIALS", 3)
    found = rank()
    assert len(found) == 3
    together = [layer for sensitivity in found for layer in sensitivity.layers]
    assert sorted(together) == sorted(layer for s in every for layer in s.layers)
