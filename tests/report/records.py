"""Measurements as ``edgekd profile`` writes them, with numbers that could be real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def make_record(file: Mapping[str, Any], median: float, top1: float) -> dict[str, Any]:
    """A measurement in the shape of measurement.md, section 7."""
    return {
        "schema_version": 1,
        "edgekd_version": "0.1.0",
        "timestamp": "2025-01-01T12:00:00+00:00",
        "command": "/home/ada/.venv/bin/edgekd profile /home/ada/run/student-onnx",
        "recipe_sha256": None,
        "artifact": {
            "sha256": file["sha256"],
            "format": "onnx",
            "opset": 18,
            "precision_asked": "fp32",
            "precision_found": "fp32",
            "size_bytes": file["bytes"],
        },
        "device": DEVICE,
        "runtime": RUNTIME,
        "policy": POLICY,
        "timing": make_timing(median),
        "sweep": None,
        "sustained": [],
        "memory": {"peak_rss_bytes": 61_200_000 + file["bytes"] * 2, **NO_GPU},
        "energy": None,
        "layers": [],
        "accuracy": dict.fromkeys(
            ("reference", "delta", "delta_interval", "top1_agreement", "top5")
        )
        | {"disagreements": None, "metric": "top1", "n": 360, "value": top1, "interval": None},
        "verdict": {"state": "stable", "budget": None, "reasons": []},
        "evidence": EVIDENCE,
    }


def make_timing(median: float) -> dict[str, Any]:
    def around(factor: float) -> dict[str, Any]:
        value = median * factor
        return {"value": value, "lo": value * 0.985, "hi": value * 1.02, "method": "order"}

    return {
        "load_ms": 21.3,
        "first_ms": median * 4,
        "warmup": {"n": 214, "reason": "two windows agree"},
        "n": 312,
        "seconds": 3.1,
        "min": median * 0.9,
        "mean": median * 1.03,
        "median": around(1.0),
        "median_undisturbed": around(0.99),
        **{name: around(factor) for name, factor in (("p10", 0.95), ("p50", 1), ("p90", 1.15))},
        "p95": around(1.21),
        "p99": {"value": None, "lo": None, "hi": None, "method": "n/a (312 runs, need 459)"},
        "p99.9": {"value": None, "lo": None, "hi": None, "method": "n/a (312 runs, need 4603)"},
        "cov": 0.064,
        "drift_pct_per_min": -1.3,
        "kept_share": 0.97,
        "cpu_ms": median * 1.7,
    }


NO_GPU = {"peak_device_bytes": None, "unified": False}
DEVICE = {
    "profile": "local",
    "soc": None,
    "cpu": "Intel(R) Core(TM) i5-8265U CPU @ 1.60GHz",
    "gpu": None,
    "ram_bytes": 16_601_542_656,
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.1.0-18-amd64",
    "power_mode": None,
    "governor": "powersave",
}
RUNTIME = {
    "name": "onnxruntime",
    "version": "1.22.0",
    "provider": "CPUExecutionProvider",
    "node_share": {"CPUExecutionProvider": 1.0},
    "time_share": {"CPUExecutionProvider": 1.0},
}
POLICY = {
    "clock": "inference",
    "batch_size": 1,
    "threads": 2,
    "spinning": False,
    "wait": None,
    "affinity": [0, 1, 2, 3],
    "cuda_graph": None,
    "transfers": None,
    "input": "photos",
    "order": "interleaved",
}
MOMENT = {
    "load_average": [0.42, 0.4, 0.3],
    "free_bytes": 9_000_000_000,
    "core_khz": [3_100_000, 3_400_000],
    "temperature_c": {"x86_pkg_temp": 71.0},
    "devfreq": None,
    "trip_c": None,
    "slowed_by": None,
    "heat_stops": None,
    "quota_stops": None,
    "throttle_bits": None,
    "gpus": None,
}
EVIDENCE = {
    "facts": {"physical_cores": 4, "core_max_khz": [3_900_000] * 9, "hostname": "ada-laptop"},
    "asked": {"max_seconds": 30.0},
    "reopened": False,
    **dict.fromkeys(("before", "during", "after"), MOMENT),
}
