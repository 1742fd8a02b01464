"""An artifact with everything a card speaks of, of networks nobody trained."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from edgekd.artifact import create, read_manifest

APACHE = {"name": "apache-2.0", "of": "timm/resnet18.a1_in1k", "source": "timm 1.0", "url": ""}
NETWORK: dict[str, Any] = {
    "kind": "network",
    "role": "student",
    "model": {"name": "resnet8", "parameters": 78042, "macs": 781952},
    "input": {
        "size": [8, 8],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.26],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "dtype": "float32",
        "layout": "NCHW",
    },
    "labels": ["cat", "dog"],
    "metrics": {
        "validation": {"top1": 0.75, "top5": 1.0, "loss": 0.1, "n": 200},
        "test": {"top1": 0.8, "top5": 1.0, "loss": 0.1, "n": 1000},
    },
    "recipe": {"data": {"source": "digits", "size": 8}, "method": {"ce": {"weight": 1.0}}},
    "method": "0.1*ce + 0.9*kd",
    "licence": [],
    "parent": {
        "name": "resnet18",
        "sha256": "ab" * 32,
        "licence": [APACHE],
        "validation": {
            "top1": 0.85,
            "n": 200,
            "delta": -0.1,
            "delta_interval": [-0.15, -0.05],
        },
    },
    "versions": {"edgekd": "0.1.0"},
    "training": {
        "epochs": 3,
        "steps": 1234,
        "precision": "bf16",
        "images": 5000,
        "augment": "shift",
    },
    "export": None,
}
EXPORT: dict[str, Any] = NETWORK | {
    "kind": "onnx",
    "input": {**NETWORK["input"], "dtype": "uint8", "layout": "NHWC"},
    "parent": {"sha256": "cd" * 32, "name": "student", "parent": NETWORK["parent"]},
    "export": {
        "precision": "int8",
        "precision_asked": "int8",
        "opset": 18,
        "device": "local",
        "asked": {"precision": "int8"},
        "int8": {"calibration": {"n": 512}},
        "verdict": {
            "n": 200,
            "top1": 0.74,
            "delta": -0.01,
            "delta_interval": [-0.03, 0.011],
            "confidence": 0.975,
            "max_drop": 0.05,
        },
    },
}
RECORD: dict[str, Any] = {
    "edgekd_version": "0.1.0",
    "timestamp": "2026-01-02T03:04:05+00:00",
    "device": {"profile": "pi5", "cpu": "Cortex-A76", "governor": "ondemand", "soc": None},
    "runtime": {"name": "onnxruntime", "version": "1.31.1", "provider": "CPUExecutionProvider"},
    "policy": {"clock": "inference", "batch_size": 1, "threads": 4, "order": "alone"},
    "timing": {
        "n": 312,
        "median": {"value": 12.34, "lo": 12.1, "hi": 12.6, "method": "t"},
        "p95": {"value": 15.5, "lo": 15.0, "hi": 16.1, "method": "order"},
        "p99": {"value": None, "lo": None, "hi": None, "method": "n/a (312 runs, need 459)"},
    },
    "memory": {"peak_rss_bytes": 61_300_000},
    "accuracy": {
        "n": 1000,
        "value": 0.79,
        "interval": [0.764, 0.814],
        "delta": -0.01,
        "delta_interval": [-0.02, 0.001],
    },
    "energy": None,
    "sustained": [],
    "verdict": {"state": "throttled", "reasons": ["the board was hot"]},
}


def artifact(path: Path, manifest: dict[str, Any]) -> Path:
    """A folder with that manifest."""
    names = {"network": "model.safetensors", "onnx": "model.onnx", "tensorrt": "model.plan"}
    with create(path, manifest) as folder:
        (folder / names[manifest["kind"]]).write_bytes(b"weights")
    return path


def prove(path: Path, record: Any = None, name: str = "pi5", **changes: Any) -> None:
    """Put a proof beside it."""
    files = read_manifest(path)["files"]
    hashes = {file: entry["sha256"] for file, entry in files.items()}
    table = {"schema_version": 1, "device": name, "files": hashes, "record": record or RECORD}
    (path / "proof").mkdir(exist_ok=True)
    (path / "proof" / f"{name}.json").write_text(json.dumps(table | changes))


def changed(table: dict[str, Any], *keys: str | int, value: Any) -> dict[str, Any]:
    """A copy with another value there."""
    copied = deepcopy(table)
    place: Any = copied
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return copied


def leaves(table: Any, *above: str | int) -> list[tuple[str | int, ...]]:
    """The way to everything in it."""
    entries: list[tuple[Any, Any]] = []
    if isinstance(table, dict | list):
        entries = list(table.items() if isinstance(table, dict) else enumerate(table))
    inner = [way for key, value in entries for way in leaves(value, *above, key)]
    return [*([above] if above else []), *inner]
