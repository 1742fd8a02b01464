"""Students that share one look at the teacher a batch, beside trainings of their own.

``edgekd compare`` of four methods trains five students, the student alone with them: that is the
second row; the first is the four methods without it. With ``--share-batches`` the seeds of one
method share the teacher as well: the third.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from loops import METHODS, Pair, Setting, together, whole
from pairing import Times, clocks, ratio

from edgekd.trainer import Task

ALONE = "ce"
SEEDS = 3
ROWS = {
    "four methods together, over 4 singles": ("four", "singles"),
    "five with the student alone, as compare does, over 5 singles": ("five", "singles and alone"),
    "three seeds of one method together, over 3 singles": ("seeds", f"single {METHODS[0]}"),
    "four methods together, over the floor": ("four", "floor"),
    "four singles, over the floor": ("singles", "floor"),
    "null (floor again)": ("null", "floor"),
}


def shared(precision: str, pair: Pair, rounds: int) -> None:
    """Print a student's step of each kind, by both clocks."""
    plain = pair.floor()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder), precision, side=pair.side)
        timed = clocks({"floor": plain, **_work(pair, setting), "null": plain}, rounds)
    print(f"{precision}: {pair}, {', '.join(METHODS)}")
    print(f"  {'a step of a student':<60} CPU time               wall time")
    each = [_a_student(times) for times in timed]
    for text, (one, other) in ROWS.items():
        print(f"  {text:<60} {'  '.join(ratio(times, one, other) for times in each)}")


def _work(pair: Pair, setting: Setting) -> Mapping[str, Callable[[], None]]:
    teacher, _ = pair.networks()

    def task(text: str, seed: int = 0) -> Task:
        return setting.task(teacher, pair.networks()[1], text, seed=seed)

    return {
        **{f"single {text}": whole([task(text)]) for text in (*METHODS, ALONE)},
        "four": together([task(text) for text in METHODS]),
        "five": together([task(text) for text in (*METHODS, ALONE)]),
        "seeds": together([task(METHODS[0], seed) for seed in range(SEEDS)]),
    }


def _a_student(times: Times) -> Times:
    """What one student's share of each step took."""
    singles = [times[f"single {text}"] for text in METHODS]
    mean = [sum(each) / 4 for each in zip(*singles, strict=True)]
    alone = zip(mean, times[f"single {ALONE}"], strict=True)
    students = {"four": 4, "five": 5, "seeds": SEEDS}
    return {
        **times,
        "singles": mean,
        "singles and alone": [(4 * four + one) / 5 for four, one in alone],
        **{how: [each / count for each in times[how]] for how, count in students.items()},
    }
