"""A graphics card's meter: one program that goes on printing, ended with the meter."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.meters.nvml import Nvml
from tests.agent.machines import program

CARD = "NVIDIA {}, 300, 1590, {}, 33, 0, 15360, 0x1"
LOOPING = """import time
if '-lms' not in sys.argv:
    print({cards!r})
    sys.exit()
assert '--query-gpu=index,power.draw' in sys.argv
for line in {lines!r}:
    print(line, flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that come first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def read_until(meter: Nvml, watts: float) -> list[float | None]:
    """All it tells until then."""
    until, seen = time.monotonic() + 20, []
    while watts not in seen and time.monotonic() < until:
        seen.append(meter.read())
        time.sleep(0.01)
    return seen


def test_each_figure_is_told_once(path: Path) -> None:
    lines = ["0, [N/A]", "0, 31.5", "0, 32.5"]
    program(path, "nvidia-smi", LOOPING.format(cards=CARD.format("T4", "9.5"), lines=lines))
    meter = Nvml.find(path)
    assert meter is not None
    assert (meter.name, meter.scope, meter.counts) == ("nvml NVIDIA T4", "rail", False)
    seen = read_until(meter, 32.5)
    assert set(seen) <= {None, 31.5, 32.5}
    assert seen[-1] == 32.5
    assert meter.read() is None  # nothing was printed since
    meter.close()
    meter.close()


def test_several_cards_are_added_turn_by_turn(path: Path) -> None:
    cards = "\n".join([CARD.format("T4", "9.5"), CARD.format("L4", "12.0")])
    lines = ["0, 10.0", "1, 20.0", "0, 11.0", "1, 60.0", "0, 12.0"]
    program(path, "nvidia-smi", LOOPING.format(cards=cards, lines=lines))
    meter = Nvml.find(path)
    assert meter is not None
    assert meter.name == "nvml NVIDIA T4 + NVIDIA L4"
    assert set(read_until(meter, 71.0)) <= {None, 30.0, 71.0}
    meter.close()


def test_a_card_that_does_not_tell(path: Path) -> None:
    program(path, "nvidia-smi", LOOPING.format(cards=CARD.format("T4", "[N/A]"), lines=[]))
    with pytest.raises(AgentError, match=r"nvml cannot be read: NVIDIA T4 does not tell its power"):
        Nvml.find(path)


def test_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Nvml.find(tmp_path) is None
