"""edgekd's step on a GPU beside a loop of the usual shape, and how long a whole run would take.

Goals G8 and G10: images a second at batches of 64 and 256, their share of what the GPU multiplies
in bf16 (measured here, on large matrices), and the time of a run of 240 epochs of CIFAR's size,
from a few measured ones. What is timed side by side takes turns, by the GPU's own clock; ``null``
is edgekd once more, and its distance from the first is the noise. The usual loop is that of
``peers.py``: PIL images from worker processes, fp32 with TF32 as PyTorch sets it, a number read
back in every step.

    python tools/bench/gpu.py            resnet32x4 -> resnet8x4, 50,000 images of noise
    python tools/bench/gpu.py --quick    tiny networks and few steps, to see that it works
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from loops import EPOCHS, FOUND, METHODS, QUICK, SHIFT, Pair, Setting, batches, several
from pairing import Times, machine, ratio
from peers import WATCHES, peer, usual_batches
from torch.utils.flop_counter import FlopCounterMode

from edgekd.loading import Loaders
from edgekd.loading.memory import TrainLoader
from edgekd.loading.on_gpu import placed
from edgekd.trainer import Task, Trainer
from edgekd.trainer.collective import device

SIZES = (64, 256)
"""Images a step: what the published recipes take, and what a GPU is fuller with."""
IMAGES = 50_000
WORKERS = (2, 16)
"""Of the usual loop: as one of the known toolkits starts them, and one a core."""
SIDE = 8192
"""Of the matrices the GPU is asked to multiply."""

Elapsed = Callable[[Callable[[], object]], float]
"""Milliseconds that something takes."""


def main() -> int:
    """Print a table for each batch size, and the line of a whole run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0, help="5, or 1 with --quick")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "there is no GPU here, and what this times is one; run it where there is",
            file=sys.stderr,
        )
        return 2
    pair, steps = (QUICK, 3) if asked.quick else (FOUND, 100)
    rounds, images = asked.rounds or (1 if asked.quick else 5), 1024 if asked.quick else IMAGES
    work, peak = work_per_image(pair), multiplied(1024 if asked.quick else SIDE)
    print(machine("torchvision", "pillow"))
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bf16 on large matrices")
    print(f"{pair}: {work / 1e9:.3f} GFLOP an image, teacher forward, student forward and backward")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            taken = side_by_side(pair, size, images, Path(folder), steps, rounds, by_events)
        print("\n".join(table(taken, size, steps, work, peak)))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trainer, task = _trainer(pair, SIZES[0], images, Path(folder), compiled=True)
        start, spent = (
            time.perf_counter() - began,
            epochs_of(trainer, task, 2 if asked.quick else 4),
        )
    print(run_line(Run(start, tuple(spent[1:])), images, work, peak))
    return 0


def work_per_image(pair: Pair) -> float:
    """Floating-point operations, two for each product, of one image's step; counted on shapes."""
    teacher, student = (network.model.to("meta") for network in pair.networks())
    image = torch.zeros(2, 3, pair.side, pair.side, device="meta")
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            teacher.eval()(image)
        student.train()(image).sum().backward()
    return float(counter.get_total_flops()) / len(image)


def multiplied(side: int) -> float:
    """Operations a second of a product of two square bf16 matrices; the best of a few."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = [by_events(lambda: a @ b) for _ in range(12)]
    return 2 * side**3 / (min(times[2:]) / 1000)


def by_events(work: Callable[[], object]) -> float:
    """Milliseconds by the GPU's clock, from before the work until all of it is done."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def side_by_side(
    pair: Pair,
    size: int,
    images: int,
    folder: Path,
    steps: int,
    rounds: int,
    elapsed: Elapsed,
    workers: Sequence[int] = WORKERS,
    compiles: bool = True,
) -> Times:
    """Milliseconds of ``steps`` steps of each, in turn, every second round backwards."""
    ways = {"edgekd": False, "edgekd, compiled": True, "null": compiles}
    work: dict[str, Callable[[], None]] = {}
    for name in ways if compiles else ("edgekd", "null"):
        trainer, task = _trainer(pair, size, images, folder, compiled=ways[name])
        work[name], device = _step(trainer, task), trainer.device
    pictures = Setting(folder, images=images, side=pair.side).pictures
    for count in workers:
        teacher, student = (network.model.to(device) for network in pair.networks())
        given = usual_batches(pictures, size, count)
        usual = peer(teacher, student, given, WATCHES["mdistiller"](), device)
        work[f"usual, {count} workers"] = _usually(usual, device)
    timed = {name: several(do, steps) for name, do in work.items()}
    taken: Times = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name in list(timed) if number % 2 else reversed(list(timed)):
            taken[name].append(elapsed(timed[name]))
    return {name: times[1:] for name, times in taken.items()}  # the first round warms up


