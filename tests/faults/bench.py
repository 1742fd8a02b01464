"""The bench: blows at random moments, the same command again after each, until it is done.

What it leaves has to equal what an undisturbed run leaves; then a new folder, until there were
enough blows. Nothing half-written may ever stand under its own name, nothing may be left over, and
no program may stay.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.commands import COMMANDS, Command, home_of, homes, laid_out, undisturbed
from tests.faults.doomed import Blow, Ended, Workshop
from tests.faults.endings import ending, left_over
from tests.faults.wholeness import broken, left_in_private

KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "kill": (signal.SIGKILL, ("main", "all")),
    "term": (signal.SIGTERM, ("main", "group")),
    "int": (signal.SIGINT, ("main", "group")),
    "child": (signal.SIGKILL, ("child",)),
}
"""The signal of each kind of blow, and whom it goes to, by turns."""
STAYS_S = 20.0
"""A worker on this machine ends ten seconds after whoever listened."""
DEAF_S = 20.0
"""One that goes on for longer after it was asked to end has not heard it."""
MOST = 12
"""Sittings for each blow that is wanted, at most."""
Say = Callable[[str], None]


@dataclass
class Tally:
    """What became of one command."""

    verb: str
    seed: int
    seconds: float = 0.0
    """Of the undisturbed run."""
    blows: Counter[str] = field(default_factory=Counter)
    """Those that met it at work, by kind."""
    sittings: int = 0
    finished: int = 0
    equal: int = 0
    lost: list[str] = field(default_factory=list)
    """What should not be, each as a sentence."""


def hammer(
    shop: Workshop,
    verb: str,
    source: Path,
    place: Path,
    wanted: Mapping[str, int],
    seed: int = 0,
    say: Say = lambda text: None,
    *,
    fresh: bool = False,
) -> Tally:
    """Let a command meet blows.

    Args:
        shop: runs it.
        verb: of :data:`COMMANDS`.
        source: the stock.
        place: a new folder; those of rounds that were lost stay in it.
        wanted: how many blows of each of :data:`KINDS`.
        seed: of the moments.
        say: told of each sitting.
        fresh: whether each sitting is a new Python.
    """
    place.mkdir(parents=True)
    command, tally = COMMANDS[verb], Tally(verb, seed)
    draw = random.Random(f"{verb} {seed}")
    expected, rounds = _expected(shop, command, source, place, tally, fresh=fresh), 0
    while (left := _left(wanted, tally)) and tally.sittings < MOST * sum(wanted.values()):
        rounds += 1
        folder = laid_out(command, source, place / f"round-{rounds}")
        if _round(shop, command, folder, left, tally, draw, say, fresh=fresh):
            _hold_against(expected, folder, tally)
    tally.lost += [f"{count} of {kind} never met it at work" for kind, count in left.items()]
    tally.lost += [f"still running: {each}" for each in shop.strays(STAYS_S)]
    for number in range(1, rounds + 1):
        tally.lost += [f"round-{number}: {each}" for each in untidy(place / f"round-{number}")]
    return tally


def _expected(
    shop: Workshop, command: Command, source: Path, place: Path, tally: Tally, *, fresh: bool
) -> dict[str, object]:
    """What an undisturbed run leaves; how long one takes is noted."""
    tally.seconds = undisturbed(shop, command, source, place / "whole").seconds
    if fresh:
        alone = laid_out(command, source, place / "alone")
        tally.seconds = shop.run(command.words, alone, env=homes(alone), fresh=True).seconds
    tally.lost += [f"undisturbed: {each}" for each in untidy(place / "whole")]
    return ending(place / "whole")


def _hold_against(expected: Mapping[str, object], folder: Path, tally: Tally) -> None:
    different = differing(folder, expected)
    tally.finished += 1
    tally.equal += not different
    tally.lost += [f"{folder.name}: {each}" for each in different]


def _round(
    shop: Workshop,
    command: Command,
    folder: Path,
    left: Counter[str],
    tally: Tally,
    draw: random.Random,
    say: Say,
    *,
    fresh: bool,
) -> bool:
    """Sitting after sitting in one folder, until one ends by itself; whether it finished."""
    while True:
        kind = draw.choice(sorted(left.elements())) if left.total() else ""
        blow = _drawn(kind, tally, draw) if kind else None
        first = "" if fresh else command.first
        ended = shop.run(
            command.words, folder, env=homes(folder), blow=blow, first=first, fresh=fresh
        )
        tally.sittings += 1
        say(f"{tally.verb}: {blow or 'no blow'}: {ended.code} after {ended.seconds:.3f} s")
        told = f"{folder.name}, {blow}: "
        tally.lost += [told + each for each in (*_wrong(ended, blow), *broken(folder))]
        if ended.hit and (ended.code != 0 or kind == "child"):
            tally.blows[kind] += 1
            left -= Counter([kind])
        if ended.code == 0 or not ended.hit or ended.late:
            return ended.code == 0


def _drawn(kind: str, tally: Tally, draw: random.Random) -> Blow:
    """A blow of a kind, at any moment of the undisturbed run."""
    number, whom = KINDS[kind]
    return Blow(draw.uniform(0.0, tally.seconds), number, whom[tally.blows[kind] % len(whom)])


def _wrong(ended: Ended, blow: Blow | None) -> list[str]:
    """What a sitting should not have said, and how it should not have ended."""
    said = ended.err.strip()
    found = [f"a traceback: {said[-1500:]}"] if "Traceback" in said else []
    met = blow if ended.hit else None
    if ended.late:
        found.append(f"it did not end: {ended.moments[-3:]}")
    elif ended.code not in (0, *_codes(met)):
        found.append(f"exit code {ended.code}: {said}")
    elif ended.code == 0 and _is_deaf(ended, met):
        found.append(f"it went on as if nothing had been said to it: {met}")
    return found


def _codes(blow: Blow | None) -> tuple[int, ...]:
    """How a command may end that was hit."""
    if blow is None:
        return ()
    if blow.whom == "child":
        return (1, 2)
    return -blow.number, 128 + blow.number


def _is_deaf(ended: Ended, blow: Blow | None) -> bool:
    if blow is None or blow.number == signal.SIGKILL:
        return False
    return ended.seconds - blow.after_s > DEAF_S


def differing(folder: Path, expected: Mapping[str, object]) -> list[str]:
    """Where the end is not the undisturbed one's."""
    found = ending(folder)
    wrong = [f"{name} is missing" for name in sorted({*expected} - {*found})]
    wrong += [f"{name} is too many" for name in sorted({*found} - {*expected})]
    return wrong + [
        f"{name} differs: {found[name]} instead of {expected[name]}"[:1500]
        for name in sorted({*expected} & {*found})
        if found[name] != expected[name]
    ]


def half_made(folder: Path) -> list[str]:
    """What a command should not leave that ended by itself, with or without success."""
    hidden = sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))
    return broken(folder) + hidden + left_in_private(home_of(folder))


def untidy(folder: Path) -> list[str]:
    """What is left over once all is done."""
    return left_over(folder) + left_in_private(home_of(folder))


def _left(wanted: Mapping[str, int], tally: Tally) -> Counter[str]:
    return Counter(dict(wanted)) - tally.blows


def table(tallies: list[Tally]) -> str:
    """A line a command, in columns."""
    kinds = list(KINDS)
    rows = [["verb", "alone", *kinds, "sittings", "finished", "equal", "lost", "seed"]]
    for each in tallies:
        blows = [str(each.blows[kind]) for kind in kinds]
        counts = [str(n) for n in (each.sittings, each.finished, each.equal, len(each.lost))]
        rows.append([each.verb, f"{each.seconds:.1f} s", *blows, *counts, str(each.seed)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
