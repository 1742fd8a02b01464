"""The benchmarks under tools/ still run; what they time is not looked at here."""

from __future__ import annotations

import json
import os
import re
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


def test_every_method_is_compared(tmp_path: Path) -> None:
    printed = bench("accuracy.py", str(tmp_path), "--quick")
    assert bench("accuracy.py", str(tmp_path), "--quick").endswith(printed[printed.index("| m") :])
    seeds = [json.loads((tmp_path / f"seed-{seed}.json").read_text())["results"] for seed in (0, 1)]
    used = " ".join(result["text"] for result in seeds[0].values())
    assert set(re.findall(r"[a-z]\w*", used)) == set(plugins.summaries("method"))
    for seed in seeds:
        assert all(0 <= result["test"] <= 1 for result in seed.values())
        assert all(f"| {name} | `{result['text']}` |" in printed for name, result in seed.items())
