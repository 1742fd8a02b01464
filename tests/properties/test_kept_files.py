"""Files that edgekd wrote and reads back: whatever became of them, they are used or left aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.agent.locking import _state
from edgekd.flow.deploying import _names
from edgekd.flow.mission.worth import _kept
from edgekd.flow.references import _said
from edgekd.records import _engine_facts
from edgekd.report.collect import _lines
from edgekd.scouting.weighing import Weight, _read
from edgekd.trainer.metrics import _lines_up_to
from tests.properties.spoiling import respelled, spoiled

TARGETS = [0, 1, 2]
ANSWERS = {"predictions": [0, 1, 1], "targets": TARGETS}
LAST = 5
METRICS = {"step": 3, "loss": 0.5, "train": {"top1": 0.25}}
ENGINE = {"key": {"options": {"precision": "fp16"}}}
WEIGHT = {"parameters": 78042, "macs": 12_000_000}


def _engine(file: Path) -> Any:
    return _engine_facts(file.with_suffix(""))


def _curve(file: Path) -> Any:
    return list(_lines(file))


def _proofs(file: Path) -> Any:
    return _names(file.parents[1])


def _is_answers(found: Any) -> bool:
    return found is None or (len(found) == len(TARGETS) and {*map(type, found)} == {int})


def _is_metrics(found: Any) -> bool:
    return all(json.loads(line)["step"] <= LAST for line in found)


def _is_tables(found: Any) -> bool:
    return {*map(type, found)} <= {dict}


def _is_weights(found: Any) -> bool:
    return {*map(type, found)} <= {int} and {*map(type, found.values())} <= {Weight}


@dataclass(frozen=True)
class Kept:
    """A file that edgekd wrote."""

    table: Any
    """What is in it."""
    read: Callable[[Path], Any]
    whole: Any
    """What comes of it where nothing is wrong."""
    nothing: Any
    """What comes of nonsense."""
    is_sound: Callable[[Any], bool] = lambda found: True
    """Whether that is what whoever asked relies on, whatever became of the file."""


READ = {
    "answers": Kept(ANSWERS, lambda file: _said(file, TARGETS), [0, 1, 1], None, _is_answers),
    "metrics": Kept(
        METRICS, lambda file: _lines_up_to(file, LAST), [json.dumps(METRICS)], [], _is_metrics
    ),
    "curve": Kept(METRICS, _curve, [METRICS], [], _is_tables),
    "engine": Kept(ENGINE, lambda file: _engine(file)["precision_asked"], "fp16", None),
    "weights": Kept({"32": WEIGHT}, _read, {32: Weight(78042, 12_000_000)}, {}, _is_weights),
    "worth": Kept(ANSWERS, _kept, ANSWERS, {}, lambda found: isinstance(found, dict)),
    "proofs": Kept(
        {"device": "pi"},
        _proofs,
        ["pi"],
        ["model.plan"],
        lambda found: [*map(type, found)] == [str],
    ),
    "clocks": Kept(
        {"pid": 1}, _state, {"pid": 1}, None, lambda found: isinstance(found, dict | NoneType)
    ),
}
HOSTILE = {
    "deep": b"[" * 100_000,
    "deep tables": b'{"a":' * 100_000,
    "a long number": b"1" * 100_000,
    "no text": b"\xff\xfe\x00",
    "zeros": bytes(4096),
    "a list": b"[]",
    "a word": b'"step"',
}
"""Nonsense to every one of them."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "proof"
    folder.mkdir()
    return folder / "model.plan.json"


@pytest.mark.parametrize("name", READ)
def test_what_is_whole_is_read(name: str, file: Path) -> None:
    kept = READ[name]
    file.write_text(json.dumps(kept.table))
    assert kept.read(file) == kept.whole
    assert kept.is_sound(kept.whole)
    assert kept.is_sound(kept.nothing)


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", READ)
def test_what_is_made_to_hurt_is_left_aside(name: str, what: str, file: Path) -> None:
    file.write_bytes(HOSTILE[what])
    assert READ[name].read(file) == READ[name].nothing


@pytest.mark.parametrize("name", READ)
def test_an_empty_table_is_nothing_more(name: str, file: Path) -> None:
    file.write_bytes(b"{}")
    empty: dict[str, Any] = {"curve": [{}], "worth": {}, "clocks": {}}
    assert READ[name].read(file) == empty.get(name, READ[name].nothing)


@pytest.mark.parametrize("name", READ)
def test_what_is_not_a_number_does_no_harm(name: str, file: Path) -> None:
    file.write_bytes(b'{"step": NaN, "device": NaN, "targets": NaN}')
    assert READ[name].is_sound(READ[name].read(file))


@pytest.mark.parametrize("name", READ)
@given(data=st.data())
def test_what_was_changed_is_used_or_left_aside(name: str, file: Path, data: st.DataObject) -> None:
    kept = READ[name]
    file.write_bytes(data.draw(respelled(kept.table) | spoiled([json.dumps(kept.table).encode()])))
    assert kept.is_sound(kept.read(file))
