"""How far each value of a file is above its error: against another file, or against a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.data import Pixels
from edgekd.export._clips import Clipped, clipped
from edgekd.export._explaining.tensors import Shown, Value
from edgekd.export._parity import CAP_DB
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

__all__ = ["against_file", "against_network", "level_db", "within"]

SKETCHED = 2048
"""Numbers that are kept of a value of one image: which value a value is shows in far fewer."""

Samples = NDArray[np.float64]


@dataclass
class Tally:
    """Power of a value and of its error, image by image."""

    signal: float = 0.0
    noise: float = 0.0
    finite: bool = True
    counted: int = 0

    def add(self, expected: Value, found: Value) -> None:
        """Count one image; of different sizes nothing can be said."""
        self.counted += 1
        if expected.size != found.size:
            self.signal = self.noise = np.nan
            return
        expected, found = expected.ravel().astype(np.float64), found.ravel().astype(np.float64)
        known = np.isfinite(expected)
        self.finite &= bool(np.isfinite(found[known]).all())
        if self.finite:
            self.signal += float(np.square(expected[known]).sum())
            self.noise += float(np.square(found[known] - expected[known]).sum())

    @property
    def db(self) -> float | None:
        return level_db(self.signal, self.noise) if self.finite else -CAP_DB


def level_db(signal: float, noise: float) -> float | None:
    """Power over power. Unlike with logits the mean counts: the next node does see it.

    Returns:
        None where there is no signal to compare with.
    """
    if noise == 0:
        return CAP_DB
    if not signal > 0 or np.isnan(noise):
        return None
    ratio = signal / noise
    return float(np.clip(10 * np.log10(ratio), -CAP_DB, CAP_DB)) if ratio else -CAP_DB


def against_file(
    reduced: Shown,
    floating: Shown,
    pairs: Mapping[str, str],
    pixels: Pixels,
    preprocess: Preprocess,
) -> dict[str, float]:
    """Signal to noise in dB of the values of one file, those of another being right.

    Values that only Relu and Clip read are compared as those leave them: an integer's range ends
    where a clip does, and what lies beyond it is no error.

    Args:
        reduced: the file that is looked at.
        floating: the file that is right.
        pairs: value of the latter by value of the former.
        pixels: (N, H, W, 3); one image at a time is in memory.
        preprocess: what a file without it inside is fed.
    """
    tallies, ends = {name: Tally() for name in pairs}, clipped(floating.model.graph)
    runs = (file.each(pixels, preprocess) for file in (reduced, floating))
    for found, expected in zip(*runs, strict=True):
        for name, other in pairs.items():
            if name in found and other in expected:
                both = (
                    within(values, ends.get(other)) for values in (expected[other], found[name])
                )
                tallies[name].add(*both)
    levels = {name: tally.db for name, tally in tallies.items() if tally.counted}
    return {name: db for name, db in levels.items() if db is not None}


def within(values: Value, clip: Clipped | None) -> Value:
    """Values as a clip leaves them, if there is one."""
    return np.clip(values, clip.low, clip.high) if clip else values


def against_network(
    shown: Shown, network: nn.Module, pixels: Pixels, preprocess: Preprocess
) -> dict[str, float]:
    """Signal to noise in dB of the values of a file, beside the network's value most like each.

    Names do not survive every exporter, but numbers do: a value that the network has too is found
    again to 100 dB and more, wherever in memory it is. One that no module puts out, in the middle
    of a GELU for instance, is like none of them.
    """
    with _recorded(network) as seen, torch.no_grad():
        network(torch.from_numpy(normalised(pixels, preprocess)))
    parts: dict[str, list[Samples]] = {}
    for values in shown.each(pixels, preprocess):
        for name, value in values.items():
            parts.setdefault(name, []).append(_sketch(value.reshape(1, -1)))
    sizes = {name: value.size for name, value in values.items()}
    return {
        name: _best(np.concatenate(part), seen.get(sizes[name], [])) for name, part in parts.items()
    }


def _best(found: Samples, candidates: Sequence[Samples]) -> float:
    """Of the network's values of this size the one most like the file's."""
    if not np.isfinite(found).all():
        return -CAP_DB
    levels = [
        level_db(float(np.square(other).sum()), float(np.square(found - other).sum()))
        for other in candidates
        if np.isfinite(other).all()
    ]
    return max((db for db in levels if db is not None), default=-CAP_DB)


@contextmanager
def _recorded(network: nn.Module) -> Iterator[dict[int, list[Samples]]]:
    """Sketches of what a network's modules read and write, by size a image, while this lasts."""
    seen: dict[int, list[Samples]] = {}

    def see(value: Any) -> None:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1:
            rows = value.detach().reshape(len(value), -1).numpy()
            seen.setdefault(rows.shape[1], []).append(_sketch(rows))
        elif isinstance(value, tuple | list):
            for part in value:
                see(part)

    def before(module: nn.Module, inputs: Any) -> None:
        see(inputs)

    def behind(module: nn.Module, inputs: Any, output: Any) -> None:
        see(output)

    hooks = [
        hook
        for module in network.modules()
        for hook in (
            module.register_forward_pre_hook(before),
            module.register_forward_hook(behind),
        )
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _sketch(rows: Value) -> Samples:
    """Some of each row's numbers, (N, at most SKETCHED): the same ones for rows of the same size.

    Drawn at random: a step through the row would see few channels of a channels-last value.
    """
    size = rows.shape[1]
    if size > SKETCHED:
        rows = rows[:, np.random.default_rng(size).choice(size, SKETCHED, replace=False)]
    return rows.astype(np.float64)
