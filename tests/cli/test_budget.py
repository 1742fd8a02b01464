"""``edgekd run --budget``: what is refused, what is passed on, and what a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.cli._rulings import print_mission
from edgekd.flow.mission import accomplishing
from edgekd.flow.mission.accomplishing import Mission
from tests.cli.conftest import Command

RULING = {
    "metric": "p95",
    "clause": "p95<=30ms",
    "bound": 30.0,
    "unit": "ms",
    "value": 34.1,
    "lo": 33.8,
    "hi": 34.6,
    "why": None,
    "state": "fails",
}
UNKNOWN = {**RULING, "metric": "j_per_inf", "clause": "j_per_inf<=1mJ", "value": None, "why": "n/a"}
MISSED = {
    "gain": None,
    "report": {"html": "runs/x/report.html"},
    "budget": {
        "state": "infeasible",
        "sentence": "infeasible: the best found is resnet8",
        "rulings": [RULING, UNKNOWN],
        "way_out": ["allow p95<=35ms: resnet8 at 32 px has p95 34.1ms [33.8ms, 34.6ms]"],
        "artifact": None,
    },
}
TEST = {
    "n": 359,
    "top1": 0.189,
    "interval": [0.152, 0.233],
    "teacher": 0.701,
    "delta": -0.512,
    "delta_interval": [-0.561, -0.46],
}
ACCEPTED = {"state": "holds", "artifact": "artifact", "way_out": [], "test": TEST}
HELD = {**MISSED, "budget": {**MISSED["budget"], **ACCEPTED}}  # type: ignore[dict-item]

WRONG = {
    "no unit": (["--budget", "p95<=30"], "p95 with '30' and no unit; expected us or ms or s"),
    "no such metric": (["--budget", "p59<=30ms"], "which there is not. Did you mean"),
    "the wrong way": (["--budget", "fps<=30"], "expected fps>="),
    "two ways to look": (
        ["--budget", "p95<=1ms", "--student", "resnet8", "--students", "cifar"],
        "Give one",
    ),
    "weights of a student that is looked for": (
        ["--budget", "p95<=1ms", "--student", "resnet8:x"],
        "begins with random weights, as often as it takes. Give --student resnet8; or, to begin "
        "with those weights, leave --budget out",
    ),
    "no budget": (["--attempts", "3"], "--attempts says how to look for what keeps a --budget"),
    "no teacher": (["--budget", "p95<=1ms", "--data", "x"], "needs a --teacher"),
    "no share": (["--budget", "p95<=1ms", "--margin", "ten"], "is no share"),
    "no attempts": (["--budget", "p95<=1ms", "--attempts", "0"], "x>=1"),
    "too few pixels": (
        ["--budget", "p95<=1ms", "--sizes", "7"],
        "'--sizes': '7' is no size in pixels; expected 8 to 8,192",
    ),
    "no pixels": (["--budget", "p95<=1ms", "--sizes", "224,big"], "is no size in pixels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_before_anything_is_done(name: str, edgekd: Command, tmp_path: Path) -> None:
    flags, words = WRONG[name]
    answer = edgekd("run", *flags, "-o", tmp_path / "run")
    assert answer.code == 2
    assert words in answer.err.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_trained_network_is_no_student_to_be_found(
    edgekd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained/manifest.json").touch()
    answer = edgekd("run", "--budget", "p95<=1ms", "--student", "trained", "-o", "run")
    assert answer.code == 2
    said = " ".join(answer.err.split())
    assert "--student trained is a trained network" in said
    assert "edgekd export, then edgekd profile" in said
    assert not (tmp_path / "run").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mission]:
    """What the mission was told; it ends as infeasible."""
    missions: list[Mission] = []

    def accomplish(mission: Mission) -> dict[str, Any]:
        missions.append(mission)
        return MISSED

    monkeypatch.setattr(accomplishing, "accomplish", accomplish)
    return missions


def test_what_the_mission_is_told(edgekd: Command, asked: list[Mission], tmp_path: Path) -> None:
    flags = ["--students", "resnet8,wrn_16_2", "--sizes", "32,24", "--margin", "5%"]
    more = ["--attempts", "3", "--device", "ssh://user@host", "-o", str(tmp_path)]
    answer = edgekd("run", "--budget", "p95<=30ms, top1_drop<=1%", *flags, *more)
    assert answer.code == 1
    (mission,) = asked
    assert str(mission.budget) == "p95<=30ms, top1_drop<=1%"
    assert (mission.space, mission.sizes) == (("resnet8", "wrn_16_2"), (32, 24))
    assert (mission.margin, mission.attempts) == (0.05, 3)
    assert mission.task.recipe.profile.device == "ssh://user@host"
    assert mission.task.recipe.export.precision == "auto"
    assert mission.task.out == tmp_path


def test_a_student_or_a_precision_that_is_told(edgekd: Command, asked: list[Mission]) -> None:
    edgekd("run", "--budget", "p95<=1ms", "--student", "resnet8", "--set", "export.precision=int8")
    (mission,) = asked
    assert mission.space == ("resnet8",)
    assert mission.task.recipe.export.precision == "int8"


def test_a_device_is_that_of_a_plain_run_too(edgekd: Command) -> None:
    answer = edgekd("run", "digits", "--device", "pi5", "--print-recipe")
    assert 'device = "pi5"' in answer.out
    assert 'precision = "fp32"' in answer.out


@pytest.mark.parametrize("summary", [MISSED, HELD])
def test_what_a_person_reads_at_the_end(
    summary: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_mission(Path("runs/x"), summary)
    said = capsys.readouterr().out
    assert "34.1ms" in said
    assert "[33.8ms, 34.6ms]" in said
    assert "Infeasible: the best found is resnet8." in said
    assert ("Way out 1: allow p95<=35ms" in said) == (summary is MISSED)
    assert ("Next: edgekd deploy runs/x/artifact" in said) == (summary is HELD)
    words = "On 359 test images: top-1 18.9% [15.2%, 23.3%], teacher 70.1%, difference -51.2 points"
    assert (words in " ".join(said.split())) == (summary is HELD)
    table = said[: said.index("Infeasible")]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 60
