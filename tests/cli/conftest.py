"""The command line as the shell calls it, but in this process: code, standard output and error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekd import cli


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def edgekd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Call ``edgekd ARGUMENTS``; what child processes print is heard as well."""

    def run(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        return Answer(code if isinstance(code, int) else 1, *capfd.readouterr())

    return run
