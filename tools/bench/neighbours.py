"""Busy neighbours: processes that want a whole CPU each, for as long as a block lasts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 3600.0
SPIN = f"""
import time
end = time.monotonic() + {LONGEST_S}  # whoever began them may have been killed
while time.monotonic() < end:
    for _ in range(100_000):
        pass
"""


@contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """Start so many, yield their process ids, and end them by these."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen([sys.executable, "-c", SPIN]))
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
        for each in started:
            each.wait()
