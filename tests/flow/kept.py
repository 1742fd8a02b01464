"""An artifact that costs nothing to make, and records of measurements nobody made."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.artifact import create

TINY = runpy.run_path(str(Path(__file__).parents[1] / "agent/tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]

DIGITS: dict[str, Any] = {"source": "digits", "size": 8, "limit": 300}


def artifact(path: Path, seed: int = 0, kind: str = "onnx") -> Path:
    """A tiny ONNX classifier of digits that was never taught anything."""
    manifest: dict[str, Any] = {
        "kind": kind,
        "role": "student",
        "model": {"name": "tiny", "arguments": {}, "parameters": 40, "macs": 30},
        "input": {
            "size": [8, 8],
            "mean": list(TINY["MEAN"]),
            "std": list(TINY["STD"]),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "dtype": "uint8",
            "layout": "NHWC",
        },
        "labels": [str(digit) for digit in range(10)],
        "metrics": {},
        "recipe": {"data": DIGITS},
        "parent": None,
        "versions": {},
        "training": None,
        "export": None,
    }
    with create(path, manifest) as folder:
        classifier(folder / "model.onnx", classes=10, seed=seed)
        if kind == "network":
            (folder / "model.safetensors").write_bytes(b"")
    return path


def estimate(value: float | None, half: float = 0.0) -> dict[str, Any]:
    """A value and half of its interval, in ms."""
    if value is None:
        return {"value": None, "lo": None, "hi": None, "method": "n/a"}
    return {"value": value, "lo": value - half, "hi": value + half, "method": "95 %"}


def record(
    sha256: str,
    median: float = 2.0,
    half: float = 0.02,
    *,
    undisturbed: float | None = None,
    p95: float | None = 2.5,
    state: str = "stable",
    peak: int = 60_000_000,
    precision: str = "fp32",
    asked: dict[str, Any] | None = None,
    **other: dict[str, Any],
) -> dict[str, Any]:
    """A measurement's record with what a verification reads of it; ``other`` replaces entries."""
    made: dict[str, Any] = {
        "edgekd_version": "1.0",
        "artifact": {"sha256": sha256, "precision_found": precision},
        "device": {
            "profile": "local",
            **dict.fromkeys(("soc", "cpu", "gpu", "os", "kernel", "power_mode", "governor")),
        },
        "runtime": {"name": "onnxruntime", "version": "1.22.0", "provider": "CPU"},
        "policy": {"threads": 1, "affinity": [0, 1], "input": "images", "order": "alone"},
        "timing": {
            "median": estimate(median, half),
            "median_undisturbed": estimate(undisturbed, half),
            "p95": estimate(p95, half),
        },
        "memory": {"peak_rss_bytes": peak},
        "accuracy": None,
        "verdict": {"state": state, "reasons": [] if state == "stable" else [f"it is {state}"]},
        "evidence": {"asked": {"threads": 0, **(asked or {})}},
    }
    for section, entries in other.items():
        made[section] = made[section] | entries
    return made
