"""Killed at any moment, the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.commands import BRIEF, DATA, OFTEN, TEACH, TRAIN, homes, settings
from tests.faults.doomed import Ended, Moment, Workshop
from tests.faults.endings import ending, left_over

MOST_SITTINGS = 200
RUN = [
    "run",
    *("--teacher", "resnet14", "--student", "resnet8", "--baseline", "epochs", "-o", "run"),
    *DATA,
    *settings(
        teach=TEACH | OFTEN,
        train=TRAIN | OFTEN,
        profile={"max_seconds": 0.5},
        export={"samples": 16},
    ),
]
MISSION = [
    *("run", "--budget", "p50<=20ms, top1>=38%", "--students", "resnet8", "--teacher", "resnet14"),
    *("--baseline", "none", "-o", "run", "--data", "digits", "--size", "8", "--limit", "600"),
    *settings(
        data={"validation": 0.3},
        teach=TEACH | OFTEN,
        train=TRAIN | OFTEN | {"epochs": 1},
        profile={"max_seconds": 0.5},
        export={"samples": 16, "precision": "fp32"},
    ),
]
SCOUT = ["scout", "--students", "resnet8,resnet14,vgg8", "--size", "8", "-o", "found"]
FULL = "No space left on device. Free some space, make it writable, or choose another place"
COMPARE = [
    *("compare", "--teacher", "TAUGHT", "--student", "resnet8", "--seeds", "2", "-o", "beside"),
    *("--method", "ce + 0.9*kd", "--method", "ce + fitnet"),
    *DATA,
    *settings(train=TRAIN | OFTEN),
]
COMMANDS = {"run": RUN, "mission": MISSION, "scout": SCOUT, "compare": COMPARE}


def words_of(name: str, taught: Path) -> list[str]:
    """A command of :data:`COMMANDS`, whose teacher is there."""
    return [str(taught) if word == "TAUGHT" else word for word in COMMANDS[name]]


def refused_at_every_file(
    shop: Workshop, words: Sequence[str], place: Path
) -> tuple[Ended, list[str]]:
    """The command in one folder, whose disk is full for each of its files once."""
    cut, env, full = place / "cut", homes(place / "cut"), list[str]()
    while len(full) < MOST_SITTINGS:
        known = "|".join(map(re.escape, full))
        new = re.compile(f"renames (?!(?:{known})$).*" if full else "renames .*")
        ended = shop.run(words, cut, Moment(new.pattern, full=True), env, first=BRIEF)
        found = next(filter(new.fullmatch, ended.moments), None)
        if found is None:
            return ended, full
        assert_no_room(ended, cut)
        full.append(found.removeprefix("renames "))
    pytest.fail(f"it did not end: {full}")


def assert_no_room(ended: Ended, folder: Path) -> None:
    """It said so in a sentence, and left no half of a file."""
    assert ended.code == 2, ended.err
    assert FULL in ended.err
    assert "Traceback" not in ended.err
    assert list(folder.rglob(".*")) == []


def in_one_go(shop: Workshop, words: Sequence[str], place: Path) -> Ended:
    """The command, undisturbed."""
    whole = shop.run(words, place / "whole", env=homes(place / "whole"), first=BRIEF)
    assert whole.code == 0, whole.err
    assert left_over(place / "whole") == []
    return whole


def cut_off(shop: Workshop, words: Sequence[str], place: Path, moments: Sequence[Moment]) -> Ended:
    """The command in one folder again and again, killed at one moment after the other."""
    cut, env = place / "cut", homes(place / "cut")
    for moment in moments:
        ended = shop.run(words, cut, moment, env, first=BRIEF)
        assert ended.killed, f"it never came by {moment}: {ended.err}"
    return shop.run(words, cut, env=env, first=BRIEF)


def at_every_moment(
    shop: Workshop, words: Sequence[str], place: Path, after_s: float = 0.0
) -> tuple[Ended, list[str]]:
    """The command in one folder, killed at the first moment at which it was not killed yet."""
    cut, env, died = place / "cut", homes(place / "cut"), list[str]()
    while len(died) < MOST_SITTINGS:
        known = "|".join(map(re.escape, died))
        new = re.compile(f"(?!(?:{known})$).*")
        ended = shop.run(words, cut, Moment(new.pattern, after_s=after_s), env, first=BRIEF)
        if not ended.killed:
            return ended, died
        died.append(next(filter(new.fullmatch, ended.moments)))
    pytest.fail(f"it did not end: {died}")


def assert_same_end(place: Path, whole: Ended, ended: Ended) -> None:
    assert ended.code == whole.code, ended.err
    assert "Traceback" not in ended.err
    assert left_over(place / "cut") == []
    assert list(Path(homes(place / "cut")["TMPDIR"]).glob("*edgekd*")) == []
    found, expected = ending(place / "cut"), ending(place / "whole")
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name


def test_a_mission_that_is_killed_again_and_again(shop: Workshop, tmp_path: Path) -> None:
    """The first attempt is not right often enough, the second learns longer.

    Every other moment is in the slow tests.
    """
    whole = in_one_go(shop, MISSION, tmp_path)
    attempts = json.loads((tmp_path / "whole" / "run" / "run.json").read_text())["budget"][
        "attempts"
    ]
    assert [attempt["rung"] for attempt in attempts] == ["first", "longer"]
    first, second = (f"run/{attempt['folder']}" for attempt in attempts)
    refused = shop.run(
        MISSION,
        tmp_path / "cut",
        Moment("renames run/run.json", full=True),
        homes(tmp_path / "cut"),
        first=BRIEF,
    )
    assert_no_room(refused, tmp_path / "cut")
    moments = [
        Moment(f"renames {first}/outcome-fp32.json"),  # measured, and not decided yet
        Moment(f"renames {second}/outcome-fp32.json", 2),  # confirmed, and not said so yet
    ]
    assert_same_end(tmp_path, whole, cut_off(shop, MISSION, tmp_path, moments))


def test_a_run_that_is_killed_in_its_last_stages(shop: Workshop, tmp_path: Path) -> None:
    """The stages before are those of a mission."""
    whole = in_one_go(shop, RUN, tmp_path)
    moments = [
        Moment("renames run/baseline/training/student.safetensors"),
        Moment("starts python.*", after_s=1.0),  # in the middle of measuring
        Moment("renames run/report.md"),  # a new page, and the old summary
    ]
    assert_same_end(tmp_path, whole, cut_off(shop, RUN, tmp_path, moments))


def test_a_comparison_that_is_killed(shop: Workshop, taught: Path, tmp_path: Path) -> None:
    words = words_of("compare", taught)
    whole = in_one_go(shop, words, tmp_path)
    moments = [
        Moment("renames beside/[^/]*kd/seed-0/training/checkpoint.pt", 2),  # one is ahead
        Moment("renames beside/[^/]*fitnet/seed-1/manifest.json"),  # the others are finished
    ]
    assert_same_end(tmp_path, whole, cut_off(shop, words, tmp_path, moments))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_moment(name: str, shop: Workshop, taught: Path, tmp_path: Path) -> None:
    words = words_of(name, taught)
    whole = in_one_go(shop, words, tmp_path)
    ended, died = at_every_moment(shop, words, tmp_path)
    assert_same_end(tmp_path, whole, ended)
    assert set(whole.moments) <= {*died, *ended.moments}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_in_the_middle_of_everything(
    name: str, shop: Workshop, taught: Path, tmp_path: Path
) -> None:
    """Some time after each moment at which something else begins: a program, a file, a stage."""
    words = words_of(name, taught)
    whole = in_one_go(shop, words, tmp_path)
    ended, _ = at_every_moment(shop, words, tmp_path, after_s=0.4)
    assert_same_end(tmp_path, whole, ended)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mission", "scout"])
def test_no_room_for_any_file(name: str, shop: Workshop, taught: Path, tmp_path: Path) -> None:
    """The same command goes on, each time there is room for one file more."""
    words = words_of(name, taught)
    whole = in_one_go(shop, words, tmp_path)
    ended, full = refused_at_every_file(shop, words, tmp_path)
    assert_same_end(tmp_path, whole, ended)
    assert {f"renames {file}" for file in full} >= {m for m in whole.moments if "renames" in m}
