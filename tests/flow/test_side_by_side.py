"""Several devices in one call: each in a thread of its own, each with its own end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from runpy import run_path
from typing import Any

import jsonschema
import pytest

import edgekd
from edgekd.devices import Device
from edgekd.devices.local import Local
from edgekd.errors import DeviceError, UsageError
from edgekd.flow import measuring, sitting
from edgekd.flow.grouping import groups_of
from edgekd.flow.hearing import Named
from edgekd.flow.measuring import measure
from edgekd.flow.side_by_side import side_by_side
from edgekd.flow.sitting import Order, Seat
from edgekd.profiling import Policy
from tests.flow.conftest import Heard

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
QUICK = Policy(
    threads=1,
    max_seconds=0.3,
    min_seconds=0,
    warmup_seconds=0.01,
    blocks=2,
    block_runs=10,
    block_seconds=0.01,
)
SCHEMA = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text())


class Unplugged(Local):
    """A device that is not there any more."""

    def push(self, local: Path, remote: str) -> None:
        raise DeviceError(f"{self.name}: nothing answers at its address. Is it switched on?")


class Kept(Local):
    """A device that counts how often it was cleared."""

    cleared = 0

    def clear(self, *, environments: bool = True) -> None:
        assert not environments  # a device's profile may name the Python of one
        self.cleared += 1
        super().clear(environments=environments)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> dict[str, Device]:
    """Three boards on a shelf: two that work, and one that does not."""
    shelf: dict[str, Device] = {
        "pi4": Kept(name="pi4"),
        "pi5": Kept(name="pi5"),
        "orin": Unplugged(name="orin"),
    }
    monkeypatch.setattr(measuring, "reach", lambda name: shelf[name])
    return shelf


def test_one_that_fails_does_not_lose_the_others(
    devices: dict[str, Device], tmp_path: Path
) -> None:
    first, second = classifier(tmp_path / "a.onnx"), classifier(tmp_path / "b.onnx", seed=1)
    heard, out = Heard(), tmp_path / "profile.json"
    made = measure([first, second], QUICK, ["pi4", "orin", "pi5"], out=out, watch=heard)
    assert json.loads(out.read_text()) == made
    for record in made:
        jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    timed = [record["device"]["profile"] for record in made if "timing" in record]
    assert timed == ["pi4", "pi4", "pi5", "pi5"]  # in the order they were asked in
    assert [r["comparison"]["device"] for r in made if "comparison" in r] == ["pi4", "pi5"]
    (failed,) = [record["failure"] for record in made if "failure" in record]
    assert failed["device"] == "orin"
    assert failed["models"] == ["a.onnx", "b.onnx"]
    assert failed["message"] == "nothing answers at its address. Is it switched on?"
    lines = (tmp_path / "profile.samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["device"] for row in rows if row["run"] == 0 and row["model"] == 1] == [
        "pi4",
        "pi5",
    ]
    assert {name.partition(" ")[0] for name in heard.names} == {"pi4", "pi5"}
    assert heard.said == ["orin: failed: nothing answers at its address. Is it switched on?"]


def test_one_alone_fails_as_it_always_did(devices: dict[str, Device], tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    for alone in ("orin", ["orin"]):
        with pytest.raises(DeviceError, match="nothing answers"):
            measure([classifier(tmp_path / "a.onnx")], QUICK, alone, out=out)
    assert not out.exists()


def test_what_was_asked_for_is_each_devices_own(devices: dict[str, Device], tmp_path: Path) -> None:
    policies = {"pi4": QUICK, "pi5": Policy(**{**QUICK.__dict__, "batch_size": 2})}
    made = measure([classifier(tmp_path / "a.onnx")], policies, ["pi4", "pi5"])
    assert [record["policy"]["batch_size"] for record in made] == [1, 2]
    assert [record["evidence"]["asked"]["batch_size"] for record in made] == [1, 2]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pi4", "pi5", "pi4"], "pi4 was named 2 times.*Name each device once"),
        ([], "no device to measure on"),
    ],
)
def test_devices_that_cannot_be(
    names: list[str], words: str, devices: dict[str, Device], tmp_path: Path
) -> None:
    heard = Heard()
    with pytest.raises(UsageError, match=words):
        measure([classifier(tmp_path / "a.onnx")], QUICK, names, watch=heard)
    assert heard.stages == []


def test_nothing_is_left_where_that_was_asked_for(
    devices: dict[str, Device], tmp_path: Path
) -> None:
    measure([classifier(tmp_path / "a.onnx")], QUICK, "pi4", clean=True)
    first, second = devices["pi4"], devices["pi5"]
    assert isinstance(first, Kept)
    assert isinstance(second, Kept)
    assert (first.cleared, second.cleared) == (1, 0)
    assert not [file for file in first.folder.rglob("*") if file.is_file()]


def test_a_device_that_cannot_be_cleared_keeps_its_results(
    devices: dict[str, Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Kept, *, environments: bool) -> None:
        raise DeviceError("the disk is read-only.")

    monkeypatch.setattr(Kept, "clear", refuse)
    heard = Heard()
    made = measure([classifier(tmp_path / "a.onnx")], QUICK, "pi4", clean=True, watch=heard)
    assert made[0]["timing"]["n"] > 1
    assert heard.said == ["what edgekd left on pi4 could not be removed: the disk is read-only."]


# ---- without an agent ----


def seats(tmp_path: Path, *names: str) -> list[Seat]:
    groups = groups_of([classifier(tmp_path / "a.onnx")], QUICK)
    return [Seat(Local(name=name), groups) for name in names]


def test_they_run_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other to have begun: one after the other would never end."""
    together = threading.Barrier(2, timeout=20)

    def profile(*_: Any, on_event: Callable[[Mapping[str, Any]], None], **__: Any) -> list[Any]:
        together.wait()
        on_event({"event": "found", "model": 0, "predictions": None, "answers": None})
        return [{"accuracy": None}]

    monkeypatch.setattr(sitting, "profile", profile)
    outcomes = side_by_side(seats(tmp_path, "pi4", "pi5"), Order(alone=False), Heard())
    assert [outcome.records for outcome in outcomes] == [[{"accuracy": None}]] * 2


