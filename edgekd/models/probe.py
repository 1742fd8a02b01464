"""Probe: one pass over noise, and what every module gave in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Call(NamedTuple):
    """One module ran once and gave a tensor."""

    name: str
    turn: int
    """How often it had run before in that pass."""
    output: Tensor
    version: int
    """Of ``output`` at the time: whoever writes into it later counts this up."""


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; then each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def record(model: nn.Module, ask: Callable[[Tensor], T], example: Tensor) -> tuple[T, list[Call]]:
    """Ask a network about noise and note its modules' calls, in the order they end.

    Args:
        model: whose modules are watched; it is left as it was.
        ask: what to do with the image.
        example: its shape without the batch is that of the noise, which disturbs no other random
            numbers.

    Returns:
        What ``ask`` returned, and the calls that gave a tensor.
    """
    calls: list[Call] = []
    turns: Counter[str] = Counter()

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.append(Call(name, turns[name], output, output._version))
        turns[name] += 1

    noise = torch.randn(1, *example.shape[1:], generator=torch.Generator().manual_seed(0))
    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with resting(model):
            return ask(noise.to(example)), calls
    finally:
        for handle in handles:
            handle.remove()


def once(calls: Sequence[Call]) -> list[Call]:
    """The calls of modules that ran one time only."""
    runs = Counter(call.name for call in calls)
    return [call for call in calls if runs[call.name] == 1]


def is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, in whatever order."""
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel()
