"""Preacts: which activation makes a map, so that what it is given can be shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from edgekd.models.hooks import Point
from edgekd.models.probe import Call, is_same

ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")
"""Modules whose classes are activations."""


def find_preacts(
    model: nn.Module, calls: Sequence[Call], maps: Sequence[Tensor]
) -> list[Point | None]:
    """The run of an activation module that gave each map; ``None`` where none did.

    An activation that a network calls as a function is not found: a hook does not see it.

    Args:
        model: the network.
        calls: what :func:`~edgekd.models.probe.record` noted while it made ``maps``.
        maps: the maps, as the network gave them.
    """
    active = {name for name, module in model.named_modules() if is_activation(module)}
    runs = [call for call in calls if call.name in active]
    return [_last(run for run in runs if _gave(run, map)) for map in maps]


def is_activation(module: nn.Module) -> bool:
    """Whether the module is an activation of PyTorch's or timm's."""
    return type(module).__module__.startswith(ACTIVATIONS)


def _gave(call: Call, map: Tensor) -> bool:
    same = is_same(call.output, map) and call.output.shape == map.shape
    return same and call.version == map._version  # nobody has added to it since


def _last(runs: Iterable[Call]) -> Point | None:
    found = list(runs)
    return Point(found[-1].name, found[-1].turn) if found else None
