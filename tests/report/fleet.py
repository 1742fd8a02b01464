"""A run whose student was measured on many devices: some fail, some heat up, one has no name."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from edgekd.report import write
from edgekd.report.table import Table
from tests.report.lowered import INT8, add_export
from tests.report.records import EVIDENCE, MOMENT, make_record, make_timing

LAB = "ssh://ada@10.0.0.7:22"
ATTIC = "ssh://ada@attic.lan"
PHONE = "adb://R58M123ABC"
REFUSED = (
    "pi4: it does not accept any key of yours, and passwords are not asked for here. Install a key "
    "(ssh-copy-id), or load it into your agent (ssh-add), until this works: ssh -p 22 ada@10.0.0.4 "
    "true. ssh said: ada@10.0.0.4: Permission denied (publickey). Welcome to lovelace"
)
BUSY = f"{ATTIC} is in use by ada@lovelace since 12:00, see /home/ada/.cache/x. Wait with --wait."
STATIC: dict[str, dict[str, Any]] = {
    "pi5": {"soc": "Raspberry Pi 5 Model B Rev 1.0", "cpu": "Cortex-A76", "governor": "ondemand"},
    LAB: {"soc": "Raspberry Pi 4 Model B Rev 1.4", "cpu": "Cortex-A72", "governor": "ondemand"},
    PHONE: {"soc": None, "cpu": "Cortex-A55 + Cortex-A78", "governor": "schedutil"},
}
DEVICES = ["pi5", "ssh device 1", "adb device"]
"""What the report calls them."""
TIMES = {"CPUExecutionProvider": 0.93, "XnnpackExecutionProvider": 0.07}
SPEED = {"pi5": 1.0, LAB: 3.4, PHONE: 1.6}
CLUSTERS = [
    {"cpus": [0, 1, 2, 3], "part": "Cortex-A55", "max_khz": 2_000_000, "capacity": 320},
    {"cpus": [4, 5, 6, 7], "part": "Cortex-A78", "max_khz": 2_600_000, "capacity": 1024},
]
HEAD = {
    "schema_version": 1,
    "edgekd_version": "0.1.0",
    "timestamp": "2025-01-01T12:00:00+00:00",
    "command": f"/home/ada/.venv/bin/edgekd profile a b --device pi5,{LAB},{ATTIC},{PHONE}",
}


@pytest.fixture(scope="session")
def fleet(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be read only."""
    folder = tmp_path_factory.mktemp("fleet") / "run"
    folder.mkdir()
    for name in ("student", "student-onnx"):
        shutil.copytree(run_folder / name, folder / name)
    add_export(folder, "int8", INT8)
    records = [record for device in STATIC for record in on_device(folder, device)]
    records += [compared(device) for device in STATIC]
    records += [failed("pi4", REFUSED), failed(ATTIC, BUSY)]
    (folder / "profile.json").write_text(json.dumps(records), "utf-8")
    (folder / "run.json").write_text(json.dumps({"decisions": [f"measured on {LAB}"]}), "utf-8")
    return folder


