"""Run folders of a budget, a scout and a comparison, as those stages leave them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import create
from edgekd.budget import Budget, Figure, rule_all
from edgekd.files import sha256
from edgekd.report import write
from tests.report.records import make_record

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
REST = "top1_drop<=2%, peak_mb<=120"
EXPRESSION = f"p95<=6ms, {REST}"
EXPRESSIONS = {"holds": EXPRESSION, "infeasible": f"p95<=4ms, {REST}"}
DEVICE = "ssh://ada@10.0.0.7:22"
N_TEST, N_VALIDATION, TEACHER = 1000, 800, 0.912
COMMAND = "/home/ada/.venv/bin/edgekd run --device pi5 --output '/home/ada/my runs/c10'"
HEAD = {
    "schema_version": 1,
    "edgekd_version": "0.1.0",
    "timestamp": "2025-01-01T12:00:00+00:00",
    "command": COMMAND,
}
PLANS = (  # network, size, epochs, precision, rung, p95, validation top-1, peak MB
    ("resnet56", 32, 30, "fp32", "first", 9.31, 0.908, 78.1),
    ("resnet56", 32, 30, "int8", "precision", 7.02, 0.899, 74.4),
    ("resnet20", 32, 30, "auto", "smaller", 4.11, 0.884, 71.3),
    ("resnet20", 32, 60, "int8", "longer", 4.13, 0.901, 71.2),
)
TEST: dict[str, Any] = {
    "n": N_TEST,
    "top1": 0.897,
    "interval": [0.8766, 0.9143],
    "teacher": 0.909,
    "delta": -0.012,
    "delta_interval": [-0.0192, -0.0049],
}
PARAMETERS = {"resnet56": 855_770, "resnet20": 272_474, "wrn_16_2": 691_674}


@pytest.fixture(scope="session")
def mission(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A budget that holds at the fourth attempt; to be read only."""
    return make_mission(tmp_path_factory.mktemp("mission") / "c10")


@pytest.fixture(scope="session")
def mission_report(mission: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(mission, tmp_path_factory.mktemp("mission_report"))


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods beside the student alone, three seeds; to be read only."""
    return make_comparison(tmp_path_factory.mktemp("comparison") / "methods")


@pytest.fixture(scope="session")
def comparison_report(
    comparison: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return write(comparison, tmp_path_factory.mktemp("comparison_report"))


@pytest.fixture(scope="session")
def scouted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scout alone, of 45 candidates; to be read only."""
    folder = tmp_path_factory.mktemp("scouted")
    write_json(folder / "scout.json", make_scout(45))
    return folder


@pytest.fixture(scope="session")
def scouted_report(scouted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(scouted, tmp_path_factory.mktemp("scouted_report"))


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), "utf-8")


def make_mission(folder: Path, state: str = "holds") -> Path:
    """Teacher, baseline, four attempts and a scout; ``infeasible`` leaves no artifact."""
    folder.mkdir(parents=True)
    add_network(folder / "teacher", "teacher", "wrn_16_2", 0.0)
    attempts, records = [], []
    for network, size, epochs, precision, rung, p95, top1, peak in PLANS:
        key = f"{network}-{size}px-{epochs}ep"
        if not (folder / key).is_dir():
            (folder / key).mkdir()
            add_network(folder / key / "student", "student", network, TEACHER - top1)
        export = add_export(folder / key / f"onnx-{precision}", folder / key / "student", precision)
        plan, found = (network, size, epochs, precision), (p95, top1, peak)
        attempts.append(attempt(EXPRESSIONS[state], key, plan, rung, found))
        record = measured(export, p95, top1)
        if state == "holds" and epochs == PLANS[-1][2]:
            records.append(record)
    key = attempts[-1]["key"]
    add_network(folder / key / "baseline", "baseline", "resnet20", 0.028)
    records.append(measured(add_export(folder / "teacher-onnx", folder / "teacher", "fp32"), 21.4))
    if state == "holds":
        shutil.copytree(folder / key / "onnx-int8", folder / "artifact")
    write_json(folder / "profile.json", records)
    write_json(folder / "scout.json", make_scout(9))
    write_json(folder / "run.json", summary(attempts, state))
    return folder


