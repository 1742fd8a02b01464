"""A machine with only numpy and ONNX Runtime, over a real ssh: what `edgekd profile` finds there.

It is this machine, seen through another Python, so every answer has to be the same to the bit.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edgekd as package
from edgekd.devices import reach
from edgekd.flow.exporting import export_network
from edgekd.flow.proving import read
from edgekd.flow.training import teach
from edgekd.recipe import Export, recipe_from
from tests.cli.conftest import Command, edgekd
from tests.edge_env import DISTRIBUTIONS, Edge, edge, edge_python
from tests.sshd import needs_sshd

__all__ = ["edge", "edge_python", "edgekd"]  # fixtures
FOLDER = ".cache/edgekd-agent/"
TABLE: dict[str, Any] = {
    "data": {"source": "digits", "size": 8, "limit": 120},
    "teacher": {"name": "resnet8"},
    "teach": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
}
TINY = Export(samples=16, max_drop=0.9, repair="none", calibrator="minmax")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tiny network in float32 and in int8, as edgekd exports it."""
    folder = tmp_path_factory.mktemp("exported")
    network = teach(recipe_from(TABLE), folder / "network")
    for precision in ("fp32", "int8"):
        export_network(network, folder / precision, replace(TINY, precision=precision))
    return [folder / "fp32", folder / "int8"]


@pytest.mark.parametrize("module", ["torch", "onnx", "PIL", "edgekd"])
def test_the_environment_lacks_what_edgekd_needs(module: str, edge_python: Path) -> None:
    done = _python(edge_python, f"import {module}")
    assert done.returncode == 1
    assert f"No module named '{module}'" in done.stderr


def test_the_environment_has_the_runtime(edge_python: Path) -> None:
    for name in DISTRIBUTIONS:
        here = __import__(name).__version__
        assert _python(edge_python, f"import {name}; print({name}.__version__)").stdout[:-1] == here


@needs_sshd
def test_models_are_measured_in_turn(edge: Edge, exported: list[Path], edgekd: Command) -> None:
    found = _profile(edgekd, exported, edge.address, "--data", "digits")
    here = _profile(edgekd, exported, "local", "--data", "digits")
    *models, comparison = found
    assert "comparison" in comparison
    schema = json.loads((Path(package.__file__).parent / "profile.schema.json").read_text())
    for record in found:
        jsonschema.validate(record, schema)
    for record, local in zip(models, here, strict=False):
        assert record["device"]["profile"] == edge.name
        assert (record["runtime"], record["policy"]["order"]) == (local["runtime"], "interleaved")
        assert 0 < record["timing"]["min"] <= record["timing"]["median"]["value"]
        assert record["memory"]["peak_rss_bytes"] > 10e6  # there is an interpreter in it
        assert record["accuracy"]["n"] == local["accuracy"]["n"] == 359
        assert record["accuracy"]["value"] == local["accuracy"]["value"]
    assert [record["artifact"]["precision_found"] for record in models] == ["fp32", "int8"]
    for path in exported:
        proof, own = (read(path, device) for device in (edge.name, "local"))
        assert proof.predictions is not None
        assert proof.predictions == own.predictions
        assert proof.answers is not None
        assert proof.answers == own.answers
    _only_its_folder(edge)


@needs_sshd
def test_all_of_it_goes(edge: Edge, exported: list[Path], edgekd: Command) -> None:
    reach(edge.address).push(exported[0] / "model.onnx", "0123/of-another-day.onnx")
    assert edge.files() != []
    _profile(edgekd, exported[:1], edge.address, "--clean")
    assert edge.files() == []


def _python(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)


def _profile(edgekd: Command, models: list[Path], device: str, *more: str) -> list[dict[str, Any]]:
    quick = ["--max-seconds", "0.5", "--threads", "1", "--json"]
    answer = edgekd("profile", *models, "--device", device, *quick, *more)
    assert answer.code == 0, answer.err
    records: list[dict[str, Any]] = json.loads(answer.out)
    return records


def _only_its_folder(edge: Edge) -> None:
    """Models and agent may stay, in one place; a job, its images, its answers and processes not."""
    left = edge.files()
    assert [file for file in left if not file.startswith(FOLDER)] == []
    kept = [file.removeprefix(FOLDER) for file in left]
    assert "model.onnx" in {Path(file).name for file in kept}
    assert [file for file in kept if file.startswith("run-") or file.endswith(".part")] == []
    until = time.monotonic() + 10
    while time.monotonic() < until and edge.processes():
        time.sleep(0.05)
    assert edge.processes() == []
