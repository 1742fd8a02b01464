"""``edgekd profile --runtime``: the same file in another runtime, and knobs that it lacks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import jsonschema
import pytest

import edgekd as package
from tests.cli.conftest import Command

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
SCHEMA = json.loads((Path(package.__file__).parent / "profile.schema.json").read_text())
installed = pytest.mark.skipif(find_spec("openvino") is None, reason="the extra edgekd[openvino]")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path: Path = TINY["classifier"](tmp_path / "tiny.onnx")
    return path


@installed
def test_openvino_needs_no_other_flag(edgekd: Command, model: Path) -> None:
    answer = edgekd("profile", model, "--runtime", "openvino", "--max-seconds", "0.5", "--json")
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)
    jsonschema.validate(record, SCHEMA)
    assert record["runtime"]["name"] == "openvino"
    assert record["runtime"]["provider"] == "CPU (f32)"
    assert record["policy"]["transfers"] is None  # it runs where the data is
    assert record["evidence"]["asked"]["provider"] == "CPU"
    assert record["timing"]["n"] > 1


@installed
def test_openvino_models_are_compared(edgekd: Command, model: Path, tmp_path: Path) -> None:
    other = TINY["classifier"](tmp_path / "other.onnx", repeat=3)
    quick = ["--threads", "1", "--max-seconds", "1", "--layers", "--json"]
    answer = edgekd("profile", model, other, "--runtime", "openvino", *quick)
    assert answer.code == 0, answer.err
    first, second, compared = json.loads(answer.out)
    assert compared["comparison"]["null"]["value"] > 0
    assert "Sin" not in {layer["type"] for layer in first["layers"]}
    assert "Sin" in {layer["type"] for layer in second["layers"]}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--provider", "CPUExecutionProvider"], "--provider is a knob of ONNX Runtime's"),
        (["--spinning"], "--spinning is a knob of ONNX Runtime's and openvino has none like it"),
    ],
)
def test_knobs_of_another_runtime(
    edgekd: Command, model: Path, flags: list[str], words: str
) -> None:
    answer = edgekd("profile", model, "--runtime", "openvino", *flags)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert "Leave it out, or use --runtime ort" in answer.err


def test_a_runtime_there_is_not(edgekd: Command, model: Path) -> None:
    answer = edgekd("profile", model, "--runtime", "openvin")
    assert answer.code == 2
    assert "there is no runtime 'openvin'. Did you mean openvino?" in answer.err
