"""Watch: who is told how far the work is. The command line draws it; a library caller need not."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Told what happens, as it happens."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` steps of a stage, with the latest figures."""

    def say(self, text: str) -> None:
        """A decision, or a fact the user should know."""


class Silent:
    """Nobody watches."""

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Not told."""

    def say(self, text: str) -> None:
        """Not told."""
