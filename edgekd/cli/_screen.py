"""Screen: progress bars for a person, plain lines for a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from edgekd.cli._streams import enduring
from edgekd.cli._tables import print_line
from edgekd.plain import one_line
from edgekd.world import world

LOG_SECONDS = 30.0
"""A log gets a line when a stage ends, and so often while it lasts."""


class Screen:
    """Draws what a :class:`~edgekd.watching.Watch` is told, on standard error."""

    def __init__(self) -> None:
        self._console = Console(file=enduring(sys.stderr), stderr=True)
        self._console.quiet = not world().is_main
        self._bars = Progress(
            TextColumn("{task.description:<9}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._logged_at = time.monotonic()

    def __enter__(self) -> Screen:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Move the stage's bar; where it begins once more, draw another one."""
        stage, note = one_line(stage), one_line(note)
        if not self._console.is_terminal:
            self._log(stage, done, total, note)
            return
        task = self._tasks.get(stage)
        if task is None or done < self._bars.tasks[task].completed:
            task = self._tasks[stage] = self._bars.add_task(stage, total=total, note="")
        self._bars.update(task, completed=done, total=total, note=note)

    def say(self, text: str) -> None:
        """A line above the bars."""
        print_line(self._console, f"  {one_line(text)}")

    def _log(self, stage: str, done: int, total: int, note: str) -> None:
        if done < total and time.monotonic() - self._logged_at < LOG_SECONDS:
            return
        self._logged_at = time.monotonic()
        share = "done" if done >= total else f"{done:,} of {total:,}"
        print_line(self._console, f"{stage}: {share}  {note}")
