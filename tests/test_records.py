"""How a measurement was made, as its record says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgekd import records
from edgekd.profiling import Policy

DEVICE = dict.fromkeys(("soc", "cpu", "gpu", "ram_bytes", "os", "kernel", "power_mode", "governor"))
ONE: dict[str, Any] = {
    "metadata": {}, "runtime": {}, "timing": {}, "load_ms": 1.0, "first_ms": 1.0,
    "clock": "compute", "threads": 1, "affinity": [0], "input": "images", "reopened": False,
    "peak_rss_bytes": 1, "peak_device_bytes": None, "unified_memory": False,
    "verdict": {"state": "stable", "reasons": []},
    **dict.fromkeys(("sweep", "sustained", "energy", "layers")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "spinning", "wait"),
    [
        (Policy(spinning=True), True, None),
        (Policy(), False, None),
        (Policy(runtime="openvino"), None, None),
        (Policy(runtime="trt"), None, "runtime's default"),
        (Policy(provider="CUDAExecutionProvider"), False, "runtime's default"),
    ],
)
def test_a_record_says_nothing_of_knobs_that_are_not_there(
    policy: Policy, spinning: bool | None, wait: str | None, tmp_path: Path
) -> None:
    (tmp_path / "model.plan").write_bytes(b"engine")
    found: Mapping[str, Any] = {
        "device": DEVICE, "warnings": [], "moments": {}, "comparisons": []
    }  # fmt: skip
    made = records.measured(tmp_path / "model.plan", ONE, found, "local", asdict(policy), {})
    assert (made["policy"]["spinning"], made["policy"]["wait"]) == (spinning, wait)
    assert made["evidence"]["asked"]["spinning"] is policy.spinning