def test_an_interruption_ends_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the main thread only; the others are ended at their next event."""
    ended, together = list[str](), threading.Barrier(2, timeout=20)

    def profile(
        _: Any, device: Device, __: Any, on_event: Callable[[Mapping[str, Any]], None]
    ) -> list[Any]:
        together.wait()
        if device.name == "pi4":
            signal.pthread_kill(int(threading.main_thread().ident or 0), signal.SIGINT)
        try:
            while True:
                on_event({"event": "note", "text": "still there"})
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.append(device.name)
            raise

    monkeypatch.setattr(sitting, "profile", profile)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(seats(tmp_path, "pi4", "pi5"), Order(alone=False), Heard())
    assert sorted(ended) == ["pi4", "pi5"]


def test_a_fault_of_our_own_is_one_devices_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile(_: Any, device: Device, *__: Any, on_event: Callable[[Any], None]) -> list[Any]:
        on_event({"event": "found", "model": 0, "predictions": None, "answers": None})
        return [{"accuracy": None}] if device.name == "pi5" else [dict[str, Any]()["soc"]]

    monkeypatch.setattr(sitting, "profile", profile)
    both = seats(tmp_path, "pi4", "pi5")
    failed, fine = side_by_side(both, Order(alone=False), Heard())
    message = failed.records[0]["failure"]["message"]
    assert "edgekd itself is at fault: KeyError('soc') in test_side_by_side.py, line " in message
    assert fine.records == [{"accuracy": None}]
    with pytest.raises(KeyError):  # alone, it is not hidden
        side_by_side(both[:1], Order(), Heard())


def test_a_watch_is_told_who_speaks() -> None:
    heard = Heard()
    named = Named(heard, "pi4", threading.Lock())
    named.say("it is warm")
    named.progress("profile", 3, 30, "median 1 ms")
    assert heard.said == ["pi4: it is warm"]
    assert heard.stages == [("pi4 profile", 3, 30, "median 1 ms")]


class Mute(Local):
    """A device on which nothing is told for minutes, as while a long run goes on."""

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        return super().run(["sleep", "60"] if "keep" in argv else ["true"], timeout, on_line)


def test_an_interruption_ends_those_that_say_nothing(tmp_path: Path) -> None:
    groups = groups_of([classifier(tmp_path / "a.onnx")], QUICK)
    both = [Seat(Mute(name=name), groups) for name in ("pi4", "pi5")]
    main = int(threading.main_thread().ident or 0)
    timer = threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(both, Order(alone=False), Heard())
    assert time.monotonic() - before < 20  # and not the 60 s of the silence
