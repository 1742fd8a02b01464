"""Factors: compact codes of maps, and how far two of them are apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ELEMENTS = 2048
"""Elements of the factors on CIFAR that both papers found their weights with, 32x8x8."""
ERRORS = {"l1": F.l1_loss, "l2": F.mse_loss}
CHOICES = {"scale": ("dimfree", "paper"), "reconstruction": tuple(ERRORS)}

Layer = Callable[[int, int], Sequence[nn.Module]]
"""What stands before each activation, from one number of channels to another."""


class AutoEncoder(nn.Module):
    """A factor of each of the teacher's maps, and the map as rebuilt from it.

    Every map is divided by ``scale`` first, so that neither the error nor how fast it falls depends
    on how large a teacher's maps are.

    Args:
        map: one of the teacher's (B, C, H, W), whose root mean square is the scale.
        encoder: from a map to its factor.
        decoder: back.
        error: a key of ``ERRORS``.
        grid: the height and width a map is averaged to beforehand; the map's own if None.
    """

    scale: Tensor

    def __init__(
        self,
        map: Tensor,
        encoder: nn.Module,
        decoder: nn.Module,
        error: str,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.error, self.grid = error, grid
        scale = map.detach().square().mean().sqrt()
        self.register_buffer("scale", scale + (scale == 0))

    def forward(self, map: Tensor) -> Tensor:
        """The factor (B, F, H, W) of a map (B, C, H, W)."""
        factor: Tensor = self.encoder(self._prepared(map))
        return factor

    def study(self, map: Tensor) -> Tensor:
        """How far the rebuilt map is from the map, both divided by the scale; a mean over all."""
        wanted = self._prepared(map).detach()
        return ERRORS[self.error](self.decoder(self.encoder(wanted)), wanted)

    def _prepared(self, map: Tensor) -> Tensor:
        return on_grid(map, self.grid) / self.scale

    def extra_repr(self) -> str:  # what was learned with another error or grid is another factor
        return f"error={self.error}, grid={self.grid}"


def three_layers(given: int, out: int, layer: Layer) -> nn.Sequential:
    """Both papers' coder: three layers, each with a leaky activation behind it."""
    widths = [(given, given), (given, out), (out, out)]
    return nn.Sequential(*(m for pair in widths for m in (*layer(*pair), nn.LeakyReLU(0.1))))


def factor_distance(a: Tensor, b: Tensor, scale: str, usual: float) -> Tensor:
    """Mean absolute difference of two factors (B, F, H, W), each sample's at length 1.

    Args:
        a: one.
        b: the other.
        scale: "paper" for the mean itself, at most 2 / sqrt(N) for N elements; "dimfree" to free it
            of N, and multiply it by ``usual`` where there are ``ELEMENTS``.
        usual: the weight the authors give the mean.
    """
    a, b = (unit(factor.flatten(1)) for factor in (a, b))  # (B, N)
    mean = (a - b).abs().mean()
    return mean if scale == "paper" else usual * math.sqrt(a.shape[1] / ELEMENTS) * mean


def unit(vectors: Tensor) -> Tensor:
    """Each row (B, N) at length 1; one that is all 0 stays so, and sends a finite gradient."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / (length + (length == 0))  # an epsilon would blow that gradient up


def on_grid(map: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """A map (B, C, H, W) averaged to a height and a width."""
    return map if grid in (None, map.shape[2:]) else F.adaptive_avg_pool2d(map, grid)


def check_choices(choices: Mapping[str, Sequence[str]], **given: str) -> None:
    """Refuse a value that is not among those its option knows.

    Raises:
        ValueError: naming the option.
    """
    for option, value in given.items():
        if value not in choices[option]:
            listed = ", ".join(choices[option])
            raise ValueError(f"{option} must be one of {listed}, got {value!r}")


def check_share(study_share: float) -> None:
    """Refuse a share of the student's training that is none.

    Raises:
        ValueError: the same.
    """
    if not 0 < study_share <= 1:
        raise ValueError(f"study_share must be in (0, 1], got {study_share}")