def table(taken: Times, size: int, steps: int, work: float, peak: float) -> list[str]:
    """A line for each, with ratios to the fastest of edgekd's."""
    best = "edgekd, compiled" if "edgekd, compiled" in taken else "edgekd"
    rows = [f"batch {size}"]
    for name, times in taken.items():
        speed = size * steps / (statistics.median(times) / 1000)
        share = speed * work / peak
        rows.append(
            f"  {name:<18} {speed:>9,.0f} images/s  {share:6.1%} of bf16  "
            f"{ratio(taken, name, best)} of {best}"
        )
    return rows


@dataclass(frozen=True)
class Run:
    """What was measured of a run, in seconds."""

    start: float
    """Until the first step: compiling, and the proof of it."""
    epochs: tuple[float, ...]
    """Each with its evaluation, after one that warmed up."""

    def whole(self, epochs: int) -> float:
        """Of so many epochs."""
        return self.start + epochs * statistics.median(self.epochs)


def run_line(run: Run, images: int, work: float, peak: float) -> str:
    """What a run of the published length comes to."""
    seconds, total = run.whole(EPOCHS), EPOCHS * images * work
    return (
        f"{EPOCHS} epochs of {images:,} images, batch {SIZES[0]}: {seconds:.0f} s "
        f"({run.start:.0f} s of it to start), from {len(run.epochs)} epochs of "
        f"{min(run.epochs):.2f} to {max(run.epochs):.2f} s; {total / 1e15:.2f} PFLOP, "
        f"{total / seconds / peak:.1%} of bf16"
    )


def epochs_of(trainer: Trainer, task: Task, count: int) -> list[float]:
    """Seconds of each epoch, with all that a training does in it."""
    spent = []
    for epoch in range(count):
        began = time.perf_counter()
        for batch in task.loaders.train.epoch(epoch):
            trainer.advance(batch)
            trainer.attend()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return spent


def _task(pair: Pair, size: int, images: int, folder: Path, compiled: bool = False) -> Task:
    setting = Setting(folder, "auto", images, pair.side)
    task = setting.task(*pair.networks(), METHODS[0])
    kept = setting.loaders
    plan = TrainLoader(setting.pictures, task.student.preprocess, size, SHIFT, 0)
    given = placed((plan, kept.validation, kept.test), device())
    train = replace(task.train, batch_size=size, compile=compiled)
    return replace(task, loaders=Loaders(*given), train=train)


def _trainer(
    pair: Pair, size: int, images: int, folder: Path, *, compiled: bool
) -> tuple[Trainer, Task]:
    task = _task(pair, size, images, folder, compiled)
    return Trainer(task, say=print), task


def _step(trainer: Trainer, task: Task) -> Callable[[], None]:
    drawn = batches(task.loaders.train)

    def step() -> None:
        trainer.advance(next(drawn))
        trainer.attend()

    return step


def _usually(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A step under the switches of PyTorch that the known toolkits leave alone, or set."""

    def switched() -> None:
        cudnn = torch.backends.cudnn
        before, cudnn.allow_tf32, cudnn.benchmark = cudnn.allow_tf32, True, True
        try:
            step()
        finally:
            cudnn.allow_tf32 = before

    return switched if device.type == "cuda" else step


if __name__ == "__main__":
    sys.exit(main())
