"""A scout on this machine: refused early, measured once, and told whole."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.budget import Budget
from edgekd.errors import DeviceError, UnknownNameError, UsageError
from edgekd.flow import scouts
from edgekd.flow.scouts import Scouting, scout, seen
from edgekd.profiling import Policy
from edgekd.recipe import Data
from edgekd.schema import SCOUT
from edgekd.scouting.ranking import Entry
from edgekd.watching import Silent
from tests.flow.conftest import Heard
from tests.keys import check_keys

TINY = runpy.run_path(str(Path(__file__).parents[1] / "agent/tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
NAMES = ("resnet8", "resnet14", "vgg8")
SHORT: dict[str, Any] = {"warmup_seconds": 0.1, "max_seconds": 1.0, "threads": 1}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the files that were written; each is a classifier that costs nothing to make."""
    made: list[str] = []

    def write(entry: Entry, folder: Path) -> Path:
        made.append(entry.key)
        if entry.candidate.name == "vgg8":
            raise ValueError("Unsupported: aten::something")
        folder.mkdir(parents=True)
        return classifier(folder / "model.onnx", classes=10, seed=len(entry.key))

    monkeypatch.setattr(scouts, "sketching", lambda classes, target: write)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def test_a_scout_measures_once_and_tells_all(written: list[str], tmp_path: Path) -> None:
    budget = Budget.parse("p95<=5s, top1_drop<=1%")
    asked = Scouting(budget=budget, space=NAMES, size=8, said=SHORT)
    found = scout(asked, tmp_path / "out", Silent())
    assert json.loads((tmp_path / "out/scout.json").read_text()) == found
    check_keys(SCOUT, found)
    rows = found["candidates"]
    assert {row["key"] for row in rows[:2]} == {"resnet8-8px", "resnet14-8px"}
    assert [row["fits"] for row in rows] == ["fits", "fits", "unknown"]
    assert "it could not be exported: ValueError: Unsupported: aten" in rows[-1]["failed"]
    assert all(row["p95"]["value"] > 0 and row["rounds"] == 2 for row in rows[:2])
    assert found["rounds"][0]["candidates"] == 3
    assert found["anchor"]["spread"] >= 0
    assert found["runtime"]["name"] == "onnxruntime"
    assert found["facts"]["physical_cores"] >= 1
    assert found["budget"] == "p95<=5s, top1_drop<=1%"
    written.clear()
    again = scout(asked, None, Silent())
    assert "vgg8-8px" not in written
    assert [row["failed"] for row in again["candidates"]] == [row["failed"] for row in rows]
    steady = {row["key"]: row["median"] for row in rows if row["state"] == "stable"}
    assert found["noisy"] == 2 - len(steady)
    for row in again["candidates"]:
        assert row["key"] not in steady or (row["cached"], row["median"]) == (
            True,
            steady[row["key"]],
        )


def test_a_cache_that_cannot_be_written_costs_time_alone(
    written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    heard = Heard()
    found = scout(Scouting(space=NAMES, size=8, said=SHORT), tmp_path / "out", heard)
    assert [bool(row.get("failed")) for row in found["candidates"]] == [False, False, True]
    (told,) = (text for text in heard.said if text.startswith("nothing is kept for the next time"))
    assert "cannot write" in told
    assert told.endswith(": Not a directory.")


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"device": "ssh://nobody@127.0.0.1:1"}, DeviceError, "127.0.0.1"),
        ({"device": "raspberry-pi-5"}, UsageError, "is a kind of board"),
        ({"space": ("resnet9999",)}, UnknownNameError, "resnet9999"),
        ({"said": {"threads": -1}}, UsageError, "threads is -1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    fields: dict[str, Any], error: type[Exception], said: str, written: list[str]
) -> None:
    with pytest.raises(error, match=said):
        scout(Scouting(**{"space": ("resnet8",), **fields}), None, Silent())
    assert not written


@pytest.mark.parametrize("meters", [[], ["nvml Tesla T4"]])
def test_a_bound_on_energy_takes_a_meter(
    meters: list[str], written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [{"name": name} for name in meters]
    survey: dict[str, Any] = {"device": {}, "packages": {}, "meters": found}
    monkeypatch.setattr(scouts, "look_at", lambda device: survey)
    asked = Scouting(budget=Budget.parse("j_per_inf<=1mJ"), space=("resnet8",))
    with pytest.raises(UsageError, match="local has no meter that can be read of its CPU"):
        scout(asked, None, Silent())
    assert not written


def test_which_meter_sees_what_computes() -> None:
    """A graphics card's own only where the card does the work."""
    asked = Scouting(budget=Budget.parse("j_per_inf<=1mJ"))
    card, board = [{"name": "nvml Tesla T4"}], [{"name": "rapl package-0"}]
    scouts._check_meter(asked, Policy(), board)
    scouts._check_meter(asked, Policy(runtime="trt"), card)
    scouts._check_meter(asked, Policy(provider="CUDAExecutionProvider"), card)
    scouts._check_meter(Scouting(), Policy(), [])
    with pytest.raises(UsageError, match="of its GPU, which computes"):
        scouts._check_meter(asked, Policy(runtime="trt"), [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"classes": 1}, "classes is 1; expected at least 2"),
        ({"rounds": 0}, "rounds is 0"),
        ({"margin": 1.0}, "the margin is 1; expected 0 % to less than 100 %"),
        ({"precisions": ("int4",)}, "the precisions are int4"),
        ({"precisions": ()}, "the precisions are none"),
    ],
)
def test_a_scouting_that_cannot_be(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Scouting(**fields)


def test_the_space_suits_the_data() -> None:
    assert Scouting(size=32).spaces == ("cifar",)
    assert Scouting(size=224).spaces == ("timm",)
    assert Scouting(size=224, space=("resnet8",)).spaces == ("resnet8",)
    assert seen(Data(source="digits")) == (8, 10)
    assert seen(Data(source="digits", size=16)) == (16, 10)


def test_a_busy_device_is_said() -> None:
    class Told(Silent):
        said = ""

        def say(self, text: str) -> None:
            self.said += text

    anchor = {"name": "resnet8-8px", "spread": 0.3, "medians": [1.0, 1.3, 0.9]}
    told = Told()
    scouts._say_if_busy({"anchor": anchor, "margin": 0.5, "noisy": 2}, told)
    assert not told.said
    scouts._say_if_busy({"anchor": anchor, "margin": 0.1, "noisy": 2}, told)
    assert told.said.startswith(
        "the device was busy: resnet8-8px took from 0.9 to 1.3 ms in 3 jobs, which is more than "
        "the margin of 10%; 2 figures are noisy."
    )
