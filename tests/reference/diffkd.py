"""Knowledge diffusion, Huang et al. 2023, from the equations, with batch norm in training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

CASES: list[dict[str, Any]] = [
    {},
    {"on": "maps", "latent": 12, "steps": 3, "autoencoder_weight": 0.3},
    {"on": "maps", "latent": 8, "steps": 1, "diffusion_weight": 0.5, "freeze_noise_net": True},
    {"on": "logits", "temperature": 4.0, "steps": 10},
    {"on": "logits", "distance": "dist", "temperature": 2.0, "steps": 2},
    {"distance": "dist", "freeze_noise_net": True},
]
_RANDOM = "each image gets noise of its own, drawn in the order of the batch"
BREAKS = {"order": _RANDOM, "mean": _RANDOM}

AB = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))


def averaged(maps: Any, height: int, width: int) -> Any:
    """Cut (B, C, H, W) into height x width boxes that cover it, and take each one's mean."""
    h, w = maps.shape[2:]
    out = np.empty((*maps.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, math.ceil((i + 1) * h / height))
            columns = slice(j * w // width, math.ceil((j + 1) * w / width))
            out[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return out


class Learned:
    """The parameters under a name, and the layers they make."""

    def __init__(self, values: Any, name: str) -> None:
        self.values, self.name = values, name

    def __getitem__(self, key: str) -> Any:
        return self.values[f"{self.name}.{key}"]

    def has(self, key: str) -> bool:
        return f"{self.name}.{key}" in self.values

    def conv(self, key: str, x: Any) -> Any:
        """A convolution of odd kernel that keeps the size, zeros around the map."""
        weight = self[f"{key}.weight"]
        around = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
        h, w = x.shape[2:]
        out = np.zeros((len(x), len(weight), h, w))
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                window = padded[:, :, i : i + h, j : j + w]
                out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], window)
        if self.has(f"{key}.bias"):
            out += self[f"{key}.bias"][None, :, None, None]
        return out

    def cb(self, key: str, x: Any) -> Any:
        """Convolution, then batch norm with the batch's own mean and biased variance."""
        y = self.conv(f"{key}.0", x)
        y = (y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
        weight, bias = self[f"{key}.1.weight"], self[f"{key}.1.bias"]
        return y * weight[None, :, None, None] + bias[None, :, None, None]

    def res(self, key: str, x: Any) -> Any:
        """A residual block of three convolutions."""
        y = np.maximum(self.cb(f"{key}.change.0", x), 0)
        y = np.maximum(self.cb(f"{key}.change.2", y), 0)
        return x + self.cb(f"{key}.change.4", y)

    def e(self, x: Any, t: Any, vector: bool) -> Any:
        """The noise predicted in x at times t."""
        x = x + self["net.time.weight"][t][:, :, None, None]
        if vector:
            x = self.cb("net.layers.2", np.maximum(self.cb("net.layers.0", x), 0))
            return self.conv("net.layers.5", np.maximum(self.cb("net.layers.3", x), 0))
        return self.cb("net.layers.2", self.res("net.layers.1", self.res("net.layers.0", x)))

    def gamma(self, x: Any, vector: bool) -> Any:
        """The share of the signal, one number an image."""
        if vector:
            y = self.cb("gate.layers.2", np.maximum(self.cb("gate.layers.0", x), 0))
        else:
            y = self.res("gate.layers", x)
        z = y.mean((2, 3)) @ self["gate.head.weight"].T + self["gate.head.bias"]
        return np.exp(z[:, 0]) / (np.exp(z[:, 0]) + np.exp(z[:, 1]))


def normal(*shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.float64).numpy()


def branch(net: Learned, s: Any, t: Any, vector: bool, steps: int) -> tuple[Any, Any, float, float]:
    """The student's refined map, the target, and the losses of diffusion and autoencoder."""
    target, code_loss = t, 0.0
    if net.has("decoder.weight"):
        target = net.cb("encoder", t)
        code_loss = ((net.conv("decoder", target) - t) ** 2).mean()
    x = net.conv("adapter", s)
    gamma = net.gamma(x, vector)[:, None, None, None]
    x = gamma * x + (1 - gamma) * normal(*x.shape)
    stride = 1000 // (2 * steps)
    for i in range(steps):
        t_i = (steps - 1 - i) * stride
        noise = net.e(x, np.full(len(x), t_i), vector)
        clean = (x - math.sqrt(1 - AB[t_i]) * noise) / math.sqrt(AB[t_i])
        previous = AB[t_i - stride] if t_i >= stride else 1.0
        x = math.sqrt(previous) * clean + math.sqrt(1 - previous) * noise
    n = normal(*target.shape)
    times = torch.randint(1000, (len(target),)).numpy()
    ab = AB[times][:, None, None, None]
    noise_loss = (
        (net.e(np.sqrt(ab) * target + np.sqrt(1 - ab) * n, times, vector) - n) ** 2
    ).mean()
    return net.cb("last", x), target, noise_loss, code_loss


def softened(z: Any, temperature: float) -> Any:
    p = np.exp(z / temperature)
    return p / p.sum(1, keepdims=True)


def pearson(a: Any, b: Any) -> float:
    a, b = a - a.mean(), b - b.mean()
    lengths = np.sqrt(a @ a), np.sqrt(b @ b)
    return float(a @ b / (lengths[0] * lengths[1])) if min(lengths) >= 1e-4 else 0.0


def distance(r: Any, t: Any, kind: str, temperature: float) -> float:
    """Of logits (B, K)."""
    p, q = softened(r, temperature), softened(t, temperature)
    if kind == "kl":
        return float(temperature**2 * (q * np.log(q / p)).sum() / len(p))
    rows = np.mean([1 - pearson(a, b) for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - pearson(a, b) for a, b in zip(p.T, q.T, strict=True)])
    return float(temperature**2 * (rows + columns))


def loss(student: Any, teacher: Any, batch: Any, learned: Any, **options: Any) -> float:
    """Distance, diffusion and autoencoder loss of the last maps, then of the logits."""
    torch.manual_seed(1)
    on, steps = options.get("on", "both"), options.get("steps", 5)
    a, b = options.get("diffusion_weight", 1.0), options.get("autoencoder_weight", 1.0)
    total = 0.0
    if on != "logits":
        s, t = student.stages[-1], teacher.stages[-1]
        size = [min(pair) for pair in zip(s.shape[2:], t.shape[2:], strict=True)]
        s, t = averaged(s, *size), averaged(t, *size)
        r, target, noise, code = branch(Learned(learned, "branches.maps"), s, t, False, steps)
        total += ((r - target) ** 2).mean() + a * noise + b * code
    if on != "maps":
        s, t = student.logits[:, :, None, None], teacher.logits[:, :, None, None]
        r, target, noise, _ = branch(Learned(learned, "branches.logits"), s, t, True, steps)
        kind, temperature = options.get("distance", "kl"), options.get("temperature", 1.0)
        total += distance(r[:, :, 0, 0], target[:, :, 0, 0], kind, temperature) + a * noise
    return float(total)
