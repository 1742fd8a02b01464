"""A crew of processes that decode images into shared memory, for all the splits of a run.

It is started once, when the first batch is asked for, and works until its last loader is gone. A
batch is divided among all of the crew. The memory for what was decoded and not yet taken is set
aside at the start: that is all there will be.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import NoReturn

import numpy as np
import torch

from edgekd.data import Indices, Pixels
from edgekd.errors import CrewError, DataError

Show = Callable[[int, int], tuple[Pixels, int]]
"""From (epoch, image) to the image as that epoch shows it, (H, W, 3), and the number of the view"""
Line = Connection  # to one process, both ways
PARTS = 2
"""Pieces of a batch for each process: who is done sooner waits for half a piece."""
PATIENCE = 5.0
"""Seconds for a process to leave by itself."""


@dataclass
class _Asked:
    """A batch that was asked for."""

    epoch: int
    index: Indices
    slot: int
    left: int = 0
    """Pieces of it still to be decoded."""
    error: Exception | None = None


class Desk:
    """One loader's place with the crew: its batches come back in the order they were asked for.

    Args:
        show: decodes one image; it runs in the crew's processes.
        rows: images a batch, at most.
        side: height and width of an image.
        slots: batches that may wait here, the one in the reader's hands included.
    """

    def __init__(self, show: Show, rows: int, side: tuple[int, int], slots: int) -> None:
        self.show, self.slots = show, slots
        held = mmap.mmap(-1, slots * rows * (side[0] * side[1] * 3 + 8))
        self.views = np.frombuffer(held, np.int64, slots * rows).reshape(slots, rows)
        pixels = np.frombuffer(held, np.uint8, offset=self.views.nbytes)
        self.pixels = pixels.reshape(slots, rows, *side, 3)
        self.asked: deque[_Asked] = deque()
        self.turn = 0
        self.busy, self.decoded = 0.0, 0
        """Seconds the crew has decoded for this desk, all processes together; and images."""

    def work(self, epoch: int, index: Indices, slot: int, first: int) -> None:
        """Decode images into a slot, from its row ``first`` on."""
        for row, image in enumerate(index.tolist(), first):
            self.pixels[slot, row], self.views[slot, row] = self.show(epoch, image)


class Crew:
    """So many processes; with none, images are decoded where they are asked for.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers if hasattr(os, "fork") else 0  # a split's functions do not travel
        self._desks: list[Desk] = []
        self._lines: dict[Line, int] = {}
        self._open: dict[int, _Asked] = {}
        self._next = 0
        weakref.finalize(self, _dismiss, self._lines, os.getpid())

    def seat(self, show: Show, rows: int, side: tuple[int, int], slots: int) -> Desk:
        """A desk for a loader; only before the first batch is asked for.

        Raises:
            RuntimeError: the crew has started without it.
        """
        if self._lines:
            raise RuntimeError("the crew is at work, and what it was not told of it cannot decode")
        self._desks.append(Desk(show, rows, side, slots))
        return self._desks[-1]

    @property
    def processes(self) -> tuple[int, ...]:
        """Their numbers; none before the first batch."""
        return tuple(self._lines.values())

    def ask(self, desk: Desk, epoch: int, index: Indices) -> None:
        """Have a batch decoded. At most ``desk.slots`` may be asked for and not yet taken."""
        asked = _Asked(epoch, index, desk.turn % desk.slots)
        desk.turn += 1
        desk.asked.append(asked)
        if not self.workers:
            return
        if not self._lines:
            self._start()
        lines = list(self._lines)
        pieces = np.array_split(np.arange(len(index)), min(len(index), PARTS * len(lines)))
        asked.left = len(pieces)
        self._open[self._next] = asked
        for number, rows in enumerate(pieces, self._next):
            where = (self._next, self._desks.index(desk), asked.slot, int(rows[0]))
            self._send(lines[number % len(lines)], (*where, epoch, index[rows]))
        self._next += 1

    def take(self, desk: Desk) -> tuple[Pixels, Indices, Indices]:
        """The next batch: (B, H, W, 3) and (B,) views, good until the next is asked for; its index.

        Raises:
            DataError: an image cannot be read.
            CrewError: a process died.
        """
        asked = desk.asked.popleft()
        if not self.workers:
            begun = time.perf_counter()
            desk.work(asked.epoch, asked.index, asked.slot, 0)
            desk.busy += time.perf_counter() - begun
            desk.decoded += len(asked.index)
        self._finish(asked)
        if asked.error is not None:
            raise asked.error
        rows = slice(len(asked.index))
        return desk.pixels[asked.slot, rows], desk.views[asked.slot, rows], asked.index

    def drop(self, desk: Desk) -> None:
        """Forget what was asked for; its slots are free when this returns."""
        while desk.asked:
            self._finish(desk.asked.popleft())

    def _finish(self, asked: _Asked) -> None:
        """Hear the crew out until a batch is decoded."""
        while asked.left:
            for line in wait(list(self._lines)):
                assert isinstance(line, Connection)
                self._hear(line)

    def _hear(self, line: Line) -> None:
        try:
            number, desk, count, seconds, error = line.recv()
        except (EOFError, OSError):
            self._mourn(line)
        asked, seat = self._open[number], self._desks[desk]
        seat.busy, seat.decoded = seat.busy + seconds, seat.decoded + count
        asked.left -= 1
        asked.error = asked.error or error
        if not asked.left:
            del self._open[number]

    def _send(self, line: Line, order: object) -> None:
        try:
            line.send(order)
        except OSError:
            self._mourn(line)

    def _mourn(self, line: Line) -> NoReturn:
        """A process is gone, and with it what it had to do."""
        _, status = os.waitpid(self._lines.pop(line), 0)
        line.close()
        for asked in self._open.values():
            asked.left = 0
        self._open.clear()
        _dismiss(self._lines, os.getpid())
        if os.WIFSIGNALED(status):
            how = f"was ended by signal {os.WTERMSIG(status)}; where memory runs out, that is 9"
        else:
            how = f"has ended by itself, with exit code {os.waitstatus_to_exitcode(status)}"
        raise CrewError(
            f"a process that decodes images {how}. Lower data.workers or train.batch_size, and "
            "give the command again: the training goes on where it was saved last."
        )

    def _start(self) -> None:
        for _ in range(self.workers):
            mine, yours = Pipe()
            pid = os.fork()
            if not pid:
                try:
                    for line in (*self._lines, mine):
                        line.close()  # else nobody would notice that this end is gone
                    _serve(yours, self._desks)
                finally:
                    os._exit(0)  # without the parent's files and exit functions
            yours.close()
            self._lines[mine] = pid


