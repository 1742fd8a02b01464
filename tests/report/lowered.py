"""A run folder with exports of lower precision: fp16, int8, what ``auto`` decided, an engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import create
from edgekd.report import write

ESTATE = [f"/home/ada/pictures/{i % 10}/IMG_{i:04}.png" for i in range(512)]
"""Names of the images int8 was calibrated on."""
NODE = "/layer2/layer2.0/conv1/Conv"


@pytest.fixture(scope="session")
def lowered(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run, its student in all precisions; to be read only."""
    folder = tmp_path_factory.mktemp("lowered") / "run"
    shutil.copytree(run_folder, folder)
    for name, section in (("fp16", FP16), ("int8", INT8), ("auto", AUTO)):
        add_export(folder, name, section)
    add_export(folder, "trt", ENGINE, "tensorrt")
    return folder


@pytest.fixture(scope="session")
def lowered_report(lowered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(lowered, tmp_path_factory.mktemp("lowered_report"))


def add_export(
    folder: Path, name: str, section: Mapping[str, Any], kind: str = "onnx"
) -> Mapping[str, Any]:
    """Export the student of a run once more; the section goes over that of its fp32 file."""
    known = json.loads((folder / "student-onnx" / "manifest.json").read_text("utf-8"))
    kept = {key: value for key, value in known.items() if key not in ("files", "created")}
    manifest = kept | {"kind": kind, "export": known["export"] | section}
    with create(folder / f"student-{name}", manifest) as draft:
        (draft / "model.onnx").write_bytes(name.encode() * 20_000)
        if kind == "tensorrt":
            (draft / "model.plan").write_bytes(b"plan" * 10_000)
            (draft / "model.plan.json").write_bytes(b"{}")
    return manifest


def verdict(delta: float, lo: float, hi: float, **more: Any) -> dict[str, Any]:
    """A verdict over 2,000 images, as edgekd.export writes it."""
    return {
        "n": 2000,
        "top1": 0.9444 + delta,
        "reference": 0.9444,
        "delta": delta,
        "delta_interval": [lo, hi],
        "top1_agreement": 0.9835,
        "snr_db": 27.3,
        "max_drop": 0.01,
        "reasons": [],
        "passed": True,
        **more,
    }


FP16: dict[str, Any] = {
    "precision_asked": "fp16",
    "precision": "fp16+fp32",
    "types": {"Conv": {"fp16": 8, "fp32": 1}, "Relu": {"fp16": 7}, "Gemm": {"fp16": 1}},
    "verdict": verdict(0.0, -0.0013, 0.0013, top1_agreement=1.0, snr_db=58.2),
    "half": {
        "images": 256,
        "half_images": 16,
        "headroom": 0.7316,
        "peak": {"layer": "layer3.0.bn2", "operation": "add", "value": 47_923.0},
        "float32": [{"layer": "layer3.0.bn2", "why": "add reaches 4.79e+04"}],
        "float32_parameters": 0.02,
        "snr_db": 58.9,
    },
}
INT8: dict[str, Any] = {
    "precision_asked": "int8",
    "precision": "int8+fp32",
    "tuned_from": "0123456789abcdef" * 4,
    "types": {
        "Conv": {"int8": 8, "fp32": 1},
        "HardSwish": {"fp32": 18},
        "QuantizeLinear": {"int8": 31},
    },
    "verdict": verdict(-0.003, -0.0089, 0.0024),
    "int8": {
        "flavour": "vnni",
        "per_channel": True,
        "calibrator": "percentile",
        "calibrators": [{"name": "percentile", "agreement": 0.98, "snr_db": 27.0}],
        "calibration": {"n": 512, "sha256": "c0ffee" * 10 + "0000", "names": ESTATE},
        "rung": "layers in float",
        "rungs": [{"rung": name} for name in ("calibrated", "other calibrator", "layers in float")],
        "layers": 21,
        "float_layers": [NODE],
        "sensitivities": [{"layers": [NODE], "snr_db": 21.0}],
    },
    "explanation": {
        "images": 32,
        "stages": [{"name": "int8", "snr_db": 12.0, "least_db": 15.0, "passed": False}],
        "worst": [{"stage": "int8", "op": "Conv", "node": NODE, "before_db": 31.0, "snr_db": 4.0}],
        "first": None,
        "sentence": f"The first large error is at Conv '{NODE}' (int8): 31 dB before, 4 dB after; "
        "its input has one channel 22 times the others, see /home/ada/notes.txt.",
    },
}
ENGINE: dict[str, Any] = {
    "format": "tensorrt",
    "precision_asked": "fp16",
    "precision": "fp16",
    "device": "ssh://ada@nano.local",
    "verdict": verdict(0.0005, -0.0011, 0.0021, snr_db=51.0),
    "graph": {"precision": "fp32", "bytes": 312_000, "verdict": verdict(0.0, -0.0013, 0.0013)},
    "engine": {
        "key": {
            "gpu": "Orin (nvgpu)",
            "capability": "8.7",
            "tensorrt": "8.6.2",
            "cuda": "12.2",
            "onnx": "ab" * 32,
            "options": {"precision": "fp16"},
        },
        "typed": False,
        "label": "fp16",
        "shares": {"fp16": 0.9, "fp32": 0.1},
        "counts": {"fp16": 18, "fp32": 2},
        "layers": 20,
        "seconds": 93.4,
        "timing_cache": "/home/ada/.cache/edgekd/timing.bin",
        "reused": False,
    },
}
REFUSED = (
    "resnet8 in fp16 is refused: it may lose more than the 1 points allowed: -0.5 points of top-1 "
    "[-1.2, +0.2] over 2,000 images. Give more validation images, or allow more with --max-drop. "
    "The file is kept as /home/ada/run/student-auto/model.onnx.rejected, to look into."
)
AUTO: dict[str, Any] = {
    "precision_asked": "fp32",
    "precision": "fp32",
    "types": {"Conv": {"fp32": 9}, "Relu": {"fp32": 7}},
    "verdict": verdict(0.0, -0.0013, 0.0013, top1_agreement=1.0, snr_db=121.0, max_drop=1.0),
    "auto": {
        "chosen": "fp32",
        "reasons": [
            "int8 is out: 1.21x slower than fp32 here: 18 HardSwish and 4 Mul nodes stay float.",
            "fp32 stays.",
        ],
        "null": {"value": 1.0012, "lo": 0.9951, "hi": 1.0068},
        "candidates": [
            {
                "precision": "fp32",
                "bytes": 312_000,
                "verdict": verdict(0.0, -0.0013, 0.0013, top1_agreement=1.0),
                "ratio": None,
                "said": "",
                "because": "",
                "refused": None,
            },
            {
                "precision": "fp16",
                "bytes": None,
                "verdict": None,
                "ratio": None,
                "said": "",
                "because": "",
                "refused": REFUSED,
            },
            {
                "precision": "int8",
                "bytes": 98_000,
                "verdict": verdict(-0.003, -0.0089, 0.0024),
                "ratio": {"value": 1.2104, "lo": 1.2011, "hi": 1.2198},
                "said": "int8/model.onnx is 20-22 % slower (95 %)",
                "because": ": 18 HardSwish and 4 Mul nodes stay float",
                "refused": None,
            },
        ],
    },
}
