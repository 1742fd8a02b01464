"""Screen: progress bars for a person, plain lines for a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Screen:
    """Draws what a :class:`~edgekd.watching.Watch` is told, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

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
        """Move the stage's bar; in a log, one line when it is done."""
        if not self._console.is_terminal:
            if done >= total:
                self._console.print(f"{stage}: done  {escape(note)}", highlight=False)
            return
        if stage not in self._tasks or self._bars.tasks[self._tasks[stage]].finished:
            self._tasks[stage] = self._bars.add_task(stage, total=total, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total, note=escape(note))

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)