def attempt(
    expression: str,
    key: str,
    plan: tuple[str, int, int, str],
    rung: str,
    found: tuple[float, float, float],
) -> dict[str, Any]:
    """One attempt as run.json tells of it; the last of the four holds."""
    network, size, epochs, precision = plan
    p95, top1, peak = found
    lost = TEACHER - top1
    figures = {
        "p95": Figure(p95, p95 * 0.985, p95 * 1.02),
        "top1_drop": Figure(lost, lost - 0.008, lost + 0.0085),
        "peak_mb": Figure(peak),
    }
    ruled = [ruling.to_dict() for ruling in rule_all(Budget.parse(expression).clauses, figures)]
    states = {ruling["state"] for ruling in ruled}
    return {
        "key": key,
        "folder": key,
        "network": network,
        "size": size,
        "epochs": epochs,
        "precision": precision,
        "rung": rung,
        "why": f"{network} has the highest prior of those that fit with 10% to spare: its p95 of "
        f"{p95 * 0.97:.2f} ms in the scout, corrected by 1.03.",
        "state": "fails" if "fails" in states else "open" if "open" in states else "holds",
        "rulings": ruled,
        "made": {"precision": "fp32" if precision == "auto" else precision},
        "refused": None,
        "again": [ruled[0] | {"value": p95 * 1.01}] if states == {"holds"} else None,
        "validation": {
            "n": N_VALIDATION,
            "top1": top1,
            "interval": [top1 - 0.022, top1 + 0.019],
            "teacher": TEACHER,
            "delta": -lost,
            "delta_interval": [-lost - 0.0085, -lost + 0.008],
        },
    }


def summary(attempts: Sequence[Mapping[str, Any]], state: str) -> dict[str, Any]:
    """``run.json``."""
    sentence = {
        "holds": "holds: resnet20 at 32 px in int8: p95 4.17 ms [4.07, 4.21], top1_drop 1.2 %",
        "infeasible": "infeasible: the best found is resnet20 at 32 px in int8: p95 4.13 ms "
        "[4.07, 4.21] against p95<=4ms (top1_drop 1.1 %); the cheapest way out is to allow "
        "p95<=4.3ms.",
    }[state]
    ways = ["Allow p95<=4.3ms: 2.4 % more.", "A device 1.03 times as fast."]
    final = attempts[-1]["rulings"] if state != "holds" else confirmed(attempts[-1])
    budget = {
        "expression": EXPRESSIONS[state],
        "device": DEVICE,
        "state": state,
        "sentence": sentence,
        "rulings": final,
        "way_out": ways if state == "infeasible" else [],
        "artifact": "artifact" if state == "holds" else None,
        "best": attempts[-1]["key"],
        "attempts": attempts,
        "test": None if state != "holds" else TEST,
    }
    return {
        "command": COMMAND,
        "gain": {"metric": "top1", "delta": 0.014, "interval": [0.002, 0.027], "n": N_TEST},
        "decisions": ["resnet56 was chosen: the highest prior that fits with 10% to spare."],
        "seconds": {"teach": 641.2, "scout": 73.9, "attempts": 1914.1, "confirm": 31.2},
        "budget": budget,
    }


