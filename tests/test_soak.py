"""The soak: what it reads is there, what grows is found, and its commands still run."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOOL = run_path(str(ROOT / "tools" / "bench" / "flatness.py"))
slope_of, rows_of, reading = TOOL["slope_of"], TOOL["rows_of"], TOOL["reading"]
started_here, BOUNDS, TOKEN = TOOL["started_here"], TOOL["BOUNDS"], TOOL["TOKEN"]
HOURS = [n / 60 for n in range(60)]


def test_the_slope_is_that_of_most_readings() -> None:
    values = [3 + 2 * hour for hour in HOURS]
    values[::10] = [1000.0] * 6  # six that are far off
    found = slope_of(HOURS, values)
    assert found.value == pytest.approx(2)
    assert found.lo <= 2 <= found.hi
    with pytest.raises(ValueError, match="6 readings or more, each with its time; got 5"):
        slope_of(HOURS[:5], values[:5])


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    source, held, times = random.Random(0), 0, 400
    for _ in range(times):
        found = slope_of(HOURS[:20], [hour + source.gauss(0, 1) for hour in HOURS[:20]])
        held += found.lo <= 1 <= found.hi
    assert 0.92 <= held / times <= 0.98


@pytest.mark.parametrize(
    ("growth", "noise", "verdict"),
    [(0, 0, "flat"), (0, 3, "flat"), (1, 0.1, "flat"), (40, 1, "grows"), (0, 60, "open")],
)
def test_flat_is_only_what_is_known_to_be(growth: float, noise: float, verdict: str) -> None:
    """Of 100 MB, 8 may be gained in an hour."""
    source = random.Random(0)
    held = [100 + growth * hour + source.gauss(0, noise) for hour in HOURS]
    readings = [dict.fromkeys(BOUNDS, 5.0) | {"RSS, MB": each} for each in held]
    found = {row.name: row for row in rows_of(HOURS, readings)}
    assert found["RSS, MB"].verdict == verdict
    assert found["RSS, MB"].allowed == 8
    assert {row.verdict for name, row in found.items() if name != "RSS, MB"} == {"flat"}
    assert [row.verdict for row in rows_of(HOURS[:2], readings[:2])] == ["too few"] * len(BOUNDS)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, float]]:
    monkeypatch.setenv(TOKEN, tmp_path.name)
    return lambda: dict(reading(tmp_path, tmp_path))


def test_what_is_left_open_is_read(read: Callable[[], dict[str, float]], tmp_path: Path) -> None:
    before, kept = read(), list[Any]()
    kept.append((tmp_path / "left").open("wb"))
    kept[0].write(bytes(2**20))
    kept[0].flush()
    kept.append([[n] for n in range(5000)])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        while TOKEN.encode() not in Path(f"/proc/{child.pid}/environ").read_bytes():
            pass
        assert started_here() == [child.pid]
        after = read()
        child.kill()
    gained = {name: after[name] - before[name] for name in before}
    assert gained["descriptors"] >= 2  # the file's, and the pipe's
    assert gained["temporary files"] == 1
    assert gained["cache, MB"] == 1
    assert gained["processes"] == 1
    assert gained["their PSS, MB"] > 1
    assert gained["objects of Python"] >= 5000
    kept[0].close()


def test_a_child_that_nobody_waited_for_is_read(read: Callable[[], dict[str, float]]) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert started_here() == [child]
    os.waitpid(child, 0)
    assert started_here() == []


def test_an_export_keeps_next_to_nothing_of_what_it_learned_of_shapes(tmp_path: Path) -> None:
    """PyTorch by itself would keep more than a thousand objects of each network for good."""
    import torch

    from edgekd.export._exporters import dynamo

    network, held = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval(), []
    for _ in range(3):  # the first one imports what it needs, and fills caches that have an end
        dynamo(network, torch.zeros(2, 3, 2, 2), "input", tmp_path / "a.onnx", 18)
        gc.collect()
        held.append(len(gc.get_objects()))
    assert held[2] - held[1] < 250


@pytest.mark.slow
def test_two_cycles_run() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "soak"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 cycles of 3 commands in ")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()]
    assert [name for name in rows if name in BOUNDS] == list(BOUNDS)
    (processes,) = [line for line in done.stdout.splitlines() if line.startswith("| processes")]
    assert processes.startswith("| processes | 0 | 0 | 0 |")  # whatever they started has ended
