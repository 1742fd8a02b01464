"""Run folders as the other stages leave them, with numbers that could be real."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import create
from edgekd.files import sha256
from edgekd.report import write as write_report
from tests.report.fleet import fleet, fleet_report
from tests.report.lowered import lowered, lowered_report
from tests.report.missions import (
    comparison,
    comparison_report,
    mission,
    mission_report,
    scouted,
    scouted_report,
)
from tests.report.records import make_record

__all__ = [  # fixtures
    "comparison",
    "comparison_report",
    "fleet",
    "fleet_report",
    "lowered",
    "lowered_report",
    "mission",
    "mission_report",
    "scouted",
    "scouted_report",
]

MakeRun = Callable[..., Path]
Report = dict[str, Path]

SIZES = {"teacher": 855_770, "baseline": 78_042, "student": 78_042}
MACS = {"teacher": 126_000_000, "baseline": 12_500_000, "student": 12_500_000}
NAMES = {"teacher": "resnet56", "baseline": "resnet8", "student": "resnet8"}
TOP1 = {"teacher": 0.975, "baseline": 0.9444, "student": 0.9556}
MEDIAN = {"teacher": 1.913, "baseline": 0.2127, "student": 0.2119}
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NOISY = {
    "state": "noisy",
    "budget": None,
    "reasons": ["its median varies by 6% from moment to moment"],
}


@pytest.fixture
def run_maker() -> MakeRun:
    """Writes a run folder; see ``make_run``."""
    return make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be read only."""
    return make_run(tmp_path_factory.mktemp("ada") / "run")