def confirmed(accepted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The final rulings: costs as they were measured again, accuracy on the test images."""
    again = {ruling["metric"]: ruling for ruling in accepted["again"]}
    low, high = TEST["delta_interval"]
    lost = {"top1_drop": Figure(-TEST["delta"], -high, -low)}
    (tested,) = rule_all(Budget.parse("top1_drop<=2%").clauses, lost)
    again["top1_drop"] = tested.to_dict()
    return [again.get(ruling["metric"], ruling) for ruling in accepted["rulings"]]


def add_network(path: Path, role: str, name: str, lost: float) -> None:
    """A trained network with its answers and its curve; it errs more often by ``lost``."""
    targets = [index % 10 for index in range(N_TEST)]
    wrong = 0.09 + lost
    said = [
        (t + (1 if t in (3, 8) else 2)) % 10 if math.sin(12.9 * i + 7 * t) > 1 - 2 * wrong else t
        for i, t in enumerate(targets)
    ]
    top1 = sum(a == b for a, b in zip(said, targets, strict=True)) / N_TEST
    manifest = {
        **_shared("network", role, name),
        "metrics": {
            "validation": {"top1": TEACHER - lost, "top5": 0.99, "loss": 0.3, "n": N_VALIDATION},
            "test": {"top1": top1, "top5": 0.99, "loss": 0.3, "n": N_TEST},
        },
        "parent": None,
        "export": None,
    }
    with create(path, manifest) as draft:
        (draft / "model.safetensors").write_bytes(f"{path.parent.name}{role}".encode() * 900)
        write_json(
            draft / "answers.json", {"split": "test", "predictions": said, "targets": targets}
        )
    (path / "training").mkdir()
    lines = [
        {
            "epoch": epoch,
            "step": 7 * epoch,
            "validation": {"top1": TEACHER - lost - 1 / (epoch + 2)},
        }
        for epoch in range(1, 31)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "training" / "metrics.jsonl").write_text(text, "utf-8")


def _shared(kind: str, role: str, name: str) -> dict[str, Any]:
    parameters = PARAMETERS[name]
    return {
        "kind": kind,
        "role": role,
        "model": {"name": name, "parameters": parameters, "macs": 150 * parameters},
        "input": {"size": [32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "dtype": "uint8"},
        "labels": LABELS,
        "recipe": {},
        "versions": {"edgekd": "0.1.0"},
        "training": {"epochs": 30, "steps": 210, "seconds": 61.2, "precision": "fp32"},
    }


def add_export(path: Path, network: Path, precision: str) -> Path:
    """The file that runs, made of a network."""
    known = json.loads((network / "manifest.json").read_text("utf-8"))
    found = "fp32" if precision == "auto" else precision
    manifest = {
        **_shared("onnx", known["role"], known["model"]["name"]),
        "parent": {"sha256": sha256(network / "manifest.json"), "name": known["role"]},
        "export": {"format": "onnx", "opset": 18, "precision": found, "precision_asked": precision},
    }
    with create(path, manifest) as draft:
        (draft / "model.onnx").write_bytes(str(path).encode()[-30:] * 9000)
    return path


def measured(export: Path, p95: float, top1: float = TEACHER) -> dict[str, Any]:
    """A record of an export."""
    files = json.loads((export / "manifest.json").read_text("utf-8"))["files"]
    record = make_record(files["model.onnx"], p95 / 1.21, top1)
    record["device"] = record["device"] | {"profile": DEVICE, "soc": "Raspberry Pi 5 Model B"}
    return record


def make_scout(many: int, basis: str = "published") -> dict[str, Any]:
    """Candidates whose priors grow with their latency, some of them clumsy."""
    found = []
    for index in range(many):
        median = 0.61 * 1.13**index * (1.25 if index % 3 == 1 else 1.0)
        p95 = None if index % 5 == 4 else median * 1.12
        prior = None if index == 7 else 0.60 + 0.32 * index / many - 0.04 * (index % 3 == 1)
        figure = Figure(p95, None, None, "9 runs, need 90" if p95 is None else "")
        fits = (
            "unknown" if p95 is None else "fits" if p95 < 5.4 else "tight" if p95 <= 6 else "over"
        )
        ruling = rule_all(Budget.parse("p95<=6ms").clauses, {"p95": figure})[0]
        found.append(
            {
                "key": f"resnet{8 + 6 * index}-32px",
                "name": f"resnet{8 + 6 * index}",
                "size": (32, 24, 16)[index % 3],
                "precision": "fp32",
                "parameters": 78_042 + 97_000 * index,
                "macs": 12_500_000 + 14_200_000 * index,
                "size_bytes": 320_000 + 390_000 * index,
                "peak_bytes": 61_000_000 + 500_000 * index,
                "median": {"value": median, "lo": median * 0.98, "hi": median * 1.03},
                "p95": {"value": p95, "lo": None, "hi": None, "method": "n/a (9 runs, need 90)"},
                "mean": median * 1.02,
                "mean_interval": [median, median * 1.04],
                "n": 9 if p95 is None else 120,
                "rounds": 1 + index % 3,
                "state": "stable",
                "prior": {
                    "value": prior,
                    "basis": "none" if prior is None else basis,
                    "source": "Tian et al., ICLR 2020, table 1",
                },
                "pareto": index % 3 == 0 and prior is not None,
                "fits": fits,
                "rulings": [ruling.to_dict()],
                "dropped": "resnet20-32px is faster and has a better prior" * (index % 3 == 1)
                or None,
                "cached": False,
                "failed": None,
            }
        )
    failed = dict.fromkeys(found[0]) | {"key": "x-16px", "name": "x", "size": 16, "fits": "unknown"}
    failed |= {"failed": "cannot be exported: its window does not fit 16 px", "rulings": []}
    return {
        **HEAD,
        "kind": "scout",
        "device": DEVICE,
        "facts": {"cpu": "Cortex-A76", "governor": "ondemand", "hostname": "ada-laptop"},
        "runtime": {"name": "onnxruntime", "version": "1.22.0"},
        "budget": EXPRESSION,
        "classes": 10,
        "margin": 0.1,
        "rounds": [
            {"round": 1, "candidates": many, "kept": many // 2, "seconds": 41.2},
            {"round": 2, "candidates": many // 2, "kept": many // 4, "seconds": 29.3},
        ],
        "anchor": {"name": "resnet8", "spread": 0.021},
        "candidates": [*found, failed],
    }


METHODS = {  # method -> gain by seed
    "ce": None,
    "0.1*ce + 0.9*kd": [0.031, 0.027, 0.036],
    "ce + 2*dist": [0.044, 0.041, 0.049],
    "ce + 0.9*kd + 200*afd": [0.012, -0.004, 0.007],
    "ce + rkd": [-0.004, 0.003, 0.001],
}


def make_comparison(folder: Path, seeds: int = 3) -> Path:
    """``edgekd compare`` of four methods and the student alone."""
    folder.mkdir(parents=True)
    methods = []
    for order, (method, gains) in enumerate(METHODS.items()):
        runs = []
        for seed in range(seeds):
            gain = gains[seed] if gains else 0.0
            place = f"method-{order}/seed-{seed}"
            (folder / f"method-{order}").mkdir(exist_ok=True)
            add_network(folder / place, "student", "resnet20", 0.08 - gain)
            top1 = 0.83 + gain
            counts = {"n_validation": N_VALIDATION, "n_test": N_TEST, "seconds": 61.2 + order}
            runs.append(
                {"seed": seed, "folder": place, "validation": top1, "test": top1 - 0.004, **counts}
            )
        methods.append(_method(method, gains and gains[:seeds], runs, order))
    content = {
        **HEAD,
        "kind": "compare",
        "teacher": {"name": "wrn_16_2", "sha256": "ab" * 32, "top1": 0.909},
        "student": "resnet20",
        "data": {"source": "/home/ada/images/cifar10"},
        "epochs": 30,
        "seeds": list(range(seeds)),
        "methods": methods,
        "teacher_ms_per_step": 41.3,
        "order": {"seed": 0, "sentence": "All seeds saw the same batches."},
        "winner": {
            "method": "ce + 2*dist",
            "sentence": "ce + 2*dist wins: 1.3 points above 0.1*ce + 0.9*kd [0.2, 2.4].",
            "basis": "validation",
        },
    }
    write_json(folder / "compare.json", content)
    return folder


def _method(
    method: str, gains: list[float] | None, runs: list[dict[str, Any]], order: int
) -> dict[str, Any]:
    def spread(key: str) -> dict[str, float]:
        values = [run[key] for run in runs]
        mean = sum(values) / len(values)
        ends = {"lo": mean - 0.01, "hi": mean + 0.01}
        return {"mean": mean, **ends, "min": min(values), "max": max(values)}

    mean = sum(gains) / len(gains) if gains else 0.0
    gain = {"value": mean, "lo": mean - 0.011, "hi": mean + 0.011, "per_seed": gains}
    return {
        "method": method,
        "folder": f"method-{order}",
        "alone": gains is None,
        "runs": runs,
        "validation": spread("validation"),
        "test": spread("test"),
        "gain": gain | {"basis": "test images, paired by seed"} if gains else None,
        "cost": {"ms_per_step": 21.3 + 2.1 * order, "over_alone": 1 + 0.1 * order},
    }
