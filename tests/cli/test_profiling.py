"""``edgekd profile``: what was said, what the device's profile adds, and what a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

import edgekd as package
from edgekd.cli._courses import energy
from edgekd.cli._layers import print_layers
from edgekd.cli._policies import OPTIONS, Duration, said
from edgekd.cli._profiles import print_profiles
from edgekd.errors import UsageError
from edgekd.flow.policies import policy_for
from tests.cli.conftest import Command

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
SCHEMA = json.loads((Path(package.__file__).parent / "profile.schema.json").read_text())
QUICK = ["--max-seconds", "0.5", "--threads", "1"]


@pytest.mark.parametrize("text", ["my notes", "{}", "[]x", '[{"schema_version": 1}, 3]'])
def test_a_file_that_is_no_measurement_stays(text: str, edgekd: Command, tmp_path: Path) -> None:
    model, out = classifier(tmp_path / "a.onnx"), tmp_path / "notes.json"
    out.write_text(text)
    answer = edgekd("profile", model, *QUICK, "-o", out)
    assert answer.code == 2
    assert f"{out} is there already, and is no measurement of edgekd profile" in answer.err
    assert out.read_text() == text


def test_an_earlier_measurement_is_replaced(edgekd: Command, tmp_path: Path) -> None:
    model, out = classifier(tmp_path / "a.onnx"), tmp_path / "profile.json"
    for text in ("", '[{"failure": {}}]'):
        out.write_text(text)
        assert edgekd("profile", model, *QUICK, "-o", out).code == 0
        assert json.loads(out.read_text())[0]["timing"]


def test_samples_of_somebody_else_stay(edgekd: Command, tmp_path: Path) -> None:
    model, other = classifier(tmp_path / "a.onnx"), tmp_path / "p.samples.jsonl"
    other.write_text("my notes")
    answer = edgekd("profile", model, *QUICK, "-o", tmp_path / "p.json")
    assert answer.code == 2
    assert f"{other} is there already, and is no measurement of edgekd profile" in answer.err
    assert other.read_text() == "my notes"
    for text in ("", '{"device": "a", "model": 0, "wall_ns": 3}\n'):
        other.write_text(text)
        assert edgekd("profile", model, *QUICK, "-o", tmp_path / "p.json").code == 0
        assert '"cpu_ns"' in other.read_text()


def test_a_link_that_is_written_to_stays_one(edgekd: Command, tmp_path: Path) -> None:
    link, real = tmp_path / "link.json", tmp_path / "there" / "real.json"
    real.parent.mkdir()
    link.symlink_to(real)
    for _ in range(2):  # to where nothing is, and to what the first one left
        answer = edgekd("profile", classifier(tmp_path / "a.onnx"), *QUICK, "-o", link)
        assert answer.code == 0
    assert link.is_symlink()
    assert sorted(file.name for file in real.parent.iterdir()) == [
        "real.json",
        "real.samples.jsonl",
    ]


def test_samples_beside_what_a_link_leads_to_stay(edgekd: Command, tmp_path: Path) -> None:
    link, other = tmp_path / "link.json", tmp_path / "there" / "real.samples.jsonl"
    other.parent.mkdir()
    other.write_text("[" * 2000)  # deeper than Python reads
    link.symlink_to(other.parent / "real.json")
    answer = edgekd("profile", classifier(tmp_path / "a.onnx"), *QUICK, "-o", link)
    assert answer.code == 2
    assert f"{other} is there already, and is no measurement of edgekd profile" in answer.err
    assert [file.name for file in other.parent.iterdir()] == [other.name]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts devices of the user's own on the shelf."""
    folder = tmp_path / "config" / "edgekd" / "devices"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def put(name: str, text: str) -> None:
        (folder / f"{name}.toml").write_text(text)

    return put


LOCAL = '[connect]\naddress = "local"\n'
NOBODY = '[connect]\naddress = "ssh://nobody@127.0.0.1:1"\n'  # where nothing can listen


def test_several_devices_make_a_matrix_and_a_failure_in_words(
    edgekd: Command, shelf: Callable[[str, str], None], tmp_path: Path
) -> None:
    for name, text in {"one": LOCAL, "two": LOCAL, "gone": NOBODY}.items():
        shelf(name, text)
    model, out = classifier(tmp_path / "a.onnx"), tmp_path / "profile.json"
    answer = edgekd("profile", model, "--device", "one, gone", "--device", "two", *QUICK, "-o", out)
    assert answer.code == 1
    written = json.loads(out.read_text())
    for record in written:
        jsonschema.validate(record, SCHEMA)
    assert [r["device"]["profile"] for r in written if "timing" in r] == ["one", "two"]
    assert [r["failure"]["device"] for r in written if "failure" in r] == ["gone"]
    lines = answer.out.splitlines()
    head = next(line for line in lines if line.split()[:2] == ["median", "[95"])
    assert head.split()[-3:] == ["one", "gone", "two"]
    row = next(line for line in lines if line.split()[:1] == ["a.onnx"])
    assert "failed" in row.split()
    assert row.count(" ms") == 2
    assert any(line.startswith("gone failed (a.onnx): nothing listens there.") for line in lines)
    assert [line for line in lines if line.startswith("On ")] == ["On one:", "On two:"]
    assert max(len(line) for line in lines if line.startswith("  ")) <= 80
    assert "gone: failed: nothing listens there." in answer.err


