"""``python -m edgekd`` and ``edgekd``; also what launchers call (``torchrun -m edgekd``)."""

import os
import signal
import sys
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Carry out the command line; Ctrl-C ends in a sentence while Python begins and ends, too."""
    try:
        from edgekd.cli import main as carry_out

        carry_out()
    except KeyboardInterrupt:
        sys.stderr.write("edgekd: stopped.\n")
        sys.exit(128 + signal.SIGINT)
    finally:  # all is said, and what is left to be put away takes a moment
        last = _Last()
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, last.hear)


class _Last:
    """Signals while Python ends: one is let pass; another one ends it, whatever it waits for."""

    def __init__(self) -> None:
        self._heard, self._exit = False, os._exit

    def hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard:
            self._exit(128 + number)
        self._heard = True


if __name__ == "__main__":
    main()
