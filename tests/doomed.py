"""Processes that kill themselves at one exact moment, as a power cut would: SIGKILL, no farewell.

A moment is something that lasts, about to happen: a file taking its name, a file going, a program
being started. Python's own audit events tell of them, so that nothing in edgekd knows that it is
watched. Run as a program, this file is a workshop: edgekd is imported once, and every command runs
in a fork of it, a process of its own, without the seconds that importing takes.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DRAWN = re.compile(r"(?<=\.)[a-z0-9_]{8}(?=/|$)")
"""What ``tempfile`` draws by lot at the end of a name."""


@dataclass(frozen=True)
class Moment:
    """When to die: just before the ``count``-th moment whose name a pattern fits as a whole."""

    pattern: str
    count: int = 1
    after_s: float = 0.0
    """How much later: the middle of what a child process does."""
    full: bool = False
    """Whether the disk is full then, instead; it has room again the next time."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """As :mod:`subprocess` has it: -9 for one that was killed."""
    out: str
    err: str
    moments: tuple[str, ...]
    """What it came by, as ``renames student/model.safetensors``; paths within its folder."""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Workshop:
    """Runs commands of edgekd, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        until: Moment | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run ``edgekd WORDS`` in a folder, to its end or to a moment."""
        asked = {
            "words": list(words),
            "folder": str(folder),
            "until": None if until is None else asdict(until),
            "env": dict(env or {}),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        assert told, "the workshop ended"
        answer = json.loads(told)
        return Ended(**{**answer, "moments": tuple(answer["moments"])})


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Open one; it is closed with the block."""
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doomed"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "random"},
    )
    try:
        yield Workshop(process)
    finally:
        process.communicate(timeout=60)


def main() -> None:
    """Take orders, a line of JSON each, until there are no more."""
    import edgekd

    skipped = re.compile(r".*\.(openvino|trt|wds|hf|__main__)$")
    for module in pkgutil.walk_packages(edgekd.__path__, "edgekd."):
        if not skipped.match(module.name) and "tensorrt" not in module.name:
            importlib.import_module(module.name)
    for line in sys.stdin:
        answer = _carried_out(json.loads(line))
        print(json.dumps(answer), flush=True)


def _carried_out(asked: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(asked["folder"])
    heard = folder.with_name(f"{folder.name}.heard")
    heard.mkdir(exist_ok=True)
    files = {name: heard / name for name in ("out", "err", "moments")}
    for file in files.values():
        file.write_text("")
    child = os.fork()
    if child == 0:
        _be(asked, files)  # never comes back
    _, status = os.waitpid(child, 0)
    texts = {name: file.read_text("utf-8", "replace") for name, file in files.items()}
    moments = texts.pop("moments").splitlines()
    return {"code": os.waitstatus_to_exitcode(status), "moments": moments, **texts}


def _be(asked: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Become ``edgekd WORDS``."""
    code = 70
    try:
        os.setsid()
        for number, name in ((0, os.devnull), (1, str(files["out"])), (2, str(files["err"]))):
            os.dup2(os.open(name, os.O_RDWR), number)
        os.environ.update(asked["env"])
        tempfile.tempdir = None  # it was looked up before
        folder = Path(asked["folder"])
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        until = asked["until"]
        _listen(files["moments"], folder, None if until is None else Moment(**until))
        sys.argv = ["edgekd", *asked["words"]]
        from edgekd import cli

        cli.main()
        code = 0
    except Exception:
        traceback.print_exc()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _listen(log: Path, folder: Path, until: Moment | None) -> None:
    """Write down the moments, and die at one, or have no room for it."""
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    me, seen = os.getpid(), 0

    def die() -> None:
        os.kill(me, signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        moment = _named(event, arguments, folder)
        if moment is None or os.getpid() != me:  # a worker that was forked is no command
            return
        os.write(written, f"{moment}\n".encode())
        if until is None or not re.fullmatch(until.pattern, moment):
            return
        seen += 1
        if seen == until.count and until.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if seen == until.count:
            threading.Timer(until.after_s, die).start() if until.after_s else die()

    sys.addaudithook(hear)


def _named(event: str, arguments: tuple[Any, ...], folder: Path) -> str | None:
    """What is about to happen, where it lasts; files outside of the folder do not count."""
    if event == "subprocess.Popen":
        return f"starts {Path(os.fsdecode(arguments[1][0])).name}"
    if event not in ("os.rename", "os.remove"):
        return None
    if event == "os.remove" and arguments[1] != -1:  # of a folder that goes as a whole
        return None
    path = Path.cwd() / os.fsdecode(arguments[event == "os.rename"])
    if not path.is_relative_to(folder):
        return None
    name = DRAWN.sub("*", str(path.relative_to(folder)))
    if event == "os.remove" and ("*" in name or not path.exists()):  # a draft, or nothing
        return None
    return f"{'renames' if event == 'os.rename' else 'removes'} {name}"


if __name__ == "__main__":
    main()
