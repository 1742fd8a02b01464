"""A disk that fails at any write of any process: full, broken, or read-only from then on."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.bench import differing, half_made, untidy
from tests.faults.commands import COMMANDS, OTHERS, Command, homes, laid_out, undisturbed
from tests.faults.doomed import Ended, Workshop, workshop
from tests.faults.endings import ending

LAYOUT = struct.Struct("llll4096s")
"""Of ``failing.c``: calls left, calls made, error, whether it stays so, folder."""
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
Say = Callable[[str], None]


class Disk:
    """Told what to do from outside, through a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.well()

    def well(self, folder: Path | None = None) -> None:
        """It only counts what is written below a folder, and in its private places."""
        self._tell(0, 0, False, folder)

    def fail(self, folder: Path, call: int, error: int, *, stays: bool) -> None:
        """The n-th write is refused, from 1 on, and perhaps all that come after it."""
        self._tell(call, error, stays, folder)

    @property
    def count(self) -> int:
        """Writes so far."""
        return int(LAYOUT.unpack(self._file.read_bytes())[1])

    def _tell(self, left: int, error: int, stays: bool, folder: Path | None) -> None:
        root = b"" if folder is None else os.fsencode(folder)
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(LAYOUT.pack(left, 0, error, stays, root))


@contextmanager
def failing_workshop(place: Path) -> Iterator[tuple[Workshop, Disk]]:
    """A workshop whose disk can fail, and whose clock jumps for commands with a ``CLOCK_SEED``.

    ``place`` is a folder for what that takes.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    libraries = []
    for source in (Path(__file__).with_name(name) for name in ("failing.c", "jumping.c")):
        libraries.append(str(place / f"{source.stem}.so"))
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", libraries[-1], str(source), "-ldl"]
        subprocess.run(words, check=True)
    disk = Disk(place / "failing")
    env = {"LD_PRELOAD": ":".join(libraries), "FAILING": str(place / "failing")}
    with workshop(env) as shop:
        yield shop, disk


@dataclass
class Starved:
    """What became of one command on disks that fail."""

    verb: str
    writes: int = 0
    """Of the undisturbed run."""
    faults: int = 0
    absorbed: int = 0
    """It went on without what could not be written."""
    refused: int = 0
    equal: int = 0
    lost: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)


def starve(
    shop: Workshop,
    disk: Disk,
    verb: str,
    source: Path,
    place: Path,
    wanted: int,
    seed: int = 0,
    say: Say = lambda text: None,
) -> Starved:
    """Let a command meet a disk that fails, so often; then it has to go on to the same end."""
    place.mkdir(parents=True)
    command, found = (COMMANDS | OTHERS)[verb], Starved(verb)
    draw = random.Random(f"{verb} {seed}")
    disk.well(place / "whole")
    undisturbed(shop, command, source, place / "whole")
    found.writes, expected = disk.count, ending(place / "whole")
    while found.faults < wanted:
        folder = laid_out(command, source, place / "cut")
        call, error, stays = draw.randint(1, found.writes), draw.choice(ERRORS), draw.random() < 0.5
        disk.fail(folder, call, error, stays=stays)
        ended = shop.run(command.words, folder, env=homes(folder), first=command.first)
        found.faults += 1
        told = f"write {call} of {found.writes}, {errno.errorcode[error]}{' for good' * stays}: "
        say(f"{verb}: {told}{ended.code}: {ended.err.strip()[-300:]}")
        wrong = [*_wrong(command, ended), *half_made(folder)]
        disk.well(folder)
        wrong += _gone_on(shop, command, folder, ended, expected, found)
        found.lost += [told + each for each in wrong]
        for old in (folder, folder.with_name("cut.home")):
            shutil.rmtree(old)
    return found


def _gone_on(
    shop: Workshop,
    command: Command,
    folder: Path,
    ended: Ended,
    expected: dict[str, object],
    found: Starved,
) -> list[str]:
    """What is wrong with the end, once there is room again."""
    if ended.code == 0:
        found.absorbed += 1
    else:
        found.refused += 1
        found.said[" ".join(ended.err.split())[-400:]] += 1
        ended = shop.run(command.words, folder, env=homes(folder), first=command.first)
    if ended.code not in command.codes:
        return [f"with room again: exit code {ended.code}: {ended.err.strip()}"]
    wrong = differing(folder, expected) + untidy(folder)
    found.equal += not wrong
    return wrong


def _wrong(command: Command, ended: Ended) -> list[str]:
    """How a sitting should not have ended."""
    said = ended.err.strip()
    wrong = [f"a traceback: {said[-1500:]}"] if "Traceback" in said else []
    wrong += [f"a number in place of a sentence: {said[-300:]}"] if "[Errno" in said else []
    if ended.late:
        wrong.append("it did not end")
    elif ended.code not in (1, 2, *command.codes) or (ended.code and not said):
        wrong.append(f"exit code {ended.code}: {said}")
    return wrong


def table(found: list[Starved]) -> str:
    """A line a command."""
    head = (
        f"{'verb':14} {'writes':>6} {'faults':>6} {'absorbed':>8} {'refused':>7} {'equal':>6} lost"
    )
    return "\n".join(
        [
            head,
            *(
                f"{each.verb:14} {each.writes:6} {each.faults:6} {each.absorbed:8} "
                f"{each.refused:7} {each.equal:6} {len(each.lost)}"
                for each in found
            ),
        ]
    )
