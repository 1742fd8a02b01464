"""The only timing loop: blocks spread in time, sessions in turn, until the medians are known.

In a round every session runs twice, in an order and then in its mirror image (A B B A); the order
turns from round to round, so that no session always follows the same one. Sessions are opened
anew for every block where that is cheap: where a model lies in memory alone moves its time by
1-2 % (measured), and no number of runs of the same session shows that.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence

import numpy as np

from edgekd.agent.race import Race, Rules, Sample, WarmUp, finished, summarise
from edgekd.agent.runtimes import Arrays, Session
from edgekd.agent.timekeeping import Clock

AGREE = 0.03  # of the median, between two windows of the warm-up
BLOCK_ROUNDS = 1000
REWARM_RUNS = 5
REOPEN_SHARE = 0.25  # of max_seconds, at most, may go into opening sessions again
DISTURBED = 1.05  # wall time over CPU time, at one thread


@dataclass(frozen=True)
class Entrant:
    """A model that takes part: how to open it, and the inputs to cycle through."""

    open: Callable[[], Session]
    feeds: Callable[[Session], Sequence[Arrays]]
    """Made once, before any timing."""


def measure(
    entrants: Sequence[Entrant],
    rules: Rules,
    clock: Optional[Clock] = None,
    on_block: Optional[Callable[[Race], None]] = None,
) -> Race:
    """Time sessions against each other.

    Args:
        entrants: one for each session.
        rules: when to stop.
        clock: the clocks; the machine's own by default.
        on_block: called after each block, outside of any timing.
    """
    clock = clock or Clock()
    first = clock.read()
    before = clock.wall()
    sessions = [entrant.open() for entrant in entrants]
    opening = _spent(before, clock)
    feeds = [entrant.feeds(session) for entrant, session in zip(entrants, sessions)]
    started = clock.wall()
    try:
        warmup = warm_up(sessions, feeds, rules, clock)
        readings = [first, clock.read()]
        race = Race([[] for _ in sessions], warmup, readings=readings, backwards=warmup.backwards)
        again = opening + REWARM_RUNS * _spent(started, clock) / race.warmup.n
        race.reopened = again * rules.blocks <= REOPEN_SHARE * rules.max_seconds
        began = clock.wall()
        while not finished(race, rules, _spent(started, clock)):
            if race.reopened and race.blocks:
                _reopen(sessions, entrants, feeds, race.blocks)
            _block(sessions, feeds, race, rules, clock, _limit(race, rules, started, clock))
            race.seconds = _spent(began, clock)
            race.readings.append(clock.read())
            summarise(race)
            if on_block is not None:
                on_block(race)
    finally:
        for session in sessions:
            session.close()
    return race


def warm_up(
    sessions: Sequence[Session],
    feeds: Sequence[Sequence[Arrays]],
    rules: Rules,
    clock: Clock,
) -> WarmUp:
    """Run until two windows agree for every session, or a sixth of ``max_seconds`` is gone."""
    spent: List[List[int]] = [[] for _ in sessions]
    started, n, check_at, seconds = clock.wall(), 0, rules.warmup_runs, 0.0
    while True:
        for index, session in enumerate(sessions):
            spent[index].append(duration(session, feeds[index][n % len(feeds[index])], clock))
        n, before, seconds = n + 1, seconds, _spent(started, clock)
        if seconds < before:
            return WarmUp(n, "the clock ran backwards", backwards=1)
        if n >= check_at and seconds >= rules.warmup_seconds:
            if all(_settled(runs) for runs in spent):
                window = max(n // 4, 5)
                return WarmUp(n, f"two windows of {window} runs agree within {100 * AGREE:g} %")
            check_at = n + max(n // 8, 1)
        if _late(seconds, n, rules):
            return WarmUp(n, f"time limit: not steady after {seconds:.1f} s")


def duration(session: Session, feed: Arrays, clock: Clock) -> int:
    """Run once: the time in ns by the clock, or by the device's own events where it keeps them."""
    before = clock.wall()
    session.run(feed)
    after = clock.wall()
    own: Optional[int] = getattr(session, "device_ns", None)
    return after - before if own is None else own


def _late(seconds: float, n: int, rules: Rules) -> bool:
    """Whether the measurement itself has to begin; slow models get twice the time for ten runs."""
    third = rules.max_seconds / 3
    enough = n >= rules.warmup_runs
    return seconds >= (max(third / 2, min(2 * rules.warmup_seconds, third)) if enough else third)


def order(count: int, turn: int) -> List[int]:
    """The sessions of a round: A B B A, then B A A B, ...; each twice."""
    first = [(turn + index) % count for index in range(count)]
    return first + first[::-1]


def _block(
    sessions: Sequence[Session],
    feeds: Sequence[Sequence[Arrays]],
    race: Race,
    rules: Rules,
    clock: Clock,
    limit: float,
) -> None:
    """Rounds until there are enough runs and time has passed; one at least, whatever the limit."""
    started, rounds = clock.wall(), 0
    gc.collect()
    gc.disable()  # a collection inside a run would be counted as the model's
    try:
        while True:
            for place, index in enumerate(order(len(sessions), rounds)):
                turn = 2 * rounds + place // len(sessions)
                feed = feeds[index][turn % len(feeds[index])]
                race.add(index, timed_run(sessions[index], feed, race.blocks, rules, clock))
            rounds += 1
            seconds = _spent(started, clock)
            full = 2 * rounds >= rules.block_runs and seconds >= rules.block_seconds
            if full or rounds >= BLOCK_ROUNDS or seconds >= limit or seconds < 0:
                break
    finally:
        gc.enable()
    race.blocks += 1


def timed_run(session: Session, feed: Arrays, block: int, rules: Rules, clock: Clock) -> Sample:
    """Time one run; the CPU's clock is read outside of the wall's, so that it is never less."""
    preempted = clock.preemptions()
    at_ns, cpu = clock.wall(), clock.cpu()
    spent = duration(session, feed, clock)
    cpu_ns = clock.cpu() - cpu
    disturbed = clock.preemptions() > preempted
    disturbed = disturbed or (rules.one_thread and spent > DISTURBED * cpu_ns)
    return Sample(at_ns, spent, cpu_ns, disturbed, block)


def _reopen(
    sessions: List[Session],
    entrants: Sequence[Entrant],
    feeds: Sequence[Sequence[Arrays]],
    block: int,
) -> None:
    """Open every session anew, each as often first as any other, and run it a few times.

    The one opened second of three, block after block, was 0.5 % slower (measured).
    """
    for session in sessions:
        session.close()
    count = len(entrants)
    turned = order(count, block)
    for index in turned[:count] if block // count % 2 == 0 else turned[count:]:
        sessions[index] = entrants[index].open()
        for turn in range(REWARM_RUNS):
            sessions[index].run(feeds[index][turn % len(feeds[index])])


def _limit(race: Race, rules: Rules, started: int, clock: Clock) -> float:
    """Seconds a block may take so that the blocks that are due still fit under the cap."""
    left = rules.max_seconds - _spent(started, clock)
    return left / max(rules.blocks - race.blocks, 1)


def _settled(runs: Sequence[int]) -> bool:
    """Whether the last quarter of the runs and the quarter before it have the same median."""
    window = max(len(runs) // 4, 5)
    if len(runs) < 2 * window:
        return False
    last, before = float(np.median(runs[-window:])), float(np.median(runs[-2 * window : -window]))
    return abs(last - before) <= AGREE * before


def _spent(since_ns: int, clock: Clock) -> float:
    return (clock.wall() - since_ns) / 1e9
