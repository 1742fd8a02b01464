"""A device that says almost what the agent says: one value of a true answer is another one.

Whatever it is, it is refused in a sentence, or it is shown, reported and kept and does no harm.
"""

from __future__ import annotations

import copy
import importlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

from edgekd import devices, report
from edgekd.budget import figures_of
from edgekd.cli._profiles import print_profiles
from edgekd.cli._screen import Screen
from edgekd.devices import _following
from edgekd.devices._answers import RESULTS, check, read_event
from edgekd.errors import DeviceError
from edgekd.files import write_json
from edgekd.flow import examining, targeting
from edgekd.flow.hearing import Heard
from edgekd.profiling import Policy, profile
from tests.bad_input.devices import HOSTILE
from tests.bad_input.table import unprintable
from tests.test_devices import Recorder

HERE = Path(__file__).parent
TRUE: dict[str, list[dict[str, Any]]] = json.loads((HERE / "fixtures/answers.json").read_text())
TRUE["build"] = [
    {
        "event": "result", "engine": "ab/m.plan", "logits": "ab/m.npy", "bytes": 7, "built": True,
        "typed": True, "seconds": 1.0, "maker": "bindings", "timing_cache": "none",
        "key": {"tensorrt": "10.3.0", "gpu": "Orin"},
        "inspection": {
            "label": "fp16", "shares": {"fp16": 1.0}, "counts": {"fp16": 1},
            "layers": [["conv", "CaskConvolution", "fp16"]],
        },
    }
]  # fmt: skip
TRUE["furnish"] = [{"event": "result", "python": "/x/venv-0/bin/python", "versions": {"numpy": ""}}]
WRONG: list[Any] = [
    None, True, 0, -1, 1e-320, 2**63 - 1, 10**30, 1e308, float("nan"), "", HOSTILE, "x" * 10_000,
    "</script><script>alert(1)</script>", [], [None], {}, {HOSTILE: [HOSTILE]},
]  # fmt: skip
IMAGES = 6
CHECKED = ("build", "furnish")
Place = list[str | int]


def places(value: Any, at: Place) -> Iterator[Place]:
    """Where something stands in a JSON value; of a list the first and the last."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], [*at, key])
    elif isinstance(value, list) and value:
        for index in {0, len(value) - 1}:
            yield from places(value[index], [*at, index])


def changed(event: dict[str, Any], at: Place, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(event)
    inner: Any = made
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = value
    return made


MUTANTS = [
    (task, number, at, value)
    for task, events in TRUE.items()
    for number, event in enumerate(events)
    for at in places(event, [])
    if at
    for value in WRONG
]
FEW = random.Random(0).sample(MUTANTS, 100)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two models, six images and their classes, as the true answers are of them."""
    folder = tmp_path_factory.mktemp("given")
    tiny = run_path(str(HERE / "agent" / "tiny_models.py"))
    models = [tiny["classifier"](folder / name) for name in ("a.onnx", "b.onnx")]
    np.save(folder / "images.npy", tiny["pictures"](IMAGES))
    np.save(folder / "targets.npy", np.zeros(IMAGES, np.int64))
    return {
        "models": models,
        "images": folder / "images.npy",
        "targets": folder / "targets.npy",
    }


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent does not matter here."""
    monkeypatch.setattr(devices, "pack_agent", lambda target: target.write_bytes(b"agent"))
    monkeypatch.setattr(_following, "PAUSES_S", (0.01,))


def answering(events: list[dict[str, Any]]) -> Recorder:
    return Recorder([json.dumps(event) for event in events], name="pi")


def use(task: str, events: list[dict[str, Any]], given: dict[str, Any], out: Path) -> None:
    """Do what is done with the answers of a task, to the report."""
    device = answering(events)
    if task == "profile":
        with Screen() as screen:
            heard = Heard(screen, Policy(), threading.Event())
            more = {key: given[key] for key in ("images", "targets")}
            records = profile(given["models"], device, Policy(), on_event=heard, **more)
        measured = [record for record in records if "artifact" in record]
        print_profiles(records, {record["artifact"]["sha256"]: HOSTILE for record in measured})
        for record in measured:
            figures_of(record)
        write_json(out / "profile.json", records)
        report.write(out)
    elif task == "survey":
        verb: Any = importlib.import_module("edgekd.cli.device")
        verb._print(examining.examine("pi"))
    elif task == "describe":
        targeting.target_of("pi")
    else:
        check(read_event(json.dumps(events[-1])) or {}, task)


def survives(
    mutant: tuple[str, int, Place, Any],
    given: dict[str, Any],
    out: Path,
    patch: pytest.MonkeyPatch,
) -> bool:
    """Whether it was taken; refused it is with one sentence."""
    task, number, at, value = mutant
    events = list(TRUE[task])
    events[number] = changed(events[number], at, value)
    device = answering(events)
    patch.setattr(examining, "reach", lambda name: device)
    patch.setattr(targeting, "reach", lambda name: device)
    try:
        use(task, events, given, out)
    except DeviceError as refused:
        said = str(refused)
    except ValueError as refused:  # of tasks whose answers are only looked at here
        said = "" if task in CHECKED else f"not refused: {refused!r}"
    else:
        return True
    return assert_short(said)


def assert_short(said: str) -> bool:
    """A refusal that fits a screen."""
    assert not said.startswith("not refused")
    assert len(said) < 900
    return False


def assert_harmless(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = capsys.readouterr()
    assert not unprintable(said.out + said.err)
    for page in out.glob("report.*"):
        text = page.read_text("utf-8").partition("/**\n* plotly.js")[0]
        assert "<script>alert" not in text or page.suffix == ".json"
        assert "\x1b" not in text
        page.unlink()


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("answers", [[1e20, -3.4e38, None]]),
        ("layers", [{"name": "x" * 9_000, "type": "y" * 9_000, "ms": 0.1, "pct": 1.0}]),
        ("metadata", {"of": "/home/caf\udce9"}),
    ],
)
def test_what_is_rare_is_no_reason_to_doubt(key: str, value: Any) -> None:
    event = copy.deepcopy(TRUE["profile"][-1])
    event["models"][0][key] = value
    found = read_event(json.dumps(event))
    assert found is not None
    check(found, "profile")
    assert json.dumps(found["models"][0][key]) == json.dumps(value).replace("\\udce9", "?")
    for wrong in (1e39, 2**63 + 1, float("inf")):
        event["models"][0]["answers"] = [[wrong]]
        with pytest.raises(ValueError, match="the number"):
            read_event(json.dumps(event))


def test_true_answers_are_taken(given: dict[str, Any], tmp_path: Path) -> None:
    use("profile", TRUE["profile"], given, tmp_path)
    assert (tmp_path / "report.html").is_file()
    for task in RESULTS:
        check(TRUE[task][-1], task)


@pytest.mark.usefixtures("light")
def test_one_value_is_another(
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for mutant in FEW:
        survives(mutant, given, tmp_path, monkeypatch)
        assert_harmless(tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("task", TRUE)
def test_many_values_are_others(
    task: str,
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mutants = [mutant for mutant in MUTANTS if mutant[0] == task]
    mutants = random.Random(1).sample(mutants, min(len(mutants), 1000))
    taken = []
    for mutant in mutants:
        taken.append(survives(mutant, given, tmp_path, monkeypatch))
        assert_harmless(tmp_path, capsys)
    with capsys.disabled():
        print(f"{task}: {len(taken)} answers, {sum(taken)} taken, {taken.count(False)} refused")