@pytest.fixture(scope="session")
def fleet_report(fleet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(fleet, tmp_path_factory.mktemp("fleet_report"))


def on_device(folder: Path, device: str) -> list[dict[str, Any]]:
    """The records of the fp32 and the int8 student on a device, with all that can be asked for."""
    records = []
    for name, factor, top1 in (("student-onnx", 1.0, 0.9556), ("student-int8", 0.6, 0.9444)):
        files = json.loads((folder / name / "manifest.json").read_text("utf-8"))["files"]
        record = make_record(files["model.onnx"], 12.3 * factor * SPEED[device], top1)
        record |= {"device": record["device"] | STATIC[device] | {"profile": device}}
        record |= {key: HEAD[key] for key in ("timestamp", "command")}
        record["evidence"] = evidence(device)
        records.append(record)
    float_one, int8 = records
    int8["accuracy"] |= differences()
    int8["artifact"] |= {"precision_asked": "int8", "precision_found": "int8"}
    float_one["sustained"] = sustained(12.3 * SPEED[device])
    float_one["sweep"] = SWEEP
    float_one["layers"] = [
        {"name": f"/layer{i}/Conv", "type": "Conv", "ms": 1.5 - i / 10, "pct": 12.0 - i}
        for i in range(14)
    ]
    share = {"CPUExecutionProvider": 0.98, "XnnpackExecutionProvider": 0.02}
    float_one["runtime"] = float_one["runtime"] | {"node_share": share, "time_share": TIMES}
    meter(float_one, device)
    return records


def meter(record: dict[str, Any], device: str) -> None:
    """Only the Raspberry Pi 5 has one; all were asked."""
    record["evidence"]["asked"] = {"energy": True}
    if device == "pi5":
        record["energy"] = ENERGY
    else:
        reasons = ["no meter: energy is n/a"]
        record["verdict"] = record["verdict"] | {"reasons": reasons}
        if device == LAB:
            said = ["the frequency is capped", *reasons]
            record["verdict"] = {"state": "throttled", "budget": None, "reasons": said}


def evidence(device: str) -> dict[str, Any]:
    bits = 0x50005 if device == LAB else None
    during = MOMENT | {"temperature_c": {"cpu-thermal": 79.5}, "throttle_bits": bits}
    facts = {"physical_cores": 4, "clusters": CLUSTERS if device == PHONE else []}
    facts |= {"hostname": "lovelace", "owner": "ada@lovelace"}
    return deepcopy(EVIDENCE) | {"facts": facts, "during": during}


def sustained(median: float) -> list[dict[str, Any]]:
    """Ten minutes, of which the last four are slower."""
    return [
        {
            "minute": float(minute),
            "n": 4000,
            "median": median * (1.18 if minute > 6 else 1.0),
            "p95": median * 1.3,
            "cpu_ms": median * 3.6,
            "kept_share": 0.97,
            "temperature_c": 52.0 + 3 * minute,
            "core_khz": 1_800_000 if minute > 6 else 2_400_000,
            "throttle_bits": 0x40004 if minute > 6 else 0,
            "load": 4.0,
        }
        for minute in range(1, 11)
    ]


def compared(device: str) -> dict[str, Any]:
    found = {
        "a": "student-onnx/model.onnx",
        "b": "student-int8/model.onnx",
        "ratio": {"value": 0.601, "lo": 0.592, "hi": 0.611, "method": "t over 8 ratios"},
        "null": {"value": 1.002, "lo": 0.994, "hi": 1.010, "method": "t over 8 ratios"},
        "basis": "undisturbed runs",
        "state": "stable",
        "reasons": [],
        "sentence": "student-int8/model.onnx is 39-41 % faster (95 %)",
        "device": device,
    }
    return HEAD | {"comparison": found}


def failed(device: str, message: str) -> dict[str, Any]:
    models = ["student-onnx/model.onnx", "student-int8/model.onnx"]
    return HEAD | {"failure": {"device": device, "models": models, "message": message}}


def differences() -> dict[str, Any]:
    """What int8 answers otherwise on 12 of 1,000 images."""
    shown = [
        {
            "index": 40 + i,
            "name": f"/home/ada/pictures/cat/IMG_{i:04}.png",
            "truth": "/m/cat <b>",
            "reference": "/m/cat <b>",
            "found": "dog",
            "png": png(32, 32, bytes([20 * i, 90, 200]), b"tEXtAuthor\0ada lovelace"),
        }
        for i in range(6)
    ]
    return {
        "n": 1000,
        "top5": 0.998,
        "reference": 0.9556,
        "delta": -0.004,
        "delta_interval": [-0.0093, 0.0012],
        "top1_agreement": 0.988,
        "disagreements": {"n": 12, "shown": shown},
    }


def png(width: int, height: int, colour: bytes = b"\x80\x80\x80", extra: bytes = b"") -> str:
    """One colour, RGB; ``extra`` is a chunk's kind and content."""

    def chunk(data: bytes) -> bytes:
        return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + colour * width) * height)
    parts = [header, extra, b"IDAT" + rows, b"IEND"]
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(part) for part in parts if part)
    return base64.b64encode(whole).decode("ascii")


def sweep_row(threads: int, spinning: bool, median: float, cpu: float) -> dict[str, Any]:
    times = {"median": median, "p95": median * 1.2, "cpu_ms": cpu, "n": 400}
    return {"threads": threads, "spinning": spinning, "state": "stable", **times}


SWEEP: dict[str, Any] = {
    "rows": [
        sweep_row(1, False, 21.0, 20.9),
        sweep_row(4, False, 12.3, 24.4),
        sweep_row(4, True, 11.8, 46.1),
    ],
    "best_latency": 2,
    "best_cpu": 0,
}
ENERGY: dict[str, Any] = {
    "j_per_inference": 0.0312,
    "idle_w": 2.7,
    "busy_w": 5.9,
    "rate_hz": 4.0,
    "scope": "rail",
    "meter": "pmic",
    "seconds": 30.1,
    "n": 2440,
}


def by_clock(folder: Path) -> None:
    """Add the same student by the other two clocks, on the first device."""
    file = folder / "profile.json"
    records = json.loads(file.read_text("utf-8"))
    for clock, median in (("compute", 7.7), ("end_to_end", 31.1)):
        other = deepcopy(records[0]) | {"timing": make_timing(median)}
        other["policy"] |= {"clock": clock}
        other["timestamp"] = f"2025-01-01T13:00:0{len(clock) % 10}+00:00"
        records.insert(0, other)
        head = {**HEAD, "timestamp": other["timestamp"]}
        records.append(head | {"comparison": compared("pi5")["comparison"]})
    file.write_text(json.dumps(records), "utf-8")


def cells(table: Table) -> list[list[tuple[str, str]]]:
    """What is read in each cell, and its small print."""
    return [[(cell.text, cell.note) for cell in row] for row in table.rows]
