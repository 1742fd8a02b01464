"""One training step against the naive floor, interleaved in one process, on one thread.

The floor is the least any toolkit does in plain PyTorch: teacher forward, student forward and
backward, SGD; fp32, NCHW, eager, on a tensor that is already there. edgekd's step is the trainer's
own, its loader and augmentation included. ``null`` is the floor once more: its spread is the noise.

``shared``: students that share one look at the teacher a batch, beside trainings of their own and
the floor, a student's step each. ``edgekd compare`` of four methods trains five students, the
student alone with them: that is the second row; the first is the four methods without it. Both
pairs of networks are timed, the one of the other parts and one whose student is smaller yet.

    python tools/bench/step.py              goals G1 (bf16), G3 (fp32), G2 (the harness alone), G5
    python tools/bench/step.py --part shared-bf16      one of the parts
    python tools/bench/step.py --quick      the same on tiny networks, to see that it works
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from pairing import interleaved, machine, ratio
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch, Images, Loader
from edgekd.loading import Loaders
from edgekd.loading.memory import EvalLoader, Shift, TrainLoader
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network, Train
from edgekd.trainer import Task, Together, Trainer

CLASSES, BATCH = 100, 64
METHODS = ("ce + 0.9*kd", "ce + dkd", "ce + 2*dist", "ce + 25*rkd")
ALONE = "ce"
PAIRS = (("resnet32x4", "resnet8x4"), ("resnet32x4", "resnet20"))
"""To share the teacher: the pair of the other parts, and one with a smaller student."""
PARTS = ("bf16", "fp32", "harness", "shared-bf16", "shared-fp32")


def main() -> None:
    """Run every part in a process of its own: a process trains in one precision."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--part", choices=PARTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.part is None:
        print(machine())
        for part in PARTS:
            own = [sys.executable, __file__, "--part", part, "--rounds", str(asked.rounds)]
            subprocess.run(own + ["--quick"] * asked.quick, check=True)
    elif asked.part == "harness":
        _harness(asked.rounds, 20 if asked.quick else 200)
    elif asked.part.startswith("shared-"):
        for pair in [("resnet14", "resnet8")] if asked.quick else PAIRS:
            _shared(asked.part.removeprefix("shared-"), pair, asked.rounds)
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


def _shared(precision: str, names: tuple[str, str], rounds: int) -> None:
    plain = floor(_network(names[0]).model, _network(names[1]).model)
    teacher, wall = _network(names[0]), defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as folder:
        tasks = {
            f"{how} {text}": _task(teacher, _network(names[1]), precision, Path(folder, how), text)
            for how in ("single", "four", "five")
            for text in (*METHODS, ALONE)
            if (how, text) != ("four", ALONE)
        }
        work = {name: _single(task) for name, task in tasks.items() if name.startswith("single")}
        for how in ("four", "five"):
            work[how] = _together([t for name, t in tasks.items() if name.startswith(how)])
        work = {"floor": plain, **work, "null": plain}
        taken = interleaved({name: _walled(wall[name], do) for name, do in work.items()}, rounds)
    print(f"{precision}: {names[0]} -> {names[1]}, batch {BATCH}, {', '.join(METHODS)}")
    print(f"  {'a step of a student':<60} CPU time               wall time")
    clocks = taken, {name: times[1:] for name, times in wall.items()}
    for times in clocks:
        singles = [times[f"single {text}"] for text in METHODS]
        times["singles"] = [sum(each) / 4 for each in zip(*singles, strict=True)]
        alone = zip(times["singles"], times[f"single {ALONE}"], strict=True)
        times["singles and alone"] = [(4 * four + one) / 5 for four, one in alone]
        for how, students in (("four", 4), ("five", 5)):
            times[how] = [each / students for each in times[how]]
    rows = {
        "four methods together, over 4 singles": ("four", "singles"),
        "five with the student alone, as compare does, over 5 singles": (
            "five",
            "singles and alone",
        ),
        "four methods together, over the floor": ("four", "floor"),
        "four singles, over the floor": ("singles", "floor"),
        "null (floor again)": ("null", "floor"),
    }
    for text, (one, other) in rows.items():
        print(f"  {text:<60} {'  '.join(ratio(times, one, other) for times in clocks)}")


def _walled(noted: list[float], work: Callable[[], None]) -> Callable[[], None]:
    """Note what it took by the clock on the wall, too."""

    def timed() -> None:
        begin = time.perf_counter()
        work()
        noted.append(time.perf_counter() - begin)

    return timed


def _single(task: Task) -> Callable[[], None]:
    trainer, batches = Trainer(task), _batches(task.loaders.train)

    def step() -> None:
        trainer.advance(next(batches))
        trainer.attend()

    return step


def _together(tasks: Sequence[Task]) -> Callable[[], None]:
    made = Together(tasks, [lambda done, total, note: None] * len(tasks))
    numbered = enumerate(_batches(tasks[0].loaders.train))

    def step() -> None:
        number, batch = next(numbered)
        assert made.share(batch, number)

    return step


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
    task = _task(teacher, student, precision, folder, METHODS[0])
    trainer = Trainer(task)
    batches = _batches(task.loaders.train)
    ready = next(batches)
    return lambda: trainer.advance(next(batches) if with_loader else ready)


def _task(teacher: Backbone, student: Backbone, precision: str, folder: Path, text: str) -> Task:
    folder = folder / "".join(filter(str.isalnum, text))
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (4096, 32, 32, 3), dtype=np.uint8)
    images = Images(pixels, draw.integers(0, CLASSES, 4096))
    train = Train(epochs=1000, batch_size=BATCH, precision=precision, warmup_epochs=0)
    loader = TrainLoader(images, student.preprocess, BATCH, Shift(4, True), 0)
    rest = EvalLoader(Images(pixels[:8], images.targets[:8]), student.preprocess)
    loaded = Loaders(loader, rest, rest)
    return Task(student, teacher, Method.parse(text), loaded, train, folder, "bench")


def _batches(loader: Loader) -> Iterator[Batch]:
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
