"""What the agent says of a device, for tests that have none."""

from __future__ import annotations

from typing import Any


def package(version: str | None = None, error: str | None = None) -> dict[str, Any]:
    missing = None if version else "it is not installed. Install it: python3 -m pip install it"
    return {"version": version, "path": None, "error": error or missing, "providers": []}


def survey(**more: Any) -> dict[str, Any]:
    """What the agent would say of a Raspberry Pi on which all is well."""
    device = {
        "soc": "Raspberry Pi 4 Model B Rev 1.4",
        "cpu": "Cortex-A72",
        "machine": "aarch64",
        "cpu_flags": [],
        "ram_bytes": 4 * 10**9,
        "os": "Debian GNU/Linux 12",
        "kernel": "6.6",
        "python": "3.11.2",
        "power_mode": None,
        "governor": "ondemand",
        "physical_cores": 4,
        "core_max_khz": [1800000] * 4,
        "clusters": [],
        "gpu": None,
    }
    names = ("onnxruntime-gpu", "openvino", "tensorrt", "pillow")
    found = {
        "numpy": package("2.2.6"),
        "onnxruntime": package("1.22.0"),
        **{name: package() for name in names},
    }
    moment = {"free_bytes": 3 * 10**9, "temperature_c": {"cpu": 50.0}, "throttle_bits": 0}
    whole: dict[str, Any] = {
        "device": device,
        "packages": found,
        "moment": moment,
        "python": "3.11.2",
        "executable": "/usr/bin/python3",
        "bits": 64,
        "glibc": "2.36",
        "machine": "aarch64",
        "trtexec": None,
        "disk_free_bytes": 10**10,
        "writable": True,
        "meters": [],
        "warnings": [],
        "lock": None,
    }
    for key, value in more.items():
        whole[key] = {**whole[key], **value} if isinstance(value, dict) else value
    return whole
