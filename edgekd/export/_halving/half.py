"""fp16: a network that computes in half floats inside, float32 at both ends.

The network itself is halved and then exported, which needs no converter of graphs and works where
those fail. What leaves the range of half floats on real images keeps computing in float32, module
by module; which modules those are, and why, is part of the export's record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.data import Pixels
from edgekd.errors import GateError
from edgekd.export._halving.channels import LOSS, felt_channels
from edgekd.export._halving.mixed import Half, Kept, floats, halved, pruned, takes, within
from edgekd.export._halving.overflow import LARGEST, SAFE, Break, Scan, first_break, scan
from edgekd.export._parity import snr_db
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

__all__ = ["half_network"]

BATCH = 8
HALF_IMAGES = 16
"""Run in half too. A CPU without half arithmetic is 5 to 25 times slower at it, so only those
images are taken that went furthest in float32."""
ROUNDS = 12


def half_network(
    merged: nn.Module, preprocess: Preprocess, pixels: Pixels
) -> tuple[Half, dict[str, Any]]:
    """Halve a copy of a network, with its overflowing modules left in float32.

    Args:
        merged: in float32 and evaluation mode, on the CPU; normalised images to logits.
        preprocess: what it expects.
        pixels: real images (N, H, W, 3); all of them are scanned in float32.

    Returns:
        The network, and the ``half`` section of the manifest: ``images`` scanned in float32 and
        ``half_images`` in half, ``headroom`` (the largest value over 65504: above 1 it does not
        fit), the ``peak`` and where it is, ``float32`` (modules that stay in it, and why),
        ``float32_parameters`` (their share) and ``snr_db`` of the half network beside the float
        one.

    Raises:
        GateError: values overflow where no module can be left in float32.
    """
    batches = [
        torch.from_numpy(normalised(pixels[first : first + BATCH], preprocess))
        for first in range(0, len(pixels), BATCH)
    ]
    found = scan(merged, batches)
    _refuse_if_broken(found)
    hardest = np.argsort(found.batches)[::-1][: HALF_IMAGES // BATCH]
    images = torch.cat([batches[i] for i in hardest])
    expected = torch.cat([found.logits[i] for i in hardest])
    kept = _to_keep(merged, found, images, expected)
    half, kept, logits = _settled(merged, found, kept, images)
    sizes = {name: _own_size(module) for name, module in merged.named_modules()}
    inside = sum(size for name, size in sizes.items() if within(name, kept))
    record = {
        "images": len(pixels),
        "half_images": len(images),
        "headroom": found.peak.value / LARGEST,
        "peak": {
            "layer": found.peak.layer,
            "operation": found.peak.operation,
            "value": found.peak.value,
        },
        "float32": [{"layer": name, "why": why} for name, why in kept.items()],
        "float32_parameters": inside / max(sum(sizes.values()), 1),
        "snr_db": snr_db(expected.numpy(), logits.numpy()),
    }
    return half, record


def _refuse_if_broken(found: Scan) -> None:
    bad = sum(int((~logits.isfinite()).any(dim=1).sum()) for logits in found.logits)
    if bad:
        raise GateError(
            f"the float network itself gives logits that are not finite on {bad} images; no file "
            "can be made of it. Train it again, or look at its weights."
        )


def _to_keep(network: nn.Module, found: Scan, images: Tensor, expected: Tensor) -> Kept:
    """Modules that cannot compute in half, as the float network's values show."""
    kept = {name: f"{p.operation} reaches {p.value:.3g}" for name, p in found.origins.items()}
    for name, module in network.named_modules():
        why = _misfit(name, module, found) if takes(module) else ""
        if why:
            kept.setdefault(name, why)
    if "" in kept:
        raise _refusal(f"{kept['']} in the network's own forward", found)
    layers = [n for n, m in network.named_modules() if takes(m) and not within(n, kept)]
    felt = felt_channels(network, layers, images, expected)
    # What comes out of such channels is as small, and half floats would lose it there.
    found.outputs |= dict.fromkeys(felt, math.inf)
    return pruned(kept | felt)


def _misfit(name: str, module: nn.Module, found: Scan) -> str:
    """Why a layer with weights cannot be in half, if it cannot."""
    lost, largest = max((_loss(tensor) for tensor in floats(module)), default=(0.0, 0.0))
    if found.inputs.get(name, 0.0) > SAFE:
        return f"its input reaches {found.inputs[name]:.3g}"
    if largest > LARGEST:
        return f"its weights reach {largest:.3g}"
    if lost > LOSS:
        return f"half floats would change its weights by {lost:.0%}: they are at most {largest:.3g}"
    peak = found.beyond.get(name)
    return f"{peak.operation} reaches {peak.value:.3g}" if peak else ""


def _settled(
    network: nn.Module, found: Scan, kept: Kept, images: Tensor
) -> tuple[Half, Kept, Tensor]:
    """Halve the network until nothing breaks; also return what was kept, and the logits."""
    infinite = {_inside(name) for name in found.infinite}
    for _ in range(ROUNDS):
        if not any(_own_size(m) for n, m in network.named_modules() if not within(n, kept)):
            raise _refusal("no layer is left that can compute in half", found)
        half = halved(network, kept, found.outputs)
        broken, logits = first_break(half, images, infinite)
        if broken is None:
            return half, kept, logits
        kept = _widened(kept, broken, found)
    raise _refusal(f"with {', '.join(kept)} in float32 it still breaks", found)


def _widened(kept: Kept, broken: Break, found: Scan) -> Kept:
    """Keep the module that broke as well, or the one around it if it is kept already."""
    why = f"{broken.operation} in half: {broken.reason}".removeprefix(" in half: ")
    layer = broken.layer.removeprefix("network").removeprefix(".")
    while layer and within(layer, kept):
        layer = layer.rpartition(".")[0]
    if not layer:
        raise _refusal(f"{why} in the network's own forward", found)
    return pruned({**kept, layer: why})


def _refusal(why: str, found: Scan) -> GateError:
    peak = found.peak
    where = f"layer {peak.layer}" if peak.layer else "the network's own forward"
    return GateError(
        f"the network does not fit into fp16: {why}. The largest value is {peak.value:.3g}: "
        f"{peak.operation} in {where}; half floats end at {LARGEST:g}. Keeping single layers in "
        "float32 does not help here. Choose --precision int8 or fp32."
    )


def _own_size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters(recurse=False))


def _loss(tensor: Tensor) -> tuple[float, float]:
    """Share of a tensor's length that rounding to half changes, and its largest magnitude."""
    exact = tensor.double()
    length = float(exact.norm())
    lost = float((tensor.half().double() - exact).norm()) / length if length else 0.0
    return lost, float(exact.abs().max()) if length else 0.0


def _inside(name: str) -> str:
    """A module's name within :class:`Half`."""
    return f"network.{name}".rstrip(".")
