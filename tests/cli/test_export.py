"""``edgekd export`` in each precision, as a person and as a program see it; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.flow import fastest
from edgekd.profiling import Policy
from tests.cli.conftest import Command

WIDE = ("--max-drop", "90%")
"""The images of these tests are too few to prove a small loss."""


@pytest.fixture
def network(taught: Path, tmp_path: Path) -> Path:
    """A tiny trained network, under another name."""
    (tmp_path / "net").symlink_to(taught)
    return tmp_path / "net"


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    return found


def test_int8_for_a_person(edgekd: Command, network: Path) -> None:
    answer = edgekd("export", network, "--precision", "int8", *WIDE, "--explain")
    assert answer.code == 0, answer.err
    assert "training images" in answer.out
    assert "accepted" in answer.out
    assert "preprocess" in answer.out  # the first stage that is explained
    made = manifest(network.with_name("net-onnx-int8"))["export"]
    assert made["precision"].startswith("int8")
    assert made["precision_asked"] == "int8"
    assert made["types"]["Conv"]["int8"] > 0
    names = made["int8"]["calibration"]["names"]
    assert names
    assert not any(name.startswith("/") for name in names)


def test_fp16_for_a_program(edgekd: Command, network: Path) -> None:
    answer = edgekd("export", network, "--precision", "fp16", *WIDE, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["precision"] == "fp16"
    assert found["half"]["headroom"] < 1
    assert found["bytes"] < 0.7 * manifest(network)["files"]["model.safetensors"]["bytes"]


def test_auto_says_what_it_tried(
    edgekd: Command, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Policy(max_seconds=0.3, min_seconds=0.0, warmup_seconds=0.1, layers=True)
    monkeypatch.setattr(fastest.Contest, "policy", quick)
    answer = edgekd("export", network, "--precision", "auto", "--repair", "none", *WIDE)
    assert answer.code == 0, answer.err
    auto = manifest(network.with_name("net-onnx-auto"))["export"]["auto"]
    assert auto["chosen"] in ("fp32", "int8")
    assert [one["precision"] for one in auto["candidates"]] == ["fp32", "int8"]
    assert all(reason in answer.out.replace("\n", " ") for reason in auto["reasons"])
    assert "Null pair" in answer.out
    assert sorted(path.name for path in network.parent.iterdir()) == ["net", "net-onnx-auto"]


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("--max-drop", "0"), "max_drop is 0.0; expected a share between 0 and 1"),
    (("--max-drop", "abc"), "expected a share such as 1% or 0.01"),
    (("--calibration", "99999", "--precision", "int8", *WIDE), "--calibration"),
    (("--calibration", "99999", "--precision", "auto", *WIDE), "--calibration"),
    (("--precision", "int8"), "validation images cannot show"),
    (("--precision", "fp16"), "validation images cannot show"),
    (("--opset", "12"), "opset is 12"),
    (("--opset", "18", "--device", "jetson-orin-jp5"), "reads 9 to 17"),
    (("--device", "jetson-orin", "--precision", "auto"), "it says which file is written"),
    (("--device", "jetson-orin", "--trt"), "it says which file is written"),
    (("--device", "jetson-orinn"), "Did you mean jetson-orin"),
    (("--limit", "50"), "No such option"),
]


@pytest.mark.parametrize(("flags", "says"), REFUSED)
def test_what_is_refused(flags: tuple[str, ...], says: str, edgekd: Command, network: Path) -> None:
    answer = edgekd("export", network, *flags)
    assert answer.code == 2
    assert says in " ".join(answer.err.split())
    assert [path.name for path in network.parent.iterdir()] == ["net"]


def test_a_device_decides_the_opset(edgekd: Command, network: Path) -> None:
    answer = edgekd("export", network, "--device", "jetson-orin-jp5", "--json")
    assert json.loads(answer.out)["opset"] == 16
    assert Artifact.open(network.with_name("net-onnx")).manifest["export"]["device"] == (
        "jetson-orin-jp5"
    )


def test_no_tensorrt_here(edgekd: Command, network: Path) -> None:
    answer = edgekd("export", network, "--trt")
    assert answer.code == 1
    assert "local" in answer.err
    assert "Traceback" not in answer.err
    assert [path.name for path in network.parent.iterdir()] == ["net"]
