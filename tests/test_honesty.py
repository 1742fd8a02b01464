"""The table on edgekd's own numbers is still made; what it says is not looked at here."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

BENCH = Path(__file__).parents[1] / "tools" / "bench"


def honesty(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "honesty.py"), "--quick", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def cells(printed: str, first: str) -> list[list[str]]:
    rows = [row.strip("| ").split(" | ") for row in printed.splitlines() if row.startswith("|")]
    return [row for row in rows if re.fullmatch(first, row[0])]


@pytest.mark.slow
def test_every_part_makes_its_table() -> None:
    done = honesty("--part", "null", "--part", "planted", "--part", "coverage", "--spread", "0")
    assert done.returncode == 0, done.stderr
    assert re.search(r"load [\d.]+ on \d+ CPUs", done.stdout)
    beside = cells(done.stdout, r"\d")
    assert [row[0] for row in beside] == ["0", "1"]
    assert all(row[5] in ("stable", "unstable") for row in beside)
    assert re.search(r"Planted: \d+ extra operators, [+-]\d+\.\d %", done.stdout)
    pairs = cells(done.stdout, r"planted \+5 %|0 %")
    assert [sum(int(cell) for cell in row[2:5]) for row in pairs] == [2, 2]
    assert [row[1] for row in pairs] == ["2", "2"]
    assert cells(done.stdout, "all runs")[0][1] == "2"
    assert re.search(r"^Verdicts: ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_the_other_tool_is_run_in_turn() -> None:
    pytest.importorskip("openvino")
    done = honesty("--part", "tool")
    assert done.returncode == 0, done.stderr
    (row,) = cells(done.stdout, r"1")
    assert float(row[2].split()[0]) > 0
    assert float(row[3].split()[0]) > 0


def test_a_tool_that_is_not_there(tmp_path: Path) -> None:
    done = honesty("--part", "tool", "--benchmark-app", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "pip install openvino" in done.stderr


def answers(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    return session.run(None, {"x": picture})[0]


def test_a_twin_is_another_file_of_the_same_network(tmp_path: Path) -> None:
    mobile = runpy.run_path(str(BENCH / "mobile.py"))["mobile"]
    one = mobile(tmp_path / "one.onnx", 32, name="one")
    twin = mobile(tmp_path / "twin.onnx", 32, name="twin")
    slower = mobile(tmp_path / "slower.onnx", 32, 3, "slower")
    assert one.read_bytes() != twin.read_bytes()
    assert np.array_equal(answers(one), answers(twin))
    assert np.isfinite(answers(slower)).all()
    assert np.abs(answers(slower)).max() > 1e-3  # nothing dies out on the way, which would be fast
    counts = [sum(n.op_type == "Conv" for n in onnx.load(p).graph.node) for p in (one, slower)]
    assert counts[1] - counts[0] == 3


def test_neighbours_are_busy_and_are_ended() -> None:
    busy = runpy.run_path(str(BENCH / "neighbours.py"))["busy"]
    seen: list[int] = []

    def interrupted() -> None:
        with busy(2) as pids:
            for pid in pids:
                os.kill(pid, 0)  # it is there
                seen.append(pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 2
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