@pytest.fixture(scope="session")
def written(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the finished run."""
    return write_report(run_folder, tmp_path_factory.mktemp("report"))


def make_run(folder: Path, labels: list[str] | None = None, name: str = "resnet8") -> Path:
    """A finished ``edgekd run``: three networks, their exports, curves, measurements, decisions."""
    folder.mkdir(parents=True, exist_ok=True)
    names = NAMES | {"student": name}
    records = []
    for role in SIZES:
        network = make_network(folder, role, names[role], labels or LABELS)
        export = make_export(folder, role, names[role], labels or LABELS, network)
        make_metrics(folder / role / "training", role)
        files = json.loads((export / "manifest.json").read_text("utf-8"))["files"]
        records.append(make_record(files["model.onnx"], MEDIAN[role], TOP1[role]))
        records[-1]["verdict"] = NOISY if role == "baseline" else records[-1]["verdict"]
    head = {name: records[0][name] for name in ("schema_version", "edgekd_version")}
    head |= {name: records[0][name] for name in ("timestamp", "command")}
    comparison = {
        "a": "teacher-onnx/model.onnx",
        "b": "student-onnx/model.onnx",
        "ratio": {"value": 0.1108, "lo": 0.1099, "hi": 0.1117, "method": "t over 8 ratios"},
        "null": {"value": 1.0009, "lo": 0.9951, "hi": 1.0068, "method": "t over 8 ratios"},
        "basis": "undisturbed runs",
        "state": "stable",
        "reasons": [],
        "sentence": "student-onnx/model.onnx is 88.8-89.0 % faster (95 %)",
    }
    write(folder / "profile.json", [*records, head | {"comparison": comparison}])
    write(folder / "run.json", make_summary())
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")
    return folder


def write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), "utf-8")


def make_network(folder: Path, role: str, name: str, labels: list[str]) -> str:
    """The artifact of a trained network; returns the hash of its manifest."""
    parent = None
    if role == "student":
        teacher = folder / "teacher" / "manifest.json"
        parent = {"sha256": sha256(teacher), "name": "teacher"} if teacher.is_file() else None
    manifest = _shared("network", role, name, labels) | {"parent": parent, "export": None}
    with create(folder / role, manifest) as draft:
        (draft / "model.safetensors").write_bytes(role.encode() * (SIZES[role] // 2))
    return sha256(folder / role / "manifest.json")


def _shared(kind: str, role: str, name: str, labels: list[str]) -> dict[str, Any]:
    seconds = {"teacher": 41.2, "baseline": 14.1, "student": 14.3}[role]
    return {
        "kind": kind,
        "role": role,
        "model": {"name": name, "arguments": {}, "parameters": SIZES[role], "macs": MACS[role]},
        "input": {"size": [32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "dtype": "uint8"},
        "labels": labels,
        "metrics": {
            "validation": {"top1": TOP1[role] - 0.01, "top5": 0.999, "loss": 0.19, "n": 144},
            "test": {"top1": TOP1[role], "top5": 1.0, "loss": 0.16, "n": 360},
        },
        "recipe": {"teacher": {"weights": "/home/ada/weights/teacher.pth"}},
        "versions": {"edgekd": "0.1.0", "torch": "2.9.0"},
        "training": {
            "epochs": 53 if role == "baseline" else 30,
            "steps": 630,
            "seconds": seconds,
            "precision": "fp32",
            "images_per_s": 38_790 / seconds,
        },
    }


def make_export(folder: Path, role: str, name: str, labels: list[str], network: str) -> Path:
    """The ONNX file beside a network, with its proof."""
    parity = {
        "images": 256,
        "batches": [1, 7, 32],
        "top1_agreement": 1.0,
        "flips": 0,
        "excused": 0,
        "kl": 3.1e-12,
        "cosine": 0.99999999,
        "snr_db": 121.4,
        "max_abs": 1.4e-5,
        "max_relative": 9.1e-7,
        "reasons": [],
        "passed": True,
    }
    manifest = {
        **_shared("onnx", role, name, labels),
        "parent": {"sha256": network, "name": role},
        "export": {
            "format": "onnx",
            "exporter": "dynamo",
            "opset": 18,
            "precision": "fp32",
            "nodes": {"Conv": 9, "Relu": 7, "Add": 3, "Cast": 1, "Gemm": 1},
            "parity": parity,
        },
    }
    path = folder / f"{role}-onnx"
    with create(path, manifest) as draft:
        (draft / "model.onnx").write_bytes(role.encode() * (SIZES[role] // 2))
    return path


def make_metrics(folder: Path, role: str, epochs: int = 30) -> None:
    """Curves that fall and rise as those of a real training do."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[Mapping[str, Any]] = []
    for step in range(7, 21 * epochs + 1, 7):
        epoch, done = (step - 1) // 21 + 1, step / (21 * epochs)
        wobble = 1 + 0.08 * math.sin(step * 1.7)
        losses = {"ce": (2.3 * math.exp(-5 * done) + 0.05) * wobble}
        if role == "student":
            losses["kd"] = (4.1 * math.exp(-4 * done) + 0.2) * wobble
        lines.append({"step": step, "epoch": epoch, "progress": done, "lr": 0.05, "losses": losses})
        if step % 21 == 0:
            top1 = TOP1[role] - 0.8 * math.exp(-7 * done) + 0.01 * math.sin(step)
            found = {"top1": min(top1, 1.0), "top5": 0.99, "loss": 0.2, "n": 144}
            lines.append({"epoch": epoch, "step": step, "validation": found})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, "utf-8")


def make_summary() -> dict[str, Any]:
    gain = {"metric": "top1", "delta": 0.0112, "interval": [-0.0056, 0.0278], "n": 360}
    return {
        "gain": gain | {"baseline_epochs": 53},
        "decisions": [
            "The student resnet8 was chosen by the recipe.",
            {"stage": "export", "took": "dynamo", "because": "its parity passed"},
        ],
        "command": "/home/ada/.venv/bin/edgekd run --output '/home/ada/my runs/digits'",
        "seconds": {"teach": 41.2, "distill": 14.3, "baseline": 14.1, "export": 5.2, "profile": 21},
    }


RECIPE = """\
[data]
source = "/home/ada/my images/digits"
[teacher]
name = "resnet56"
weights = "~/weights/teacher.pth"
[method]
ce = { weight = 0.1 }
kd = { weight = 0.9, temperature = 4.0 }
"""
