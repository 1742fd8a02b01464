"""NVIDIA graphics cards' own meters, through ``nvidia-smi``, which asks NVML."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from edgekd.agent import gpus
from edgekd.agent.failures import AgentError

__all__ = ["Nvml"]

QUERY = ("--query-gpu=index,power.draw", "--format=csv,noheader,nounits")
PERIOD_MS = 100


@dataclass
class Nvml:
    """What all cards draw; one ``nvidia-smi`` runs meanwhile and prints it again and again.

    A process for each reading would take the CPU from what is measured. Newer cards tell a mean
    over the last second (nvidia-smi's manual, ``power.draw``). Which card runs a model is CUDA's
    choice and not told here; those that idle fall out of the difference.
    """

    name: str
    note: str
    cards: int
    scope: str = "rail"
    counts: bool = False
    period_s: float = PERIOD_MS / 1e3
    _process: Optional[subprocess.Popen[bytes]] = field(default=None, init=False)
    _listener: Optional[threading.Thread] = field(default=None, init=False)
    _watts: List[float] = field(default_factory=list, init=False)

    @classmethod
    def find(cls, root: Path) -> Optional[Nvml]:
        """The cards.

        Raises:
            AgentError: there are some, and one does not tell its power.
        """
        cards = gpus.read()
        if not cards:
            return None
        mute = [card["name"] for card in cards if card["power_w"] is None]
        if mute:
            raise AgentError(
                "meter",
                f"the meter nvml cannot be read: {mute[0]} does not tell its power "
                "(nvidia-smi says N/A for power.draw). A Jetson has the meter ina3221 instead.",
            )
        names = " + ".join(card["name"] for card in cards)
        return cls(f"nvml {names}", f"graphics cards alone ({names})", len(cards))

    def read(self) -> Optional[float]:
        """Watts as last printed; None before the first line, and again until the next one."""
        if self._process is None:
            self._start()
        return self._watts.pop() if self._watts else None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            if self._listener is not None:
                self._listener.join()  # it reads to the end of what was printed
            with self._process:  # closes the pipe and waits
                self._process = None

    def _start(self) -> None:
        program = shutil.which("nvidia-smi")
        if program is None:
            return
        self._process = subprocess.Popen(
            [program, *QUERY, "-lms", str(PERIOD_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        told: Dict[str, float] = {}
        for line in process.stdout or ():
            card, _, figure = line.decode("ascii", errors="replace").partition(",")
            watts = gpus.number(figure)
            if watts is not None:
                told[card.strip()] = watts
            if len(told) == self.cards:  # a turn is over
                self._watts[:] = [sum(told.values())]
                told = {}