def test_what_is_not_said_is_the_devices_own(
    edgekd: Command, shelf: Callable[[str, str], None], tmp_path: Path
) -> None:
    shelf("mine", f'{LOCAL}[measure]\nthreads = 1\naffinity = "0"\nspinning = true\n')
    model = classifier(tmp_path / "a.onnx")
    quick = ["--device", "mine", "--max-seconds", "0.5", "--no-spinning", "--json"]
    answer = edgekd("profile", model, *quick)
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)
    asked = record["evidence"]["asked"]
    assert (asked["threads"], asked["affinity"], asked["spinning"]) == (1, "0", False)
    assert record["policy"]["affinity"] == [0]
    assert record["device"]["profile"] == "mine"


def test_what_is_said_comes_first(shelf: Callable[[str, str], None]) -> None:
    shelf("mine", f'{LOCAL}[measure]\nthreads = 2\nspinning = true\naffinity = "big"\n')
    plain = policy_for("mine", {})
    assert (plain.threads, plain.spinning, plain.affinity) == (2, True, "big")
    told = policy_for("mine", {"threads": 0, "spinning": False, "affinity": ""})
    assert (told.threads, told.spinning, told.affinity) == (0, False, "")
    # another runtime has none of the board's own knobs, and those of it that stay
    other = policy_for("mine", {"runtime": "openvino"})
    assert (other.runtime, other.spinning, other.threads) == ("openvino", False, 2)
    with pytest.raises(UsageError, match="--spinning is a knob of ONNX Runtime's"):
        policy_for("mine", {"runtime": "openvino", "spinning": True})
    assert policy_for("local", {}) == policy_for("user@host", {})


