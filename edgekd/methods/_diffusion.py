"""Diffusion: clean a student's map as if it were the teacher's with noise on it.

The equations are in ``edgekd/methods/diffkd.py``, whose branches these modules are.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

TIMES = 1000
KEPT = tuple(accumulate((1 - 1e-4 - 1.99e-2 * t / (TIMES - 1) for t in range(TIMES)), mul))
"""ab_t: the share of the signal's variance left at time t; the betas go from 1e-4 to 2e-2."""


def conv_norm(inside: int, outside: int, kernel: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, and batch norm, which would cancel a bias.

    Statistics are the batch's alone, those of the student's passes and of the teacher's apart.
    """
    conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside, track_running_stats=False))


class Bottleneck(nn.Module):
    """A residual block through ``width // shrink`` channels, without an activation at its end."""

    def __init__(self, width: int, shrink: int) -> None:
        super().__init__()
        inner = max(1, width // shrink)
        self.change = nn.Sequential(
            conv_norm(width, inner),
            nn.ReLU(),
            conv_norm(inner, inner, 3),
            nn.ReLU(),
            conv_norm(inner, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.change(x)
        return changed


class NoiseNet(nn.Module):
    """Predicts the noise in maps (B, C, H, W), or vectors (B, C, 1, 1), of times (B,).

    While the whole batch shares one time, batch norm cancels its embedding, as in the authors'
    code: the student's passes do not depend on t, the loss on the teacher's maps does.
    """

    def __init__(self, width: int, vector: bool) -> None:
        super().__init__()
        self.time = nn.Embedding(TIMES, width)
        if vector:
            self.layers = nn.Sequential(
                conv_norm(width, 4 * width),
                nn.ReLU(),
                conv_norm(4 * width, width),
                conv_norm(width, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, kernel_size=1),
            )
        else:
            self.layers = nn.Sequential(
                Bottleneck(width, 4), Bottleneck(width, 4), conv_norm(width, width)
            )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        noise: Tensor = self.layers(x + self.time(time)[:, :, None, None])
        return noise


class Gate(nn.Module):
    """How much of each image's map is kept, in (0, 1), as (B, 1, 1, 1); the rest becomes noise."""

    def __init__(self, width: int, vector: bool) -> None:
        super().__init__()
        self.layers: nn.Module = Bottleneck(width, 8)
        if vector:
            self.layers = nn.Sequential(
                conv_norm(width, 2 * width), nn.ReLU(), conv_norm(2 * width, width)
            )
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = self.head(self.layers(x).mean((2, 3))).softmax(1)[:, 0]
        return kept[:, None, None, None]


class Diffused(NamedTuple):
    """What a branch makes of one pair of maps."""

    refined: Tensor
    """(B, C, H, W): the student's map, cleaned."""
    target: Tensor
    """(B, C, H, W): the teacher's map, or its code; without a gradient."""
    noise_loss: Tensor
    """How far the noise put on the target is from the one predicted: a scalar."""
    code_loss: Tensor
    """How far the decoded code is from the teacher's map: a scalar."""


class Branch(nn.Module):
    """Cleans one kind of the student's maps, and learns from the teacher's how to.

    Args:
        student: maps as it will see them, (B, C, H, W).
        teacher: those of the teacher, of the same size.
        latent: channels of the code they meet in; 0 for the teacher's own.
        vector: whether the maps are vectors, (B, C, 1, 1).
        steps: how often the noise is predicted and taken away.
        freeze: whether the student's distance leaves the noise network as it is.
    """

    kept: Tensor

    def __init__(
        self, student: Tensor, teacher: Tensor, latent: int, vector: bool, steps: int, freeze: bool
    ) -> None:
        super().__init__()
        width = latent or teacher.shape[1]
        self.steps, self.freeze = steps, freeze
        self.encoder = conv_norm(teacher.shape[1], width) if latent else None
        self.decoder = nn.Conv2d(width, teacher.shape[1], kernel_size=1) if latent else None
        self.adapter = nn.Conv2d(student.shape[1], width, kernel_size=1)
        self.gate = Gate(width, vector)
        self.net = NoiseNet(width, vector)
        self.last = conv_norm(width, width)
        self.register_buffer("kept", teacher.new_tensor(KEPT), persistent=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Diffused:
        """Random numbers are drawn in this order: the gate's noise, the loss's noise, its times."""
        target, code_loss = self.coded(teacher.detach())
        x = self.adapter(student)  # (B, C, H, W)
        signal = self.gate(x)
        x = signal * x + (1 - signal) * torch.randn_like(x)
        return Diffused(self.last(self.denoised(x)), target, self.noise_loss(target), code_loss)

    def coded(self, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The target, and the autoencoder's loss, which alone trains the autoencoder."""
        if self.encoder is None or self.decoder is None:
            return teacher, teacher.new_zeros(())
        code = self.encoder(teacher)  # (B, C, H, W)
        return code.detach(), F.mse_loss(self.decoder(code), teacher)

    def denoised(self, x: Tensor) -> Tensor:
        """Deterministic reverse diffusion, from the middle of the times down to 0."""
        stride = TIMES // (2 * self.steps)
        for t in reversed(range(0, self.steps * stride, stride)):
            noise = self._predicted(x, torch.full_like(x[:, 0, 0, 0], t, dtype=torch.long))
            now, then = KEPT[t], KEPT[t - stride] if t else 1.0
            # sqrt(then) * (x - sqrt(1 - now) * noise) / sqrt(now) + sqrt(1 - then) * noise
            gain = math.sqrt(then / now)
            x = gain * x + (math.sqrt(1 - then) - gain * math.sqrt(1 - now)) * noise
        return x

    def noise_loss(self, target: Tensor) -> Tensor:
        """Mean of (e(sqrt(ab_t) T + sqrt(1 - ab_t) n, t) - n)^2 at random times."""
        noise = torch.randn_like(target)
        time = torch.randint(TIMES, (len(target),), device=target.device)
        kept = self.kept[time][:, None, None, None]
        noisy = kept.sqrt() * target + (1 - kept).sqrt() * noise
        return F.mse_loss(self.net(noisy, time), noise)

    def _predicted(self, x: Tensor, time: Tensor) -> Tensor:
        if not self.freeze:
            learning: Tensor = self.net(x, time)
            return learning
        fixed = {key: value.detach() for key, value in self.net.named_parameters()}
        frozen: Tensor = functional_call(self.net, fixed, (x, time))
        return frozen
