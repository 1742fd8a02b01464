"""Exported artifacts of a tiny network, and what was measured of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.flow.exporting import export_network
from edgekd.flow.proving import keep
from edgekd.flow.training import teach
from edgekd.recipe import Export, recipe_from

TABLE: dict[str, Any] = {
    "data": {"source": "digits", "size": 8, "limit": 120},
    "teacher": {"name": "resnet8"},
    "teach": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
}
TINY = Export(samples=16, max_drop=0.9, repair="none", calibrator="minmax")


KINDS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "int8": {"precision": "int8"},
    "fp16": {"precision": "fp16"},
    "float": {"float_input": True},
}


class Exports(dict[str, Path]):
    """Exports of one network, each made when it is asked for: not every file of tests has all."""

    def __init__(self, network: Artifact) -> None:
        super().__init__()
        self._network = network

    def __missing__(self, name: str) -> Path:
        out = self[name] = self._network.path.with_name(name)
        export_network(self._network, out, replace(TINY, **KINDS[name]))
        return out


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """One network as fp32, int8, fp16 and with the preprocessing left out; only to read."""
    return Exports(teach(recipe_from(TABLE), tmp_path_factory.mktemp("exports") / "network"))


@pytest.fixture
def exported(exports: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the fp32 one that may be changed."""
    return shutil.copytree(exports["fp32"], tmp_path / "digits-onnx")


@pytest.fixture
def prove(exported: Path) -> Callable[..., Path]:
    """Keep a proof of it, with some of the record replaced."""

    def proved(device: str = "pi5", **sections: dict[str, Any]) -> Path:
        return keep(exported, device, record(exported, device, **sections), None, None, None, None)

    return proved


def record(path: Path, device: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """What deploy and the model card read of a measurement, at least."""
    found = json.loads((Path(__file__).parent / "record.json").read_text("utf-8"))
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    model = "model.plan" if manifest["kind"] == "tensorrt" else "model.onnx"
    found["artifact"]["sha256"] = manifest["files"][model]["sha256"]
    found["device"]["profile"] = device
    for name, entries in sections.items():
        found[name] = found[name] | entries
    return dict(found)


@pytest.fixture
def payload(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The programs as modules: ``payload("pictures")``; they are no modules of edgekd."""
    import importlib
    import sys

    from edgekd.deploy.bundle import PAYLOAD

    names = {file.stem for file in PAYLOAD.glob("*.py")}
    monkeypatch.syspath_prepend(str(PAYLOAD))
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
