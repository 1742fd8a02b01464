"""The floor: the least that any toolkit does in plain PyTorch for one step of distillation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, BATCH = 100, 64


def floor(
    teacher: nn.Module,
    student: nn.Module,
    shape: tuple[int, ...] = (BATCH, 3, 32, 32),
    classes: int = CLASSES,
) -> Callable[[], None]:
    """One step on a batch of that shape, which is there already; fp32, NCHW, eager."""
    teacher.eval()
    optimizer = sgd(student)
    image, target = torch.randn(shape), torch.randint(0, classes, (shape[0],))

    def step() -> None:
        with torch.no_grad():
            shown = teacher(image)
        loss = plain_loss(student(image), shown, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def plain_loss(logits: Tensor, shown: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and 0.9 of Hinton's term at temperature 4; logits (B, K), target (B,)."""
    return F.cross_entropy(logits, target) + 0.9 * 16 * F.kl_div(
        F.log_softmax(logits / 4, 1), F.softmax(shown / 4, 1), reduction="batchmean"
    )


def sgd(student: nn.Module) -> torch.optim.SGD:
    """As the published recipes have it."""
    return torch.optim.SGD(student.parameters(), 0.01, 0.9, weight_decay=5e-4)