def test_nothing_said_is_nothing() -> None:
    names = [name.partition("/")[0].removeprefix("--").replace("-", "_") for name, _ in OPTIONS]
    flags: dict[str, Any] = dict.fromkeys(names)
    assert said(flags) == {}
    flags |= {"threads": 0, "spinning": False, "sustained": 600.0, "wait": 90.0}
    assert said(flags) == {"threads": 0, "spinning": False, "sustained_s": 600.0, "wait_s": 90.0}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("1h", 3600.0), ("5", 5.0), ("1.5m", 90.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


REFUSED: dict[str, tuple[list[str], str]] = {
    "duration": (["--sustained", "long"], "'long' is no duration; expected one such as 90s, 10m"),
    "no long run": (["--sustained", "0s"], "it has to be longer than 0 s; leave it out for none"),
    "of training images": (["--limit", "100"], "No such option"),
    "threads": (["--threads", "-1"], "threads is -1; expected at least 0"),
    "no device": (["--device", "pi4,,pi5"], "expected names such as pi4,pi5, not 'pi4,,pi5'"),
    "one device twice": (["--device", "local,local"], "local was named 2 times"),
    "clock": (["--clock", "wall"], "'wall' is not one of"),
    "no events": (["--clock", "compute"], "the clock compute reads a GPU's own events"),
    "random files": (["--clock", "end_to_end", "--input", "random"], "starts at encoded images"),
    "affinity": (["--affinity", "fast"], "the affinity is 'fast'; expected CPUs"),
    "kind of board": (
        ["--device", "raspberry-pi-5"],
        "raspberry-pi-5 is a kind of board, and nothing says where yours is. Add it: edgekd device",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured(name: str, edgekd: Command, tmp_path: Path) -> None:
    flags, words = REFUSED[name]
    answer = edgekd("profile", classifier(tmp_path / "a.onnx"), *flags)
    assert (answer.code, answer.out) == (2, "")
    assert words in " ".join(answer.err.split())


# ---- what a person reads ----


@pytest.fixture
def measured(edgekd: Command, tmp_path: Path) -> dict[str, Any]:
    """A real record, with a long run of a second."""
    model = classifier(tmp_path / "a.onnx", metadata=True)
    more = ["--sustained", "1s", "--clock", "end_to_end", "--json"]
    answer = edgekd("profile", model, *QUICK, *more)
    assert answer.code == 0, answer.err
    # nothing in the file says how its images are made
    assert "a.onnx does not say how its images are made: they are resized to 8x8" in answer.err
    (record,) = json.loads(answer.out)
    jsonschema.validate(record, SCHEMA)
    assert record["policy"]["clock"] == "end_to_end"
    assert len(record["sustained"]) == 1
    return dict(record)


def test_what_was_measured_beside_is_shown(
    measured: dict[str, Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row: dict[str, Any] = {
        "threads": 1,
        "spinning": False,
        "median": 4.0,
        "p95": None,
        "cpu_ms": 4.1,
        "n": 50,
    }
    fast = {**row, "threads": 4, "spinning": True, "median": 1.5, "p95": 1.75, "cpu_ms": 6.0}
    rows = [{**row, "state": "stable"}, {**fast, "state": "noisy"}]
    joule: dict[str, Any] = {
        "j_per_inference": 0.0123,
        "idle_w": 2.5,
        "busy_w": 6.25,
        "rate_hz": 10.0,
    }
    joule |= {"scope": "board", "meter": "ina3221", "seconds": 30.0, "n": 7000}
    late = {**measured["sustained"][0], "minute": 2.0, "temperature_c": 81.5, "core_khz": 1500000}
    late |= {"throttle_bits": 4, "median": 2 * measured["sustained"][0]["median"]}
    record = {
        **measured,
        "sweep": {"rows": rows, "best_latency": 1, "best_cpu": 0},
        "energy": joule,
        "sustained": [*measured["sustained"], late],
    }
    jsonschema.validate(record, SCHEMA)
    print_profiles([record], {measured["artifact"]["sha256"]: "a.onnx"})
    lines = capfd.readouterr().out.splitlines()
    cells = [line.split() for line in lines]
    assert ["1", "off", "4", "ms", "-", "4.1", "ms", "stable", "CPU", "time"] in cells
    assert ["4", "on", "1.5", "ms", "1.75", "ms", "6", "ms", "noisy", "latency"] in cells
    (hot,) = [line.split() for line in lines if line.split()[-1:] == ["0x4"]]
    assert (hot[0], hot[-3:]) == ("2", ["82", "1,500", "0x4"])
    assert any("its median went from" in line and "(+100.0%)" in line for line in lines)
    assert f"a.onnx takes {energy(joule)}." in lines
    assert energy(joule).startswith("12.3 mJ a run above idle (board, ina3221 at 10 Hz: 6.25 W")
    assert max(len(line) for line in lines if line.startswith("  ")) <= 80
    assert not any("against float" in line for line in lines)  # no accuracy was measured

    accuracy: dict[str, Any] = {
        "metric": "top1",
        "n": 1000,
        "value": 0.75,
        "interval": [0.722, 0.776],
    }
    accuracy |= {"reference": 0.76, "delta": -0.01, "delta_interval": [-0.0181, -0.0019]}
    accuracy |= {"top1_agreement": 0.97, "top5": 0.93, "disagreements": {"n": 30, "shown": []}}
    memory = {"peak_rss_bytes": 2 * 10**9, "peak_device_bytes": 3 * 10**8, "unified": True}
    shares = {"CUDAExecutionProvider": 0.75, "CPUExecutionProvider": 0.25}
    runtime = {**measured["runtime"], "node_share": shares}
    record = {**measured, "accuracy": accuracy, "memory": memory, "runtime": runtime}
    jsonschema.validate(record, SCHEMA)
    print_profiles([record], {measured["artifact"]["sha256"]: "a.onnx"})
    printed = " ".join(capfd.readouterr().out.split())
    assert "against float -1.00 points [-1.81, -0.19]" in printed
    assert "top-5 93.00%" in printed
    assert "peak memory 2000 MB 300 MB of it for the GPU" in printed
    assert "nodes run by CUDA 75% CPU 25%" in printed


def test_an_unstable_comparison_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"a": "a.onnx", "sentence": "b.onnx is 3 % faster (95 %)"}
    stable = found | {"state": "stable", "reasons": []}
    noisy = found | {"state": "noisy", "reasons": ["its null pair is off by 4 %"]}
    print_profiles([{"comparison": stable}, {"comparison": noisy}], {})
    bare, told = capfd.readouterr().out.splitlines()
    assert bare == "Against a.onnx: b.onnx is 3 % faster (95 %)."
    assert told == f"{bare} The comparison is noisy: its null pair is off by 4 %."


def test_the_slowest_layers_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    layers: list[dict[str, Any]] = [
        {"name": f"/block{index}/Conv[0]", "type": "Conv", "ms": 0.5 * index, "pct": index / 2}
        for index in range(12)
    ]
    layers.append({"name": "x" * 50 + "/end", "type": "Gemm", "ms": 9.0, "pct": None})
    print_layers(Console(width=80), "a.onnx", layers)
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert " ".join(lines[0]) == "a.onnx, the slowest 10 of 13 layers, timed apart:"
    rows = [line for line in lines if line[-1:] == ["%"] or line[-1:] == ["-"]]
    assert len(rows) == 10
    assert rows[0][0].startswith("...xxx")
    assert rows[0][1:] == ["Gemm", "9", "ms", "-"]
    assert rows[1] == ["/block11/Conv[0]", "Conv", "5.5", "ms", "5.5", "%"]
    print_layers(Console(width=80), "a.onnx", None)
    assert capfd.readouterr().out == ""
