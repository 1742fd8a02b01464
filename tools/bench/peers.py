"""The shape of the loops of three known toolkits, written anew to be timed beside edgekd's.

mdistiller (at a08d46f), RepDistiller (at b84f547) and torchdistill (at 3e4373c) have in common: a
DataLoader that crops, mirrors and normalises one PIL image after the other with torchvision, fp32,
NCHW, a teacher asked in every step, and a number read back from the device in every step. They
differ in what they keep of these numbers, which is ``WATCHES``; no line is theirs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from statistics import median

import torch
from floor import plain_loss, sgd
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from edgekd.data import Images

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
CPU = torch.device("cpu")

Watch = Callable[[Tensor, Tensor, Tensor], None]
"""Takes the loss, logits (B, K) and target (B,) of a step, and keeps what a progress line shows."""


def usual(side: int = 32) -> transforms.Compose:
    """What all three do to an image of a training."""
    return transforms.Compose(
        [
            transforms.RandomCrop(side, padding=side // 8),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class Pictures(Dataset[tuple[Tensor, int]]):
    """Decoded images, each made a PIL image again and augmented when it is asked for."""

    def __init__(self, images: Images) -> None:
        self._images, self._augment = images, usual(images.pixels.shape[1])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._augment(Image.fromarray(self._images.pixels[index]))
        return image, int(self._images.targets[index])


def usual_batches(images: Images, batch: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch; workers start anew for each, as in all three."""
    loader = DataLoader(Pictures(images), batch, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        yield from loader


def peer(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    watch: Watch,
    device: torch.device = CPU,
) -> Callable[[], None]:
    """One step of such a loop, its loader included."""
    teacher.eval()
    student.train()
    optimizer = sgd(student)

    def step() -> None:
        image, target = (tensor.to(device, non_blocking=True) for tensor in next(batches))
        with torch.no_grad():
            shown = teacher(image)
        logits = student(image)
        loss = plain_loss(logits, shown, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        watch(loss, logits, target)

    return step


def _right(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Shares in percent of which the class is the first, and among the first five."""
    first = logits.topk(min(5, logits.shape[1]), 1).indices == target[:, None]
    return 100 * first[:, 0].float().mean(), 100 * first.any(1).float().mean()


class Means:
    """Running means of the loss and both accuracies, read back one by one."""

    def __init__(self) -> None:
        self._began, self._sums, self._count = time.time(), [0.0] * 3, 0

    def __call__(self, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        size = len(target)
        for place, value in enumerate((loss, *_right(logits.detach(), target))):
            self._sums[place] += value.item() * size
        self._count += size


class Line(Means):
    """The same, and a progress line of them in every step; here it is made and not shown."""

    shown = ""

    def __call__(self, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        super().__call__(loss, logits, target)
        mean, top1, top5 = (each / self._count for each in self._sums)
        spent = time.time() - self._began
        self.shown = f"{spent:.1f} s| loss {mean:.4f}| top-1 {top1:.3f}| top-5 {top5:.3f}"


class Window:
    """The loss alone, as the median of the last twenty."""

    def __init__(self) -> None:
        self._last = deque[float](maxlen=20)
        self._steps = 0

    def __call__(self, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        self._last.append(loss.item())
        self._steps += 1
        if not self._steps % 50:
            median(self._last)


WATCHES: Mapping[str, Callable[[], Watch]] = {
    "mdistiller": Line,
    "RepDistiller": Means,
    "torchdistill": Window,
}
"""What each keeps."""
