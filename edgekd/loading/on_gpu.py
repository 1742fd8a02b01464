"""Batches made on the GPU: the images lie there, padded, and one gather cuts a batch out of them.

What is drawn is what the loaders of :mod:`edgekd.loading.memory` draw, and the pixels are the same
bit for bit. An epoch's draws are copied to the device once; a step copies nothing, and waits for
nothing. On a CPU slices are faster (see there), on a GPU a gather is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd.data import Batch, Loader
from edgekd.loading.memory import EvalLoader, Normalise, TrainLoader
from edgekd.preprocess import Preprocess

ROOM = 0.25
"""Share of the GPU's free memory that images may take; networks and their maps need the rest."""


def placed(
    loaders: tuple[Loader, Loader, Loader], device: torch.device
) -> tuple[Loader, Loader, Loader]:
    """The same loaders, with the images on the device of the training if they fit on that GPU.

    Loaders that read from disk, and those that do not fit, stay as they are; the first is asked
    first.
    """
    room = _room(device)
    if not room:
        return loaders
    made: list[Loader] = []
    for loader in loaders:
        moved, room = _placed(loader, device, room)
        made.append(moved)
    first, second, third = made
    return first, second, third


def _room(device: torch.device) -> int:
    """Bytes that images may take on it; none on a CPU, in whose memory they are."""
    return int(ROOM * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def _placed(loader: Loader, device: torch.device, room: int) -> tuple[Loader, int]:
    """A loader, on the device if there is room for it, and the bytes that are left."""
    if not isinstance(loader, TrainLoader | EvalLoader):
        return loader, room
    left = room - loader.pixels.nbytes
    if left < 0:
        return loader, room
    if isinstance(loader, TrainLoader):
        return DeviceLoader(loader, device), left
    return DeviceEvalLoader(loader, device), left


class DeviceLoader:
    """The batches of a :class:`~edgekd.loading.memory.TrainLoader`, made on a device.

    Args:
        plan: says which windows of which images an epoch shows.
        device: where the pixels are kept and the batches are made.
    """

    def __init__(self, plan: TrainLoader, device: torch.device) -> None:
        self.targets, self.views = plan.targets, plan.views
        self._plan, self._device = plan, device
        pixels = plan.pixels
        self._rows, self._columns = pixels.shape[1:3]
        self._pixels = torch.from_numpy(pixels).to(device).reshape(-1, 3)
        self._labels = plan.targets.to(device)
        self._grids = _grids(plan.preprocess, self._columns).to(device)
        self._normalise = Normalise(plan.preprocess, device)

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after of epoch ``number``; all but the key on the device."""
        drawn = self._plan.drawn(number)
        corners = (drawn.order * self._rows + drawn.down) * self._columns + drawn.right
        index, corner, mirror = _moved((drawn.order, corners, drawn.mirror), self._device)
        for step in range(start, len(self)):
            part = self._plan.part(step)
            place = corner[part, None] + self._grids[mirror[part]]  # (B, H * W) of the pixels
            image, chosen = self._normalise(self._pixels[place]), index[part]
            keys = torch.from_numpy(drawn.key[part])
            yield Batch(image, self._labels[chosen], chosen, key=keys)

    def digest(self) -> str:
        """Hash of the pixels."""
        return self._plan.digest()


class DeviceEvalLoader:
    """The batches of an :class:`~edgekd.loading.memory.EvalLoader`, made on a device.

    The targets stay on the CPU, where answers are compared with them.

    Args:
        plan: says which images a batch shows.
        device: where the pixels are kept and the batches are made.
    """

    def __init__(self, plan: EvalLoader, device: torch.device) -> None:
        self.targets, self.views = plan.targets, plan.views
        self._plan = plan
        self._pixels = torch.from_numpy(np.ascontiguousarray(plan.pixels)).to(device)
        self._normalise = Normalise(plan.preprocess, device)

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches ``start`` and after; every epoch is the same."""
        for step in range(start, len(self)):
            part = self._plan.part(step)
            index = torch.arange(part.start, part.stop, part.step)
            yield Batch(self._normalise(self._pixels[part]), self.targets[index], index)

    def digest(self) -> str:
        """Hash of the pixels."""
        return self._plan.digest()


def _grids(preprocess: Preprocess, columns: int) -> Tensor:
    """(2, H * W): where a window's pixels lie from its first one on, plain and mirrored."""
    height, width = preprocess.size
    down, right = torch.arange(height)[:, None] * columns, torch.arange(width)
    return torch.stack([(down + across).reshape(-1) for across in (right, right.flip(0))])


def _moved(arrays: tuple[np.ndarray, ...], device: torch.device) -> Iterator[Tensor]:
    """Arrays of one length as tensors on the device, in one copy that nobody waits for."""
    block = torch.from_numpy(np.stack(arrays))
    if device.type == "cuda":
        block = block.pin_memory()  # else the host would wait for the copy
    return iter(block.to(device, non_blocking=True))
