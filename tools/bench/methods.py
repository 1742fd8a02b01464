"""What each method costs: seconds and memory of a training step, beside the naive floor's.

The floor is the least plain PyTorch does: teacher forward, student forward and backward, SGD, fp32,
on a batch that is already there. Each method's step is the trainer's own, in fp32, on the same
batch. Times are interleaved in one process; memory is the peak of a process of its own (Linux).

    python tools/bench/methods.py            a table for a CIFAR pair and one of 224 pixels
    python tools/bench/methods.py --write    and the ratios that edgekd list method shows
    python tools/bench/methods.py --quick    tiny networks, two steps, to see that it works
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from floor import floor
from pairing import interleaved, machine, on_one_core, ratio

from edgekd import plugins
from edgekd.catalogue import COSTS
from edgekd.data import Images
from edgekd.loading import Loaders
from edgekd.loading.memory import EvalLoader, Shift, TrainLoader
from edgekd.methods import Method
from edgekd.models import Backbone, build
from edgekd.recipe import Network, Train
from edgekd.trainer import Task, Trainer

TEXTS = {"ce": "ce", "kd": "ce + kd", "mgd": "mgd(ce + kd)"}
"""What a method is timed as; any other one as itself beside the labels."""


class Pair(NamedTuple):
    """Two networks and a batch."""

    teacher: str
    student: str
    size: int
    batch: int
    classes: int

    def __str__(self) -> str:
        return f"{self.teacher} -> {self.student}, {self.size} px, batch {self.batch}"


PAIRS = {
    "cifar": Pair("resnet32x4", "resnet8x4", 32, 64, 100),
    "224": Pair("resnet34", "resnet18", 224, 8, 1000),
    "quick": Pair("resnet14", "resnet8", 16, 8, 10),
}


def main() -> None:
    """Time every method on each pair, or be the process whose memory is measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pair", choices=PAIRS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    on_one_core()
    if asked.memory_of is not None:
        _run_for_memory(PAIRS[asked.pair], asked.memory_of)
        return
    print(machine())
    chosen = ["quick"] if asked.quick else [asked.pair] if asked.pair else ["cifar", "224"]
    for key in chosen:
        taken = _table(key, 1 if asked.quick else asked.rounds)
        if asked.write and key == chosen[0]:
            _write(PAIRS[key], taken)


def _table(key: str, rounds: int) -> dict[str, list[float]]:
    pair, names = PAIRS[key], list(plugins.summaries("method"))
    with tempfile.TemporaryDirectory() as folder:
        work: dict[str, Callable[[], None]] = {"floor": _floor(pair)}
        work |= {name: _step(pair, name, Path(folder, name)) for name in names}
        taken = interleaved({**work, "null": work["floor"]}, rounds)
    weighed = names[:1] if key == "quick" else names  # each imports PyTorch anew
    memory = {name: _memory_of(key, name) for name in ("floor", *weighed)}
    print(f"\n{pair}: floor {statistics.median(taken['floor']):.3f} CPU s a step, {rounds} rounds")
    print("\n| method | as | step over floor | peak memory over floor, MiB |\n|---|---|---|---|")
    for name in (*names, "null"):
        extra = f"{memory[name] - memory['floor']:+.0f}" if name in memory else ""
        text = "floor again" if name == "null" else TEXTS.get(name, f"ce + {name}")
        print(f"| {name} | {text} | {ratio(taken, name, 'floor')} | {extra} |")
    return taken


def _write(pair: Pair, taken: dict[str, list[float]]) -> None:
    relative = {
        name: statistics.median(a / b for a, b in zip(times, taken["kd"], strict=True))
        for name, times in taken.items()
        if name not in ("floor", "null")
    }
    content = {"pair": str(pair), "relative_to_kd": {n: round(r, 3) for n, r in relative.items()}}
    COSTS.write_text(json.dumps(content, indent=1) + "\n")


def _networks(pair: Pair) -> tuple[Backbone, Backbone]:
    labels = [str(number) for number in range(pair.classes)]
    teacher, student = (build(Network(n), labels, pair.size) for n in (pair.teacher, pair.student))
    return teacher, student


def _floor(pair: Pair) -> Callable[[], None]:
    teacher, student = _networks(pair)
    shape = (pair.batch, 3, pair.size, pair.size)
    return floor(teacher.model, student.model, shape, pair.classes)


def _step(pair: Pair, name: str, folder: Path) -> Callable[[], None]:
    """One step of a method on a batch that is there, after it has studied for an epoch."""
    folder.mkdir(exist_ok=True)
    teacher, student = _networks(pair)
    draw, side = np.random.default_rng(0), (pair.size, pair.size)
    count = 4 * pair.batch
    pixels = draw.integers(0, 256, (count, *side, 3), dtype=np.uint8)
    images = Images(pixels, np.arange(count) % pair.classes)
    loader = TrainLoader(images, student.preprocess, pair.batch, Shift(0, False), 0)
    rest = EvalLoader(Images(pixels[:8], images.targets[:8]), student.preprocess)
    train = Train(epochs=1, batch_size=pair.batch, warmup_epochs=0)
    method = Method.parse(TEXTS.get(name, f"ce + {name}"))
    task = Task(student, teacher, method, Loaders(loader, rest, rest), train, folder, "bench")
    trainer, batch = Trainer(task), next(iter(loader.epoch(0)))
    return lambda: trainer.advance(batch)


def _memory_of(key: str, name: str) -> float:
    """Peak memory in MiB of a process that does two steps."""
    own = [sys.executable, __file__, "--pair", key, "--memory-of", name]
    return float(subprocess.run(own, check=True, capture_output=True, text=True).stdout)


def _run_for_memory(pair: Pair, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step = _floor(pair) if name == "floor" else _step(pair, name, Path(folder, name))
        step()
        step()
    # not getrusage: a child's peak there begins with what its parent held
    status = Path("/proc/self/status").read_text()
    print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)


if __name__ == "__main__":
    main()
