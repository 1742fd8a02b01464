"""``edgekd verify``: what it prints, and its exit codes with and without ``--gate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgekd.files import sha256
from edgekd.flow import verifying
from edgekd.flow.proving import keep
from edgekd.profiling import Policy
from tests.cli.conftest import Command
from tests.flow.kept import artifact, record


def prove(path: Path, **given: Any) -> None:
    logits = given.pop("answers", [[1.0, 2.0]] * 8)
    made = record(sha256(path / "model.onnx"), **given)
    keep(path, "local", made, None, None, None, logits)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = artifact(tmp_path / "student-onnx")
    prove(path)
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What measurements find; the limit of the last one is left under ``limit``."""
    given: dict[str, Any] = {}

    def fake(models: Sequence[Path], policy: Policy, *_: object) -> None:
        given.pop("limit", None)
        for path in models:
            prove(path, **given)
        given["limit"] = policy.max_seconds

    monkeypatch.setattr(verifying, "measure", fake)
    return given


def test_the_same(edgekd: Command, made: Path, found: dict[str, Any]) -> None:
    found |= {"median": 2.06, "peak": 90_000_000}
    answer = edgekd("verify", made)
    assert answer.code == 0
    lines = [line.strip() for line in answer.out.splitlines() if line.startswith("  ")]
    rows = {line.partition("  ")[0]: line.split() for line in lines}
    assert rows["median"][1:] == ["2", "ms", "2.06", "ms", "+3.0%", "same"]
    assert rows["p95"][1:] == ["2.5", "ms", "2.5", "ms", "+0.0%"]  # and no word
    assert rows["peak memory"][2:] == ["60", "MB", "90", "MB", "+50.0%", "more"]
    assert rows["timed inputs"][2:] == ["8", "8", "same", "class", "0", "other"]
    assert rows["verdict"][1:] == ["stable", "stable"]
    last = answer.out.splitlines()[-1]
    assert last.startswith("same: median 2 ms then, 2.06 ms now (+3.0%); the answers to 8 timed")
    assert max(map(len, answer.out.splitlines()[:-1])) <= 80


@pytest.mark.parametrize(
    ("now", "verdict", "code", "gated"),
    [
        ({"median": 1.5}, "faster", 0, 0),
        ({"median": 3.0}, "slower", 1, 1),
        ({"state": "noisy"}, "cannot tell", 0, 1),
        ({"answers": [[2.0, 1.0]] * 8}, "different answers", 1, 1),
    ],
)
def test_exit_codes(
    now: dict[str, Any],
    verdict: str,
    code: int,
    gated: int,
    edgekd: Command,
    made: Path,
    found: dict[str, Any],
) -> None:
    found |= now
    assert edgekd("verify", made, "--device", "local").code == code
    answer = edgekd("verify", made, "--gate", "--json", "--max-seconds", "4")
    assert answer.code == gated
    told = json.loads(answer.out)
    assert told["verdict"] == verdict
    assert told["passed"] is (gated == 0)
    assert told["sentence"].startswith(f"{verdict}: ")
    assert found["limit"] == 4


def test_a_second_try_is_announced(edgekd: Command, made: Path, found: dict[str, Any]) -> None:
    found["median"] = 3.0
    assert (
        "slower than the proof: measuring once more, in another process"
        in edgekd("verify", made).err
    )


def test_what_is_refused(edgekd: Command, made: Path, tmp_path: Path) -> None:
    none = artifact(tmp_path / "other")
    answer = edgekd("verify", none)
    assert answer.code == 2
    assert f"Run edgekd profile {none} --device local first." in answer.err
    answer = edgekd("verify", made, "--data", "digits")
    assert answer.code == 2
    assert "the proof was made without images" in answer.err
    answer = edgekd("verify", artifact(tmp_path / "taught", kind="network"))
    assert answer.code == 2
    assert "taught is a network. Export it first: edgekd export" in answer.err
    answer = edgekd("verify", tmp_path / "nowhere")
    assert answer.code == 2
    assert "nowhere. Expected a folder that edgekd" in answer.err
