"""The benchmarks under tools/ still run; what they time is not looked at here."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd import plugins

ROOT = Path(__file__).parents[1]


def bench(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "tools" / "bench" / name), *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_cost_of_every_method_is_measured() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \| [\d.]+x", bench("methods.py", "--quick"), re.MULTILINE)
    assert rows == [*plugins.summaries("method"), "null"]


@pytest.mark.slow
def test_every_precision_is_measured() -> None:
    printed = bench("export.py", "--quick")
    rows = re.findall(r"^\| resnet8 \| (\w+) \| [\d.]+ MB \| [\d.]+", printed, re.MULTILINE)
    assert rows == ["fp32", "fp16", "int8"]
    assert "| null pair | fp32 |" in printed
    assert "| auto | " in printed


def test_sharing_a_teacher_is_measured() -> None:
    printed = bench("step.py", "--quick", "--rounds", "2", "--part", "shared-fp32")
    for what in ("four methods together", "five with the student alone, as compare does"):
        row = rf"^  {what}, over \d singles +([\d.]+)x \[.*\] +([\d.]+)x \[.*\]$"
        assert re.search(row, printed, re.MULTILINE), printed
    assert printed.count("x [") == 10


def test_every_method_is_compared(tmp_path: Path) -> None:
    printed = bench("accuracy.py", str(tmp_path), "--quick")
    assert bench("accuracy.py", str(tmp_path), "--quick").endswith(printed[printed.index("| m") :])
    seeds = [json.loads((tmp_path / f"seed-{seed}.json").read_text())["results"] for seed in (0, 1)]
    used = " ".join(result["text"] for result in seeds[0].values())
    assert set(re.findall(r"[a-z]\w*", used)) == set(plugins.summaries("method"))
    for seed in seeds:
        assert all(0 <= result["test"] <= 1 for result in seed.values())
        assert all(f"| {name} | `{result['text']}` |" in printed for name, result in seed.items())


@pytest.mark.slow
def test_the_scouts_ranking_is_held_against_the_measured_one(tmp_path: Path) -> None:
    printed = bench("ranking.py", str(tmp_path), "--quick")
    rows = re.findall(r"^\| (\w+) \| 2 \| [\d.]+ \[", printed, re.MULTILINE)
    assert set(rows) == {"resnet8", "resnet20", "vgg8"}
    assert re.search(r"^Spearman -?[\d.]+ \[.*\] over 3 students$", printed, re.MULTILINE)


def test_ranks_and_their_correlation_are_scipys() -> None:
    import numpy as np
    from scipy import stats  # comes with scikit-learn

    ranking = runpy.run_path(str(ROOT / "tools/bench/ranking.py"))
    generator = np.random.default_rng(0)
    for size in (8, 20):
        a, b = generator.normal(size=size), generator.integers(4, size=size).astype(float)
        assert ranking["ranks_of"](b).tolist() == stats.rankdata(b).tolist()
        assert ranking["spearman"](a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_the_interval_of_a_rank_correlation_holds_what_it_should() -> None:
    """Students drawn with replacement tie with themselves in both columns, and look alike."""
    import numpy as np

    ranking = runpy.run_path(str(ROOT / "tools/bench/ranking.py"))
    generator, truth, size = np.random.default_rng(0), 0.9, 15
    rho = 6 / np.pi * np.arcsin(truth / 2)  # Spearman's of normals with that correlation
    held = []
    for _ in range(400):
        a, noise = generator.normal(size=(2, size))
        b = truth * a + np.sqrt(1 - truth**2) * noise
        low, high = ranking["interval"](ranking["spearman"](a, b), size)
        held.append(low <= rho <= high)
    assert 0.92 < np.mean(held) < 0.98
    low, high = ranking["interval"](1.0, size)
    assert 0.97 < low < high == 1
    assert ranking["interval"](1.0, 3) is None
    assert ranking["interval"](float("nan"), size) is None
