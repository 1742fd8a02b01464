"""A student's step when some of the teacher's answers are there already, beside the floor's.

    cold     the first student of a teacher, 240 epochs of CIFAR's views: 162 of each image
    hot      the second one, which finds what the first one's epochs left
    shared   four methods side by side, that share the first run's answers; each one's part

How many answers are there grows from epoch to epoch, and a step does not become shorter in the same
measure: few missing images are computed as sixteen. So the steps of a round are those of epochs
evenly spread over the run, each with the share of its batch remembered beforehand that its epoch
would find. Looking up, computing what is missing and writing it are in the time. The file has room
for CIFAR's 50,000 images; what a round reads of it is in the system's memory, as it would be.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from floor import BATCH
from loops import EPOCHS, METHODS, SHIFT, Pair, Say, Setting, batches, several, together, whole
from numpy.typing import NDArray
from pairing import clocks, ratio

from edgekd.data import Batch, Loader
from edgekd.models import Backbone
from edgekd.recipe import Train
from edgekd.trainer import Task
from edgekd.trainer.asking import Asker
from edgekd.trainer.learner import Teacher
from edgekd.trainer.memo import Memo
from edgekd.trainer.precision import resolve

STEPS = 4
"""Of a round, one for each quarter of the run."""
VIEWS = SHIFT.views
"""Of an image: 9 x 9 offsets, mirrored and not."""
ROOM = 20 * 10**9
"""Bytes, more than all answers take: how many they are is printed, beside ``train.cache_gb``."""


class State(NamedTuple):
    """What was there before."""

    epochs: int
    """How many epochs earlier students of this teacher saw."""
    methods: Sequence[str] = METHODS[:1]
    """Of the students that train side by side."""


STATES = {"cold": State(0), "hot": State(EPOCHS), "shared": State(0, METHODS)}


def cached(state: str, pair: Pair, rounds: int, images: int) -> None:
    """Print a student's step with the cache and without, by both clocks, and the share of hits.

    Raises:
        SystemExit: the answers are not kept here, and why.
    """
    before, methods = STATES[state]
    (teacher, _), plain, refused = pair.networks(), pair.floor(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder, "students"), "auto", images, pair.side)
        setting.folder.mkdir()
        memo = Memo(Path(folder, "answers"), lambda: "0" * 32, ROOM)
        given: dict[str, Memo | None] = {"edgekd": memo, "without": None}
        work, tasks = {"floor": several(plain, STEPS)}, dict[str, list[Task]]()
        for how, kept in given.items():
            tasks[how] = [
                setting.task(teacher, pair.networks()[1], each, memo=kept) for each in methods
            ]
            step = whole if len(methods) == 1 else together
            work[how] = several(step(tasks[how], refused.append), STEPS)
        work["edgekd"]()  # the first batch is computed whole, and tried against parts of it
        asker = _asker(tasks["edgekd"], teacher, memo, refused.append)
        hits = _remember(asker, setting.loaders.train, before, rounds)
        timed = clocks({**work, "null": work["floor"]}, rounds)
        looked = _everything_is_there(asker, setting.loaders.train, rounds)
        full = sum(file.stat().st_size for file in memo.folder.rglob("*.rows")) / 1e9
    if refused or not looked:
        sys.exit(" ".join(refused) or "the students did not keep the answers that were missing")
    floor = 1000 * statistics.median(timed[0]["floor"]) / STEPS
    text = f"{', '.join(methods)}, in {resolve('auto')}, floor {floor:.3g} CPU ms a step"
    print(f"cache-{state}: {pair}, {text}")
    print(
        f"  {hits:.1%} of the answers were there; a run of {EPOCHS} epochs expects "
        f"{expected(before, EPOCHS, VIEWS):.1%} of {VIEWS} views an image; "
        f"all of {images:,} images' take {full:.2f} GB, train.cache_gb is {Train().cache_gb:g}"
    )
    print(f"  {'a step of a student':<38} CPU time               wall time")
    for text, how, students in (
        ("with the cache, over the floor", "edgekd", len(methods)),
        ("without it, over the floor", "without", len(methods)),
        ("null (floor again)", "null", 1),
    ):
        each = [{**t, how: [s / students for s in t[how]]} for t in timed]
        print(f"  {text:<38} {'  '.join(ratio(times, how, 'floor') for times in each)}")


def _asker(tasks: Sequence[Task], backbone: Backbone, memo: Memo, say: Say) -> Asker:
    """One that keeps answers where the students do.

    It is asked about the first batch, which the students have seen: what they kept must be what is
    said here, bit for bit.
    """
    loader, precision = tasks[0].loaders.train, resolve("auto")
    needs = frozenset[str]().union(*(task.method.needs for task in tasks))
    teacher = Teacher(backbone, tasks[0].student.preprocess, _Looks(needs))
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    given: dict[str, Any] = {"precision": precision, "memo": memo, "loader": loader}
    computing = half if precision == "bf16" else nullcontext
    made = Asker(teacher, computing, **given, epochs=EPOCHS, say=say)
    made.ask(next(batches(loader)))
    return made


def _remember(asker: Asker, loader: Loader, before: int, rounds: int) -> float:
    """Ask about a share of each batch that the rounds will show, so that the answers are kept.

    Returns:
        The share of answers that the rounds which count will find.
    """
    draw, share, found = np.random.default_rng(0), shares(before), list[float]()
    for number, batch in enumerate(_coming(loader, rounds)):
        rows = np.flatnonzero(draw.random(BATCH) < share[number % STEPS])
        if len(rows):
            asker.ask(_some(batch, np.resize(rows, BATCH)))
        if number >= STEPS:  # the first round warms up
            found.append(len(rows) / BATCH)
    return statistics.mean(found)


def _everything_is_there(asker: Asker, loader: Loader, rounds: int) -> bool:
    """Whether the students kept what was missing; who does not look keeps nothing, either."""
    asker.hits()  # which begins to count anew
    for batch in _coming(loader, rounds):
        asker.ask(batch)
    return asker.hits() == 1


def _coming(loader: Loader, rounds: int) -> Iterator[Batch]:
    """The batches of the round that warms up and of those that count."""
    return islice(batches(loader), STEPS, STEPS * (2 + rounds))


def _some(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """A batch of these images of a batch, some of them several times."""
    chosen = torch.from_numpy(rows)
    assert batch.key is not None
    image = batch.image.permute(0, 2, 3, 1)[chosen].permute(0, 3, 1, 2)  # stays channels last
    return Batch(image, batch.target[chosen], batch.index[chosen], key=batch.key[chosen])


@dataclass(frozen=True)
class _Looks:
    """What several methods look at."""

    needs: frozenset[str]


def expected(before: int, epochs: int, views: int) -> float:
    """Share of answers that a run of so many epochs finds, after ``before`` epochs of others.

    A view is drawn anew each time; that it was drawn in ``t`` epochs has probability
    ``1 - (1 - 1 / views) ** t``, of which this is the mean over the run.
    """
    absent = 1 - 1 / views
    return 1 - sum(absent ** (before + epoch) for epoch in range(epochs)) / epochs


def shares(before: int, views: int = VIEWS) -> list[float]:
    """The same of single epochs, those in the middle of each part of the run."""
    middles = [before + (part + 0.5) * EPOCHS / STEPS for part in range(STEPS)]
    return [1 - (1 - 1 / views) ** epoch for epoch in middles]
