"""A clock that jumps: an hour, a year, back, to 1970; for a command and all that it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import COMMANDS, OTHERS, homes, laid_out, undisturbed
from tests.faults.doomed import Workshop
from tests.faults.endings import ending, left_over
from tests.faults.writes import Disk

ALL = {**COMMANDS, **OTHERS}
EVERY_MS = (1000, 200, 40, 3)
"""How often it jumps; the last is more often than any loop looks at it."""
DURATION = ("seconds", "_s", "ms", "images_per_s", "limit")


def jumping(folder: Path, seed: int, every_ms: int) -> dict[str, str]:
    return {**homes(folder), "CLOCK_SEED": str(seed), "CLOCK_EVERY_MS": str(every_ms)}


def assert_same(whole: Path, cut: Path) -> None:
    assert left_over(cut) == []
    found, expected = ending(cut), ending(whole)
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name


def durations(value: Any, name: str = "") -> Iterator[float]:
    """All numbers of a table that are one, by their names."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from durations(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from durations(one, name)
    elif isinstance(value, int | float) and name.endswith(DURATION):
        yield value


def assert_no_time_is_negative(folder: Path) -> int:
    """How many durations there are."""
    texts = [file.read_text("utf-8") for file in folder.rglob("*.json")]
    for file in folder.rglob("*.jsonl"):
        texts += file.read_text("utf-8").splitlines()
    found = [one for text in texts for one in durations(json.loads(text))]
    assert min(found, default=0) >= 0
    return len(found)


def test_a_measurement_while_the_clock_jumps(
    shop: Workshop, source: Path, disk: Disk, tmp_path: Path
) -> None:
    """The agent and its worker see the jumps, too."""
    command, cut = COMMANDS["profile"], tmp_path / "cut"
    laid_out(command, source, cut)
    first = "tests.faults.clock:check_jumps"
    ended = shop.run(command.words, cut, None, jumping(cut, 7, 20), first=first)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert assert_no_time_is_negative(cut) > 20
    (record,) = json.loads((cut / "measured" / "profile.json").read_text("utf-8"))
    assert 0 < record["timing"]["median"]["value"] < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_verb_while_the_clock_jumps(
    name: str, shop: Workshop, source: Path, disk: Disk, tmp_path: Path
) -> None:
    command = ALL[name]
    undisturbed(shop, command, source, tmp_path / "whole")
    for seed, every_ms in enumerate(EVERY_MS):
        cut = laid_out(command, source, tmp_path / f"cut{seed}")
        env = jumping(cut, seed, every_ms)
        ended = shop.run(command.words, cut, None, env, first=command.first)
        assert ended.code in command.codes, ended.err
        assert not ended.late
        assert "Traceback" not in ended.err
        assert_no_time_is_negative(cut)
        assert_same(tmp_path / "whole", cut)
        print(f"{name}: a jump every {every_ms} ms (seed {seed}): finished and equal")


def test_no_duration_is_taken_from_a_clock_that_is_set() -> None:
    """What tells the time of day is asked for stamps alone; each place is looked at here."""
    root = Path(__file__).parents[2] / "edgekd"
    named = ("time.time()", "time.time_ns", "datetime.now(", "utcnow", "CLOCK_REALTIME")
    found = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if any(name in file.read_text("utf-8") for name in named)
    }
    assert found == {
        "agent/timekeeping.py",  # to see that it was set
        "artifact.py",
        "claims.py",
        "deploy/payload/engine_onnxruntime.py",  # whether a file was changed just now; else hashed
        "flow/compare.py",
        "records.py",
        "trainer/room.py",  # of a folder that no lock can be had on
    }
