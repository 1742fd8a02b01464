"""Hooks: keep what single modules give or take, while somebody asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from edgekd.errors import UsageError


class Point(NamedTuple):
    """Where to look."""

    name: str
    """Of a module."""
    turn: int | None = None
    """The input of which of its runs, where it runs more than once in a pass."""


class Hooks:
    """Forward hooks that do nothing except inside :meth:`asking`.

    They are copied with the network, and a copy's hooks do nothing either.
    """

    def __init__(self) -> None:
        self._seen: dict[Point, Tensor] | None = None
        self._turns: Counter[Point] = Counter()

    @contextmanager
    def asking(self) -> Iterator[dict[Point, Tensor]]:
        """Yield what the pass inside will have shown, by the point it was seen at."""
        seen: dict[Point, Tensor] = {}
        self._seen, self._turns = seen, Counter()
        try:
            yield seen
        finally:
            self._seen = None

    def keep_output(self, module: nn.Module, point: Point) -> None:
        """Keep what the module gives."""
        module.register_forward_hook(partial(self._after, point))

    def keep_input(self, module: nn.Module, point: Point) -> None:
        """Keep what the module is given: a copy, if the module is about to write over it."""
        module.register_forward_pre_hook(partial(self._before, point))

    def _after(self, point: Point, module: nn.Module, args: Any, output: Any) -> None:
        if self._is_due(point):
            self._note(point, output)

    def _before(self, point: Point, module: nn.Module, args: Any) -> None:
        if self._is_due(point):
            in_place = getattr(module, "inplace", False)
            self._note(point, args[0].clone() if in_place else args[0])

    def _is_due(self, point: Point) -> bool:
        if self._seen is None:
            return False
        turn = self._turns[point]
        self._turns[point] += 1
        if turn and point.turn is None:
            raise UsageError(f"module {point.name!r} ran twice in one pass; it cannot be tapped.")
        return point.turn in (None, turn)

    def _note(self, point: Point, tensor: Tensor) -> None:
        assert self._seen is not None
        self._seen[point] = tensor
