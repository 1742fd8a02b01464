"""Blocks: which modules of a network are its blocks, and how their outputs become maps.

Networks name their blocks in a hundred ways, but nearly all of them keep them in rows: a
``Sequential`` or ``ModuleList`` whose members are made of modules. A row holds either the blocks
themselves (``layer1`` of a ResNet, ``blocks`` of a ViT) or stages that hold the rows of blocks
(``stages`` of a ConvNeXt, ``blocks`` of an EfficientNet). What one pass gave tells the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgekd.models.probe import Call, is_same, once

LAYOUTS = {"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,)}
"""Axes of the places; NLC are tokens, the last ones of them in rows of the map."""

Named = tuple[str, nn.Module]
Outputs = Mapping[str, Tensor]


class Block(NamedTuple):
    """A module whose output is shown as a map."""

    name: str
    layout: str


def find_blocks(
    model: nn.Module, calls: Sequence[Call], maps: Sequence[Tensor]
) -> list[list[Block]]:
    """The blocks before each map, at its resolution, without the one that is the map itself.

    A network that normalises the last block's output shows it as the map, so the last block is
    left out whenever it has the map's shape.

    Args:
        model: the network.
        calls: what :func:`~edgekd.models.probe.record` noted while it made ``maps``.
        maps: the maps, as the network gave them, fine to coarse.
    """
    outputs = {call.name: call.output for call in once(calls)}
    names = outputs.keys() & block_names(model, outputs)
    found, start = [], 0
    for map in maps:
        end = _end(calls, start, map)
        window = calls[start:end]
        likes = _likes(window, map)
        blocks = [(c, _layout(c.output, likes)) for c in window if c.name in names]
        found.append(_but_the_map([(c, layout) for c, layout in blocks if layout], map))
        start = end
    return found


def as_map(output: Tensor, layout: str, size: Sequence[int]) -> Tensor:
    """A view of a block's output as (B, C, *size); tokens lose those before the grid."""
    if layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if layout == "NLC":
        grid = output[:, output.shape[1] - size[0] * size[1] :]  # (B, H * W, C)
        return grid.transpose(1, 2).reshape(len(output), -1, *size)
    return output


def block_names(model: nn.Module, outputs: Outputs) -> list[str]:
    """Names of the blocks; none, if the network keeps them in no row.

    Args:
        model: the network.
        outputs: what its modules gave in one pass.
    """
    members = [m for sibling in _trunk("", model, outputs) for m in _row(*sibling, outputs)]
    inside = {name: _row(name, module, outputs) for name, module in members}
    inside |= {n: _carried(n, module, outputs) for n, module in members if not inside[n]}
    # a block may look like a stage once, where its branch is a row; then its like elsewhere do not
    blocks = {type(m) for n, m in members if not inside[n] and not isinstance(m, nn.Sequential)}
    deeper = [block for n, m in members if type(m) not in blocks for block in inside[n]]
    return [name for name, _ in deeper or members]


def _trunk(name: str, module: nn.Module, outputs: Outputs) -> list[Named]:
    """The children among which the rows are: the network's own, or those of its largest part."""
    children = _children(name, module)
    if not any(_row(*child, outputs) for child in children):
        half = len(list(module.modules())) / 2
        for child, part in children:
            if len(list(part.modules())) > half:
                return _trunk(child, part, outputs)
    return children


def _row(name: str, module: nn.Module, outputs: Outputs) -> list[Named]:
    """The members of a row; none, if the module is not one."""
    members = [(n, m) for n, m in _children(name, module) if any(True for _ in m.parameters())]
    if not all(any(True for _ in m.children()) for _, m in members):
        return []
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return members
    # a RegNet's stage is a row by another name: what it gives is what the last of its like gives
    kinds = {type(m) for _, m in members}
    alike = len(members) > 1 and len(kinds) == 1 and _even(name, members, outputs)
    if not alike or isinstance(members[0][1], nn.Sequential):
        return []
    return members if outputs[name] is outputs[members[-1][0]] else []


def _carried(name: str, module: nn.Module, outputs: Outputs) -> list[Named]:
    """The row of blocks in a stage."""
    rows = [row for child in _children(name, module) if (row := _row(*child, outputs))]
    return rows[-1] if rows and _even(name, rows[-1], outputs) else []


def _even(name: str, members: list[Named], outputs: Outputs) -> bool:
    """Whether each member gives as many numbers as the whole does, as the blocks of a stage do."""
    sizes = {outputs[n].numel() if n in outputs else None for n, _ in members}
    return name in outputs and sizes == {outputs[name].numel()}


def _children(name: str, module: nn.Module) -> list[Named]:
    return [(f"{name}.{n}".lstrip("."), m) for n, m in module.named_children()]


def _end(calls: Sequence[Call], start: int, map: Tensor) -> int:
    """After which call the map was there; ``start`` if that cannot be told."""
    later = range(len(calls) - 1, start - 1, -1)
    same = (i for i in later if is_same(calls[i].output, map))
    equal = (i for i in later if any(_is_map(calls[i].output, lay, map) for lay in LAYOUTS))
    return next(same, next(equal, start - 1)) + 1


def _is_map(output: Tensor, layout: str, map: Tensor) -> bool:
    size = map.shape[2:]
    if output.ndim != len(layout) or output.numel() < map.numel():
        return False
    if layout == "NLC" and output.shape[1] < size[0] * size[1]:
        return False
    return torch.equal(as_map(output, layout, size), map)


def _likes(window: Sequence[Call], map: Tensor) -> dict[str, Tensor]:
    """For each layout the map was seen in, how it looked; any network may have plain maps."""
    likes: dict[str, Tensor] = {}
    for call in window:
        for layout in LAYOUTS:
            if layout not in likes and _is_map(call.output, layout, map):
                likes[layout] = call.output
    return {**likes, "NCHW": likes.get("NCHW", map)}


def _layout(output: Tensor, likes: Mapping[str, Tensor]) -> str:
    """The layout in which the output has a place for each of the map's; "" if there is none."""
    for layout, like in likes.items():
        axes = LAYOUTS[layout]
        if output.ndim == like.ndim and all(output.shape[a] == like.shape[a] for a in axes):
            return layout
    return ""


def _but_the_map(blocks: Sequence[tuple[Call, str]], map: Tensor) -> list[Block]:
    found = [Block(call.name, layout) for call, layout in blocks]
    if not found:
        return found
    last, layout = blocks[-1]
    is_map = as_map(last.output, layout, map.shape[2:]).shape == map.shape
    return found[:-1] if is_map else found
