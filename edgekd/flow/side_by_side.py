"""Devices side by side: each in a thread of its own, each with its own end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from edgekd.flow.hearing import Named
from edgekd.flow.sitting import Order, Outcome, Seat, sit
from edgekd.shortage import room_for_threads
from edgekd.watching import Watch

LOOK_S = 0.5
"""A signal that comes just before a wait without end is heard at its end (CPython's)."""


def side_by_side(seats: Sequence[Seat], order: Order, watch: Watch) -> list[Outcome]:
    """Measure on all devices at once; one alone is measured in the caller's own thread.

    An interruption ends the runs at their next event, about a second later.

    Raises:
        EdgeKDError: there is one device only, and it failed.
    """
    stop, turn = threading.Event(), threading.Lock()
    if order.alone:
        return [sit(seat, order, watch, stop) for seat in seats]
    room_for_threads(len(seats))
    with ThreadPoolExecutor(len(seats), thread_name_prefix="device") as pool:
        try:
            sittings = [
                pool.submit(sit, seat, order, Named(watch, seat.device.name, turn), stop)
                for seat in seats
            ]
            return [_result(sitting) for sitting in sittings]
        except BaseException:
            stop.set()
            raise


def _result(sitting: Future[Outcome]) -> Outcome:
    while not wait([sitting], LOOK_S).done:
        pass
    return sitting.result()
