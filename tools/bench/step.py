"""One training step against the naive floor, interleaved in one process, on one thread.

The floor is the least any toolkit does in plain PyTorch: teacher forward, student forward and
backward, SGD; fp32, NCHW, eager, on a tensor that is already there. edgekd's step is the trainer's
own, its loader and augmentation included. ``null`` is the floor once more: its spread is the noise.

    python tools/bench/step.py              goals G1 (bf16), G3 (fp32), G2 (the harness alone)
    python tools/bench/step.py --quick      the same on tiny networks, to see that it works
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from pairing import interleaved, machine, ratio
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch, Images
from edgekd.loading import Loaders
from edgekd.loading.memory import EvalLoader, Shift, TrainLoader
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network, Train
from edgekd.trainer import Task, Trainer

CLASSES, BATCH = 100, 64


def main() -> None:
    """Run every part in a process of its own: a process trains in one precision."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--part", choices=["bf16", "fp32", "harness"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.part is None:
        print(machine())
        for part in ("bf16", "fp32", "harness"):
            own = [sys.executable, __file__, "--part", part, "--rounds", str(asked.rounds)]
            subprocess.run(own + ["--quick"] * asked.quick, check=True)
    elif asked.part == "harness":
        _harness(asked.rounds, 20 if asked.quick else 200)
    else:
        names = ("resnet14", "resnet8") if asked.quick else ("resnet32x4", "resnet8x4")
        _step(asked.part, names, asked.rounds, 1 if asked.quick else 4)


def _step(precision: str, names: tuple[str, str], rounds: int, steps: int) -> None:
    teacher, student = (_network(name) for name in names)
    plain = floor(_network(names[0]).model, _network(names[1]).model)
    with tempfile.TemporaryDirectory() as folder:
        ours = _ours(teacher, student, precision, Path(folder), with_loader=True)
        work = {"floor": plain, "edgekd": ours, "null": plain}
        taken = interleaved({k: _times(v, steps) for k, v in work.items()}, rounds)
    each = statistics.median(taken["floor"]) / steps
    print(f"{precision}: {names[0]} -> {names[1]}, batch {BATCH}, floor {each:.3f} CPU s a step")
    print(f"  edgekd, loader and augmentation included  {ratio(taken, 'edgekd', 'floor')}")
    print(f"  null (floor again)                        {ratio(taken, 'null', 'floor')}")


def _harness(rounds: int, steps: int) -> None:
    """What edgekd adds to a network that costs next to nothing."""
    plain = floor(_stub().model, _stub().model)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        bare = _ours(_stub(), _stub(), "fp32", Path(one), with_loader=False)
        full = _ours(_stub(), _stub(), "fp32", Path(other), with_loader=True)
        work = {"floor": plain, "bare": bare, "full": full, "null": plain}
        taken = interleaved({k: _times(v, steps) for k, v in work.items()}, rounds)
    print(f"harness alone, a network of one linear layer, batch {BATCH}")
    for name, text in (("bare", "without loader"), ("full", "with loader"), ("null", "null")):
        extra = [1000 * (a - b) / steps for a, b in zip(taken[name], taken["floor"], strict=True)]
        low, middle, high = min(extra), statistics.median(extra), max(extra)
        print(f"  {text:<15} {middle:+.3f} ms a step over the floor [{low:+.3f}, {high:+.3f}]")


def _times(work: Callable[[], None], steps: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(steps):
            work()

    return several


def floor(
    teacher: nn.Module,
    student: nn.Module,
    shape: tuple[int, ...] = (BATCH, 3, 32, 32),
    classes: int = CLASSES,
) -> Callable[[], None]:
    """One step of the least that plain PyTorch does, on a batch of that shape."""
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), 0.01, 0.9, weight_decay=5e-4)
    image, target = torch.randn(shape), torch.randint(0, classes, (shape[0],))

    def step() -> None:
        with torch.no_grad():
            shown = teacher(image)
        logits: Tensor = student(image)
        loss = F.cross_entropy(logits, target) + 0.9 * 16 * F.kl_div(
            F.log_softmax(logits / 4, 1), F.softmax(shown / 4, 1), reduction="batchmean"
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _ours(
    teacher: Backbone, student: Backbone, precision: str, folder: Path, *, with_loader: bool
) -> Callable[[], None]:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (4096, 32, 32, 3), dtype=np.uint8)
    images = Images(pixels, draw.integers(0, CLASSES, 4096))
    train = Train(epochs=1000, batch_size=BATCH, precision=precision, warmup_epochs=0)
    loader = TrainLoader(images, student.preprocess, BATCH, Shift(4, True), 0)
    rest = EvalLoader(Images(pixels[:8], images.targets[:8]), student.preprocess)
    method = Method.parse("ce + 0.9*kd")
    task = Task(student, teacher, method, Loaders(loader, rest, rest), train, folder, "bench")
    trainer = Trainer(task)
    batches = _batches(loader)
    ready = next(batches)
    return lambda: trainer.advance(next(batches) if with_loader else ready)


def _batches(loader: TrainLoader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.epoch(epoch)


def _network(name: str) -> Backbone:
    return build(Network(name), [str(number) for number in range(CLASSES)])


def _stub() -> Backbone:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    labels = tuple(str(number) for number in range(CLASSES))
    return Backbone("stub", model, Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3), labels)


if __name__ == "__main__":
    main()
