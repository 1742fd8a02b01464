"""``edgekd scout`` as a person uses it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Answer = Any
Command = Callable[..., Answer]

MADE = runpy.run_path(str(Path(__file__).parents[1] / "scouting/entrants.py"))


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a scout found that nobody made; and what it was asked."""
    from edgekd.budget import Budget
    from edgekd.flow import scouts
    from edgekd.scouting.efforts import Effort
    from edgekd.scouting.rounds import race
    from edgekd.scouting.telling import rounds_of, rows

    seen: dict[str, Any] = {}
    ms = {f"mobilenetv4_conv_small_{i:03}.family": 1.0 + i for i in range(30)}
    entered = [MADE["entry"](name, 0.5 + i / 100) for i, name in enumerate(ms)]
    entered += [MADE["entry"]("broken"), MADE["entry"]("nobody", None)]
    stand = MADE["Stopwatch"](ms | {"nobody": 5.0}, failing=["broken"])

    def scout(asked: Any, out: Path | None, watch: Any) -> dict[str, Any]:
        seen["asked"] = asked
        budget: Budget | None = asked.budget
        course = [Effort(30), Effort(120), Effort(150, last=True)]
        raced = race(entered, stand, course, budget, asked.margin, watch)
        return {
            "device": asked.device,
            "runtime": {"name": "onnxruntime", "version": "1.2"},
            "budget": str(budget) if budget is not None else None,
            "space": list(asked.spaces),
            "sizes": list(asked.sizes),
            "margin": asked.margin,
            "rounds": rounds_of(raced),
            "anchor": {"name": "x", "spread": 0.021, "medians": [1.0, 1.1]},
            "candidates": rows(raced, budget, asked.margin),
        }

    monkeypatch.setattr(scouts, "scout", scout)
    return seen


@pytest.mark.parametrize("width", [36, 80, 120])
def test_the_table_fits_the_terminal(
    ranked: dict[str, Any], edgekd: Command, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv = monkeypatch.setenv
    monkeypatch.setattr(
        monkeypatch, "setenv", lambda name, value: setenv(name, str(width))
    )  # the fixture asks for 80 columns
    answer = edgekd("scout", "--budget", "p95<=9ms, top1_drop<=1%", "--device", "local")
    assert answer.code == 0
    table = answer.out.partition("\n* ")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= max(
        width, 42
    )  # a name is not broken
    assert "mobilenet" in table
    assert ("peak" in table, "MACs" in table) == (width >= 80, width >= 120)
    said = answer.out.replace("\n", " ")
    assert "broken-32px failed: no such operator" in said
    assert "Dropped: 15 in round 1, 8 in round 2; why is told with --output" in said
    assert "was within 2.1% of its median" in said
    assert "fit p95<=9ms with 10% to spare; the most accurate by its prior: mobilenetv4" in said
    assert "--device local --students cifar --budget 'p95<=9ms, top1_drop<=1%'" in said


def test_what_is_asked_reaches_the_scout(ranked: dict[str, Any], edgekd: Command) -> None:
    told = ["--students", "timm,resnet8", "--sizes", "224, 160", "--classes", "7", "--size", "96"]
    more = ["--precision", "all", "--margin", "25%", "--threads", "2", "--restart", "--json"]
    answer = edgekd("scout", *told, *more)
    assert json.loads(answer.out)["space"] == ["timm", "resnet8"]
    asked = ranked["asked"]
    assert (asked.space, asked.sizes) == (("timm", "resnet8"), (224, 160))
    assert (asked.classes, asked.size, asked.margin) == (7, 96, 0.25)
    assert (asked.precisions, asked.said, asked.restart) == (("fp32", "int8"), {"threads": 2}, True)
    edgekd("scout", "--data", "digits")
    assert (ranked["asked"].size, ranked["asked"].classes) == (8, 10)


def test_none_that_fits_is_no_failure(ranked: dict[str, Any], edgekd: Command) -> None:
    answer = edgekd("scout", "--budget", "p95<=10us", "--sizes", "32,24")
    assert answer.code == 0
    assert "--students cifar --sizes 32,24 --budget" in answer.out
    assert "None of 31 fits p95<=10us with 10% to spare; the nearest: mobilenetv4" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "p95<30ms"], "expected p95<="),
        (["--margin", "130%"], "is no share"),
        (["--margin", "much"], "is no share"),
        (["--sizes", "big"], "'big' is no size in pixels"),
        (["--sizes", "7"], "'--sizes': '7' is no size in pixels; expected 8 to 8,192"),
        (["--sizes", "32,8193"], "'--sizes': '8193' is no size in pixels"),
        (["--sizes", "9" * 5000], "is no size in pixels"),
        (["--size", "7"], "images of 7 pixels; expected 8 to 8,192. Give --size."),
        (["--students", "resnet8,,"], "has an empty name"),
        (["--students", "resnet9"], "resnet8"),
        (["--data", "digits", "--classes", "10"], "Leave --classes out"),
        (["--limit", "10"], "--limit is of the --data"),
        (["--device", "nowhere"], "there is no device 'nowhere'"),
    ],
)
def test_what_cannot_be_is_said(edgekd: Command, arguments: list[str], said: str) -> None:
    answer = edgekd("scout", *arguments)
    assert answer.code == 2
    assert said in " ".join(answer.err.split())


def test_students_are_ranked_with_no_data_and_no_teacher(
    edgekd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = ["--students", "resnet8", "--size", "8", "--threads", "1"]
    answer = edgekd("scout", *given, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "resnet8-8px" in answer.out
    found = json.loads((tmp_path / "out/scout.json").read_text())
    (row,) = found["candidates"]
    assert row["n"] >= 90
    assert row["rounds"] == 2
    assert (tmp_path / "out/report.html").is_file()
