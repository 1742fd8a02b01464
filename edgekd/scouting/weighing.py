"""Weighing: how many parameters and multiply-accumulates a network has at a size.

The network is built with random weights and run on one grey image: that shows at once whether it
can take the size. With real numbers it is three times as fast as on shapes alone, where PyTorch
decomposes each batch norm in Python (mobilenetv3_small at 192 pixels: 22 ms against 90 ms). The
243 candidates of ``timm`` take 17 s of one core, once: what was weighed is kept in
``$XDG_CACHE_HOME/edgekd/weighed/``, a file for each network, number of classes and release of what
builds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.errors import UsageError
from edgekd.files import cache_folder, read_json, write_json
from edgekd.scouting.releases import release

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Weight", "weigh"]

BUILDERS = ("torch", "timm", "torchvision")
BRINGS_ITS_OWN = ":"
"""In a name: what lies in a folder or on a hub may be another network tomorrow."""


@dataclass(frozen=True)
class Weight:
    """What a network is at one size."""

    parameters: int
    macs: int
    """Of one image."""
    refusal: str = ""
    """Why it cannot take the size; empty where it can."""


def weigh(name: str, sizes: Sequence[int], classes: int) -> list[Weight]:
    """Parameters and MACs of a network at each of some sizes.

    Raises:
        UnknownNameError: no such network.
    """
    file = _kept_in(name, classes)
    known = _read(file)
    missing = tuple(size for size in sizes if size not in known)
    if missing:
        known |= zip(missing, _weigh(name, missing, classes), strict=True)
        if BRINGS_ITS_OWN not in name:
            with suppress(UsageError):  # without a place to keep it, it is weighed again
                write_json(file, {str(size): asdict(weight) for size, weight in known.items()})
    return [known[size] for size in sizes]


def _kept_in(name: str, classes: int) -> Path:
    versions = [__version__, *map(release, BUILDERS)]
    text = json.dumps([name, classes, *versions])
    return cache_folder("weighed") / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(file: Path) -> dict[int, Weight]:
    """What was weighed before; a damaged file is none."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        kept: Mapping[str, Any] = read_json(file)
        return {int(size): Weight(**weight) for size, weight in kept.items()}
    return {}


@cache
def _weigh(name: str, sizes: tuple[int, ...], classes: int) -> tuple[Weight, ...]:
    from edgekd.models import zoo

    found = []
    model: nn.Module | None = None
    for size in sizes:
        try:
            if model is None or _fixed(model):
                model = zoo.create(name, classes, size).eval()
            found.append(_weight(name, model, size))
        except UsageError as error:
            if type(error) is not UsageError:  # no such network: no other size will do
                raise
            found.append(Weight(0, 0, str(error)))
    return tuple(found)


def _fixed(model: nn.Module) -> bool:
    config: Any = model.pretrained_cfg
    return bool(config.get("fixed_input_size"))


def _weight(name: str, model: nn.Module, size: int) -> Weight:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, 3, size, size)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(image)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise UsageError(
            f"{name} cannot take images of {size}x{size} pixels: {reason}. Choose another size."
        ) from error
    parameters = sum(p.numel() for p in model.parameters())
    return Weight(parameters, int(counter.get_total_flops()) // 2)