def _serve(line: Line, desks: Sequence[Desk]) -> None:
    """What a process of the crew does, until it is told to go or nobody is there any more."""
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)  # the training is asked to stop, and tells the crew
    gc.freeze()  # walking through the parent's objects would copy their memory
    torch.set_num_threads(1)
    while True:
        try:
            order = line.recv()
        except (EOFError, OSError):
            return
        if order is None:
            return
        number, desk, slot, first, epoch, index = order
        begun = time.perf_counter()
        error: Exception | None = None
        try:
            desks[desk].work(epoch, index, slot, first)
        except DataError as refused:
            error = refused
        except Exception:
            error = RuntimeError(f"decoding failed:\n{traceback.format_exc()}")
        try:
            line.send((number, desk, len(index), time.perf_counter() - begun, error))
        except OSError:
            return


def _dismiss(lines: dict[Line, int], owner: int) -> None:
    """Send the crew home and wait for it; a copy of it in another process does nothing."""
    if os.getpid() != owner:
        return
    for line in lines:
        with suppress(OSError):
            line.send(None)
        line.close()
    limit = time.monotonic() + PATIENCE
    for pid in lines.values():
        with suppress(ChildProcessError):
            while not os.waitpid(pid, os.WNOHANG)[0]:
                if time.monotonic() > limit:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.005)
    lines.clear()
