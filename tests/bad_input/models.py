"""Weights and models that cannot be used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from runpy import run_path

from tests.bad_input.table import DISTILL, Cases, Place


def changed_artifact(place: Place) -> list[str | Path]:
    copy = shutil.copytree(place.teacher, place.tmp / "changed")
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    return ["export", copy, "-o", place.out]


def text_as_onnx(place: Place) -> list[str | Path]:
    (place.tmp / "m.onnx").write_text("this is not a model")
    return ["profile", place.tmp / "m.onnx"]


def whole_onnx(place: Place) -> Path:
    tiny = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
    model: Path = tiny["classifier"](place.tmp / "m.onnx")
    return model


def truncated_onnx(place: Place) -> list[str | Path]:
    model = whole_onnx(place)
    model.write_bytes(model.read_bytes()[:-20])
    return ["profile", model]


def already_exported(place: Place) -> list[str | Path]:
    copy = shutil.copytree(place.teacher, place.tmp / "onnx")
    text = (copy / "manifest.json").read_text().replace('"kind": "network"', '"kind": "onnx"')
    (copy / "manifest.json").write_text(text.replace("model.safetensors", "model.onnx"))
    (copy / "model.safetensors").rename(copy / "model.onnx")
    return ["export", copy, "-o", place.out]


CASES: Cases = {
    "no weights": (
        lambda p: p.distill(teacher="resnet14"),
        2,
        ["the teacher resnet14 has no weights", "--teacher resnet14:WEIGHTS", "edgekd teach"],
    ),
    "no teacher": (
        lambda p: ["distill", "--student", "resnet8", "-o", p.out],
        2,
        ["--teacher is missing", "NAME:WEIGHTS", "edgekd teach"],
    ),
    "no student": (
        lambda p: ["distill", "--teacher", p.teacher, "-o", p.out],
        2,
        ["--student is missing", "edgekd list model"],
    ),
    "missing weights": (
        lambda p: p.distill(teacher=f"resnet14:{p.tmp / 'none.pth'}"),
        2,
        ["there is no file or folder", "none.pth with the weights", "Correct the path"],
    ),
    "classes of the weights": (
        lambda p: p.distill(teacher=f"resnet14:{p.weights(classes=7)}"),
        2,
        ["tells 7 classes, the data has 10", "edgekd teach"],
    ),
    "teacher near chance": (
        lambda p: p.distill(teacher=f"resnet14:{p.weights(classes=10)}"),
        1,
        ["a teacher at chance teaches noise", "edgekd teach", "% of"],
    ),
    "swapped": (
        lambda p: p.distill("--student", "resnet8x4"),
        2,
        ["the student resnet8x4", "larger than the teacher resnet14", "Are they swapped"],
    ),
    "swapped in run": (
        lambda p: ["run", "--teacher", "resnet8", "--student", "resnet8x4", *DISTILL, "-o", p.out],
        2,
        ["Are they swapped"],
    ),
    "text as ONNX": (text_as_onnx, 1, ["m.onnx", "not a whole ONNX model", "Export it again"]),
    "truncated ONNX": (truncated_onnx, 1, ["m.onnx", "not a whole ONNX model", "Export it again"]),
    "missing ONNX": (
        lambda p: ["profile", p.tmp / "none.onnx"],
        2,
        ["there is no", "none.onnx", "exported artifact"],
    ),
    "profile of a network": (
        lambda p: ["profile", p.teacher],
        2,
        ["is a network", "edgekd export"],
    ),
    "changed artifact": (changed_artifact, 1, ["model.safetensors was changed", "Make it again"]),
    "export of an export": (already_exported, 2, ["exported onnx file", "expected a network"]),
    "export of nothing": (
        lambda p: ["export", p.tmp / "none", "-o", p.out],
        2,
        ["there is no", "Expected a folder that edgekd"],
    ),
    "export of another folder": (
        lambda p: ["export", p.tmp, "-o", p.out],
        2,
        ["is not an edgekd artifact: it has no manifest.json", "Expected a folder that edgekd"],
    ),
    "opset": (
        lambda p: ["export", p.teacher, "-o", p.out, "--opset", "3"],
        2,
        ["opset is 3; expected 0, or at least 13"],
    ),
}
