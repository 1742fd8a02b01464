"""Called as ``first`` in the workshop's children: whether the clock jumps for them at all."""

from __future__ import annotations

import time

PATIENCE_S = 60
"""On a machine that has much else to do."""


def check_jumps() -> None:
    """Look until it was somewhere else and in 1970; what counts since the start is never set."""
    began, years = time.monotonic(), set[int]()
    while not (1970 in years and len(years) > 2):
        assert 0 <= time.monotonic() - began < PATIENCE_S, years
        years.add(time.gmtime().tm_year)
