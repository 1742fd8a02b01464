"""Neither the memory of answers nor several students side by side wait for a number in a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from edgekd.trainer import Task, Together, Trainer
from edgekd.trainer.memo import Memo
from tests.trainer.test_loop import Waits

MakeTask = Callable[..., Task]
STEPS = 50


def test_remembering_waits_for_no_number(task: MakeTask, tmp_path: Path) -> None:
    """What is looked up, computed and written belongs to keys that are on the CPU already.

    The first step tries the memory, and reads from the device to do so.
    """
    for turn in ("cold", "hot"):
        made = replace(task("ce + kd", turn, teacher="resnet8"), memo=_memo(tmp_path))
        said: list[str] = []
        trainer = Trainer(made, say=said.append)
        first, *ready = _batches(made, 1 + STEPS)
        trainer.advance(first)
        found = Waits()
        with found:
            for batch in ready:
                trainer.advance(batch)
        assert found.found == []
        asker = trainer._engine.asker
        assert asker is not None
        assert (asker.hits() or 0) > {"cold": 0.0, "hot": 0.99}[turn], said
        asker.finish()


def test_students_side_by_side_wait_for_no_number(task: MakeTask) -> None:
    tasks = [task(text, text[-1], teacher="resnet8", log_steps=1000) for text in ("ce", "ce + kd")]
    tasks = [replace(made, loaders=tasks[0].loaders) for made in tasks]
    together = Together(tasks, [lambda done, total, note: None] * 2)
    ready = _batches(tasks[0], 2 * STEPS)
    per_epoch = len(tasks[0].loaders.train)
    found, shared = Waits(), 0
    for step, batch in enumerate(ready[: 3 * per_epoch]):
        if (step + 1) % per_epoch == 0:  # a log point, where numbers are what is wanted
            assert together.share(batch, step)
            continue
        with found:
            assert together.share(batch, step)
        shared += 1
    assert shared == 3 * (per_epoch - 1)
    assert found.found == []


def _memo(folder: Path) -> Memo:
    return Memo(folder / "answers", lambda: "0" * 32, 10**8)


def _batches(made: Task, steps: int) -> list:  # type: ignore[type-arg]
    loader = made.loaders.train
    return list(islice((batch for epoch in count() for batch in loader.epoch(epoch)), steps))
