"""One training step against the naive floor, interleaved in one process, on one thread.

The floor is the least any toolkit does in plain PyTorch: teacher forward, student forward and
backward, SGD; fp32, NCHW, eager, on a tensor that is already there. edgekd's step is the trainer's
own, its loader and augmentation included. ``null`` is the floor once more: its spread is the noise.

    python tools/bench/step.py                     all parts, each in a process of its own
    python tools/bench/step.py --part bf16         goal G1; fp32: goal G3
    python tools/bench/step.py --part harness      goal G2: a network that costs next to nothing
    python tools/bench/step.py --part peers        loops of the shape of known toolkits, beside
    python tools/bench/step.py --part shared-bf16  students that share a teacher (sharing.py)
    python tools/bench/step.py --cache cold        goal G5: a teacher's answers kept (caching.py)
    python tools/bench/step.py --quick             the same on tiny networks, to see that it works
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path

from caching import STATES, cached
from floor import BATCH, floor
from loops import FOUND, QUICK, Pair, Setting, bare, several, stub, whole
from pairing import Times, interleaved, machine, on_one_core, ratio
from peers import WATCHES, peer, usual_batches
from sharing import shared

from edgekd.trainer.precision import has_bf16, resolve

SMALLER = Pair("resnet32x4", "resnet20")
"""A pair whose student is smaller yet, next to which the teacher weighs more."""


def main() -> None:
    """Run one part, or every part in a process of its own: a process trains in one precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0, help="6, or 1 with --quick")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--cache", choices=STATES, help="the part cache-...")
    asked = parser.parse_args()
    on_one_core()
    part = f"cache-{asked.cache}" if asked.cache else asked.part
    rounds = asked.rounds or (1 if asked.quick else 6)
    if part is not None:
        print(machine("torchvision", "pillow"))
        PARTS[part](rounds, asked.quick)
        return
    for each in PARTS:
        if each.endswith("bf16") and not has_bf16():
            print(f"{each}: left out, as this machine only emulates bf16")
            continue
        own = [sys.executable, __file__, "--part", each, "--rounds", str(rounds)]
        subprocess.run(own + ["--quick"] * asked.quick, check=True)


def _step(precision: str, rounds: int, quick: bool) -> None:
    pair, steps = (QUICK, 1) if quick else (FOUND, 4)
    plain = pair.floor()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder), precision, side=pair.side)
        work = {"floor": plain, "edgekd": whole([setting.task(*pair.networks())]), "null": plain}
        taken = _taken(work, rounds, steps)
    print(f"{precision}: {pair}, {_floor(taken, steps)}")
    print(f"  edgekd, loader and augmentation included  {ratio(taken, 'edgekd', 'floor')}")
    print(f"  null (floor again)                        {ratio(taken, 'null', 'floor')}")


def _peers(rounds: int, quick: bool) -> None:
    """The whole step of each, loaders included; edgekd's as ``--precision auto`` has it."""
    pair, steps = (QUICK, 1) if quick else (FOUND, 2)
    plain = pair.floor()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder), side=pair.side)
        work = {"floor": plain, "edgekd": whole([setting.task(*pair.networks())])}
        for name, watch in WATCHES.items():
            teacher, student = (each.model for each in pair.networks())
            drawn = usual_batches(setting.pictures, BATCH)
            work[name] = peer(teacher, student, drawn, watch())
        taken = _taken({**work, "null": plain}, rounds, steps)
    print(f"peers: {pair}, {_floor(taken, steps)}; loaders included, without workers")
    precision = resolve("auto")
    for name in (*WATCHES, "edgekd", "null"):
        also = (
            f", {ratio(taken, name, 'edgekd')} of edgekd in {precision}" if name in WATCHES else ""
        )
        print(f"  {name:<13} {ratio(taken, name, 'floor')} of the floor{also}")


def _harness(rounds: int, quick: bool) -> None:
    """What a loop adds to a network that costs next to nothing."""
    steps, side = (5, QUICK.side) if quick else (200, FOUND.side)
    plain = floor(stub(side).model, stub(side).model, (BATCH, 3, side, side))
    with tempfile.TemporaryDirectory() as folder:
        # as many images as CIFAR has, so that epochs end no more often than there
        setting = Setting(Path(folder), "fp32", 512 if quick else 50_000, side)
        work = {
            "floor": plain,
            "edgekd": bare(setting.task(stub(side), stub(side))),
            "edgekd, loader": whole([setting.task(stub(side), stub(side))]),
        }
        for name, watch in WATCHES.items():
            drawn = usual_batches(setting.pictures, BATCH)
            for how, given in ((name, repeat(next(drawn))), (f"{name}, loader", drawn)):
                work[how] = peer(stub(side).model, stub(side).model, given, watch())
        taken = _taken({**work, "null": plain}, rounds, steps)
    print(f"harness alone, a network of one linear layer, {_floor(taken, steps)}, batch {BATCH}")
    for name in (*list(work)[1:], "null"):
        extra = [1000 * (a - b) / steps for a, b in zip(taken[name], taken["floor"], strict=True)]
        low, middle, high = min(extra), statistics.median(extra), max(extra)
        print(f"  {name:<21} {middle:+.3f} ms a step over the floor [{low:+.3f}, {high:+.3f}]")


def _shared(precision: str, rounds: int, quick: bool) -> None:
    for pair in [QUICK] if quick else [FOUND, SMALLER]:
        shared(precision, pair, rounds)


def _cached(state: str, rounds: int, quick: bool) -> None:
    cached(state, QUICK if quick else FOUND, rounds, 512 if quick else 50_000)


def _taken(work: Mapping[str, Callable[[], None]], rounds: int, steps: int) -> Times:
    return interleaved({name: several(step, steps) for name, step in work.items()}, rounds)


def _floor(taken: Times, steps: int) -> str:
    return f"floor {1000 * statistics.median(taken['floor']) / steps:.3g} CPU ms a step"


PARTS: Mapping[str, Callable[[int, bool], None]] = {
    "bf16": partial(_step, "bf16"),
    "fp32": partial(_step, "fp32"),
    "harness": _harness,
    "peers": _peers,
    "shared-bf16": partial(_shared, "bf16"),
    "shared-fp32": partial(_shared, "fp32"),
    **{f"cache-{state}": partial(_cached, state) for state in STATES},
}
"""Each is given the rounds to take, and whether networks are to be tiny."""


if __name__ == "__main__":
    main()
