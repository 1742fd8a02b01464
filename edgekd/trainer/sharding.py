"""Sharding: a teacher too large for one device lies in parts on those of all processes.

Each process holds its share of every parameter and gathers a block's parameters while the block
computes (FSDP, Zhao et al., arXiv:2304.11277; here PyTorch's ``fully_shard``). The answers are the
undivided network's, up to rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.state import PartialState
from torch import Tensor, distributed, nn

from edgekd.errors import UsageError
from edgekd.models import Backbone, freeze
from edgekd.recipe import Train
from edgekd.world import world

ASKED = ("forward_features", "forward_head", "forward_intermediates")
"""What a :class:`~edgekd.models.Tap` calls of timm's networks, beside ``forward``."""
TOLERANCE = 1e-4
"""Of the logits on an example, where the largest is 1: other kernels round otherwise."""


def shard(teacher: Backbone) -> None:
    """Spread the parameters of a network, in place, over the processes that have met.

    Every process has to ask it the same number of times from now on, because each holds parts that
    the others need.

    Args:
        teacher: the same in every process, on the CPU; it learns no more.

    Raises:
        UsageError: this network does not answer as it did once it is spread.
    """
    model, example = freeze(teacher.model), teacher.example
    with torch.no_grad():
        expected = model(example)
        try:
            _spread(model)
            found = model(example.to(PartialState().device)).cpu()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = re.split(r"\n|\. ", str(error))[0]
            raise UsageError(
                f"the teacher {teacher.name} cannot be spread over processes: {reason}. "
                "Leave train.shard_teacher out."
            ) from error
    _check(teacher.name, expected, found)


def is_spread(train: Train) -> bool:
    """Whether a training spreads its teacher, which takes more than one process."""
    return train.shard_teacher and world().size > 1


def _spread(model: nn.Module) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = PartialState().device
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (distributed.get_world_size(),)),
        "reshard_after_forward": True,
    }
    for unit in dict.fromkeys((*_heads(model), *_units(model))):
        fully_shard(unit, **settings)
    fully_shard(model, **settings)
    for name in ASKED:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def _heads(model: nn.Module) -> Iterator[nn.Module]:
    """The last layer, which a Tap calls by itself."""
    if hasattr(model, "get_classifier"):
        head: Any = model.get_classifier()  # type: ignore[operator]
        if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
            yield head


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Parts with parameters that are gathered as a whole: what rows and lists of layers hold."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _units(child)
        elif any(True for _ in child.parameters()):
            yield child


def _check(name: str, expected: Tensor, found: Tensor) -> None:
    scale = float(expected.abs().max()) or 1.0
    error = float((found - expected).abs().max()) / scale
    if not error <= TOLERANCE:
        raise UsageError(
            f"the teacher {name} answers otherwise once it is spread over processes: off by "
            f"{error:.1e} of its largest logit, expected at most {TOLERANCE:.0e}. "
            "Leave train.shard_teacher out."
        )
