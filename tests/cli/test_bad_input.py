"""Bad input: one screen that says what was found and what to do, a code, and nothing half-made."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from edgekd.models import zoo
from tests.cli.conftest import Answer, Command

SCREEN_LINES, SCREEN_COLUMNS = 12, 80
DISTILL = ["--size", "8", "--limit", "200", "--epochs", "1", "--precision", "fp32"]


@dataclass(frozen=True)
class Place:
    """Where a case lays out its bad input, and what is good."""

    tmp: Path
    teacher: Path

    @property
    def out(self) -> Path:
        return self.tmp / "out"

    def distill(self, *more: str | Path, teacher: str | Path = "") -> list[str | Path]:
        """A good command, made bad by ``more``."""
        given = ["--teacher", str(teacher or self.teacher), "--student", "resnet8"]
        return ["distill", *given, *DISTILL, "-o", self.out, *more]

    def recipe(self, text: str) -> Path:
        (self.tmp / "mine.toml").write_text(text)
        return self.tmp / "mine.toml"

    def pictures(self, **counts: int) -> Path:
        """A folder of noise, so many images a class."""
        draw = np.random.default_rng(0)
        for label, count in counts.items():
            (self.tmp / "pictures" / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                file = self.tmp / "pictures" / label / f"{number}.png"
                Image.fromarray(pixels).save(file)
        return self.tmp / "pictures"

    def teach(self, data: Path) -> list[str | Path]:
        return ["teach", "--teacher", "resnet8", "--data", data, *DISTILL, "-o", self.out]

    def weights(self, classes: int) -> Path:
        torch.manual_seed(0)
        path = self.tmp / "weights.safetensors"
        save_file(zoo.create("resnet14", classes).state_dict(), path)
        return path


Case = Callable[[Place], list[str | Path]]


# ---- cases that need some laying out ----


def empty_class(place: Place) -> list[str | Path]:
    data = place.pictures(cat=6, dog=6)
    (data / "cow").mkdir()
    return place.teach(data)


def corrupt_image(place: Place) -> list[str | Path]:
    data = place.pictures(cat=6, dog=6)
    (data / "cat" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of use")
    return place.teach(data)


def truncated_image(place: Place) -> list[str | Path]:
    data = place.pictures(cat=6, dog=6)
    whole = (data / "dog" / "3.png").read_bytes()
    (data / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    return place.teach(data)


def unsafe_weights(place: Place) -> list[str | Path]:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {place.tmp / 'canary'}",)

    path = place.tmp / "trap.pth"
    torch.save({"state_dict": Trap()}, path)
    return place.distill(teacher=f"resnet14:{path}")


def changed_artifact(place: Place) -> list[str | Path]:
    copy = shutil.copytree(place.teacher, place.tmp / "changed")
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    return ["export", copy, "-o", place.out]


def text_as_onnx(place: Place) -> list[str | Path]:
    (place.tmp / "m.onnx").write_text("this is not a model")
    return ["profile", place.tmp / "m.onnx"]


def truncated_onnx(place: Place) -> list[str | Path]:
    from runpy import run_path

    tiny = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
    model: Path = tiny["classifier"](place.tmp / "m.onnx")
    model.write_bytes(model.read_bytes()[:-20])
    return ["profile", model]


def already_exported(place: Place) -> list[str | Path]:
    copy = shutil.copytree(place.teacher, place.tmp / "onnx")
    text = (copy / "manifest.json").read_text().replace('"kind": "network"', '"kind": "onnx"')
    (copy / "manifest.json").write_text(text.replace("model.safetensors", "model.onnx"))
    (copy / "model.safetensors").rename(copy / "model.onnx")
    return ["export", copy, "-o", place.out]


def file_in_the_way(place: Place) -> list[str | Path]:
    place.out.write_text("mine")
    return place.distill()


def file_further_up(place: Place) -> list[str | Path]:
    (place.tmp / "file").write_text("mine")
    return [*place.distill(), "-o", place.tmp / "file" / "deep" / "out"]


def empty_folder(place: Place) -> list[str | Path]:
    (place.tmp / "nothing").mkdir()
    return ["report", place.tmp / "nothing"]


SYNTAX = "[data]\nsource = 'digits'\n[train]\nepochs = = 3\n"
UNKNOWN_KEY = "[data]\nsource = 'digits'\n\n[train]\nlr = 0.1\nepoch = 3\n"
WRONG_TYPE = "[data]\nsource = 'digits'\n[train]\nepochs = 'ten'\n"
OUT_OF_RANGE = "[train]\nbatch_size = 0\n"

CASES: dict[str, tuple[Case, int, list[str]]] = {
    # ---- names ----
    "verb": (lambda p: ["distil"], 2, ["No such command 'distil'", "distill"]),
    "flag": (lambda p: p.distill("--metod", "ce"), 2, ["--metod", "--method"]),
    "method": (
        lambda p: p.distill("--method", "ce + kdd"),
        2,
        ["there is no method 'kdd'", "Did you mean kd"],
    ),
    "formula": (
        lambda p: p.distill("--method", "ce + x*kd"),
        2,
        ["weight 'x' is no number", '"ce + 0.9*kd + at"'],
    ),
    "model": (
        lambda p: p.distill("--student", "resnet9"),
        2,
        ["there is no model 'resnet9'", "Did you mean resnet8"],
    ),
    "data set": (
        lambda p: p.distill("--data", "digit"),
        2,
        ["there is no data set 'digit'", "Did you mean digits"],
    ),
    "term's option": (
        lambda p: p.distill("--set", "method.kd.temprature=3"),
        2,
        ["method 'kd' has no option 'temprature'", "Did you mean temperature"],
    ),
    "term's option out of range": (
        lambda p: p.distill("--set", "method.kd.temperature=-1"),
        2,
        ["method 'kd': temperature must be above 0, got -1"],
    ),
    "device": (
        lambda p: ["profile", *text_as_onnx(p)[1:], "--device", "pi"],
        2,
        ["there is no device 'pi'", "There are: local"],
    ),
    "tracker": (
        lambda p: p.distill("--set", 'train.trackers=["wand"]'),
        2,
        ["train.trackers", "wand", "wandb"],
    ),
    "optimiser": (
        lambda p: p.distill("--set", "train.optimizer=sdg"),
        2,
        ["train.optimizer is 'sdg'", "Did you mean", "sgd"],
    ),
    "schedule": (
        lambda p: p.distill("--set", "train.schedule=cosin"),
        2,
        ["train.schedule is 'cosin'", "Did you mean cosine"],
    ),
    "kind to list": (lambda p: ["list", "metod"], 2, ["'metod'", "'method'"]),
    "shell": (lambda p: ["completion", "tcsh"], 2, ["'tcsh'", "'bash'"]),
    # ---- values ----
    "no batch": (lambda p: p.distill("--batch-size", "0"), 2, ["batch_size is 0", "at least 1"]),
    "no epochs": (lambda p: p.distill("--epochs", "0"), 2, ["epochs is 0", "at least 1"]),
    "epochs below zero": (lambda p: p.distill("--epochs", "-1"), 2, ["epochs is -1"]),
    "no number": (lambda p: p.distill("--epochs", "ten"), 2, ["'ten'", "--epochs"]),
    "learning rate": (lambda p: p.distill("--lr", "0"), 2, ["lr is 0.0", "more than 0"]),
    "fp16 on a CPU": (
        lambda p: p.distill("--precision", "fp16"),
        2,
        ["train.precision is 'fp16'", "needs a GPU", "use auto or fp32"],
    ),
    "precision": (
        lambda p: p.distill("--precision", "int8"),
        2,
        ["precision is 'int8'", "bf16"],
    ),
    "key": (
        lambda p: p.distill("--set", "train.epoch=3"),
        2,
        ["unknown key 'train.epoch'", "Did you mean epochs"],
    ),
    "no key": (
        lambda p: p.distill("--set", "epochs"),
        2,
        ["--set 'epochs'", "expected key=value, such as train.epochs=10"],
    ),
    "provider": (
        lambda p: ["profile", *truncated_onnx(p)[1:], "--provider", "FooProvider"],
        1,
        ["FooProvider was asked for", "CPUExecutionProvider"],
    ),
    "profile of no seconds": (
        lambda p: ["profile", *text_as_onnx(p)[1:], "--max-seconds", "0"],
        2,
        ["max_seconds is 0"],
    ),
    # ---- recipes ----
    "recipe's syntax": (
        lambda p: ["run", p.recipe(SYNTAX), "-o", p.out],
        2,
        ["mine.toml", "not valid TOML", "line 4"],
    ),
    "recipe's unknown key": (
        lambda p: ["run", p.recipe(UNKNOWN_KEY), "-o", p.out],
        2,
        ["mine.toml, line 6", "unknown key 'train.epoch'", "Did you mean epochs"],
    ),
    "recipe's wrong type": (
        lambda p: ["run", p.recipe(WRONG_TYPE), "-o", p.out],
        2,
        ["mine.toml, line 4", "train.epochs is 'ten'", "expected a whole number"],
    ),
    "recipe out of range": (
        lambda p: ["run", p.recipe(OUT_OF_RANGE), "-o", p.out],
        2,
        ["mine.toml, line 2", "train.batch_size is 0", "expected at least 1"],
    ),
    "no such recipe": (
        lambda p: ["run", p.tmp / "none.toml", "-o", p.out],
        2,
        ["none.toml", "No such file"],
    ),
    "no such recipe's name": (
        lambda p: ["run", "digit", "-o", p.out],
        2,
        ["there is no recipe 'digit'", "Did you mean digits"],
    ),
    # ---- data ----
    "missing folder": (
        lambda p: p.teach(p.tmp / "nowhere"),
        2,
        ["there is no folder or tar", "nowhere", "one subfolder a class"],
    ),
    "empty class": (empty_class, 2, ["cow has no images", "remove the folder"]),
    "corrupt image": (corrupt_image, 2, ["cannot read image", "cat/2.png", "replace it"]),
    "truncated image": (truncated_image, 2, ["cannot read image", "dog/3.png", "replace it"]),
    "one class": (
        lambda p: p.teach(p.pictures(cat=9)),
        2,
        ["one class (cat)", "at least two"],
    ),
    "one image a class": (
        lambda p: p.teach(p.pictures(cat=9, dog=1)),
        2,
        ["'dog' has 1 image", "at least 3"],
    ),
    # ---- weights ----
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
        ["none.pth"],
    ),
    "classes of the weights": (
        lambda p: p.distill(teacher=f"resnet14:{p.weights(classes=7)}"),
        2,
        ["tells 7 classes, the data has 10", "edgekd teach"],
    ),
    "weights that run code": (
        unsafe_weights,
        2,
        ["trap.pth", "could run code", "was not loaded", "safetensors"],
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
    # ---- models ----
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
        1,
        ["is not an edgekd artifact", "Expected a folder that edgekd"],
    ),
    "opset": (
        lambda p: ["export", p.teacher, "-o", p.out, "--opset", "3"],
        2,
        ["opset", "3"],
    ),
    # ---- places ----
    "file in the way": (file_in_the_way, 2, ["out is a file", "--output"]),
    "file further up": (file_further_up, 2, ["file is a file", "--output"]),
    "profile into a folder": (
        lambda p: ["profile", *text_as_onnx(p)[1:], "-o", p.tmp],
        2,
        ["is a folder", "--output profile.json"],
    ),
    "report of nothing": (empty_folder, 2, ["holds nothing to report", "it is empty"]),
    "report of nowhere": (lambda p: ["report", p.tmp / "none"], 2, ["none is not a folder"]),
    # ---- training ----
    "diverged": (
        lambda p: p.distill("--lr", "1e9", "--set", "train.warmup_epochs=0"),
        1,
        ["no longer finite at step", "lower the learning rate", "--restart"],
    ),
}


def wrapped(text: str) -> int:
    """Lines a terminal needs for it."""
    return sum(max(1, math.ceil(len(line) / SCREEN_COLUMNS)) for line in text.splitlines())


def assert_clear(answer: Answer, code: int, words: list[str]) -> None:
    said = " ".join(answer.err.split())
    assert answer.code == code, answer
    assert "Traceback" not in answer.err
    assert answer.out == ""
    for word in words:
        assert word in said
    assert wrapped(answer.err) <= SCREEN_LINES


def left(place: Path) -> list[str]:
    return [file.name for file in place.rglob("*") if file.is_file()] if place.is_dir() else []


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    arrange, code, words = CASES[name]
    place = Place(tmp_path, taught)
    arguments = arrange(place)
    answer = edgekd(*arguments)
    assert_clear(answer, code, words)
    allowed = ["metrics.jsonl"] if name == "diverged" else []
    assert left(place.out) == allowed
    assert not (tmp_path / "canary").exists()
    if name == "file in the way":
        assert place.out.read_text() == "mine"


def test_the_trap_would_have_sprung(tmp_path: Path, taught: Path) -> None:
    unsafe_weights(Place(tmp_path, taught))
    torch.load(tmp_path / "trap.pth", weights_only=False)
    assert (tmp_path / "canary").exists()


# ---- disks ----


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something on a folder, or skip the test where that is not permitted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def assert_nothing_looks_finished(place: Path) -> None:
    """No artifact, and no draft of one; a training's whole files may be there."""
    names = set(left(place))
    assert names <= {"metrics.jsonl", "student.safetensors", "checkpoint.pt"}
    assert not [file for file in place.rglob(".*") if file.exists()]


@pytest.mark.parametrize("kilobytes", [8, 24, 330, 700, 1010, 1300])
def test_no_space_to_train(kilobytes: int, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    """The state, the student or the artifact: whatever is the first that does not fit."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        place = Place(tmp_path, taught)
        answer = edgekd(*place.distill("--set", "train.checkpoint_minutes=0", "-o", disk / "out"))
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert_nothing_looks_finished(disk)


@pytest.mark.parametrize("kilobytes", [16, 100, 300])
def test_no_space_to_export(kilobytes: int, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as disk:
        answer = edgekd("export", taught, "-o", disk / "out")
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert left(disk) == []


def test_no_space_to_report(edgekd: Command, taught: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        answer = edgekd("report", taught, "-o", disk / "out")
        assert_clear(answer, 2, ["cannot write", "No space left on device", "--output"])
        assert not [name for name in left(disk) if name.startswith(".")]


VERBS: dict[str, Callable[[Place, Path], list[str | Path]]] = {
    "teach": lambda p, out: ["teach", "--teacher", "resnet8", *DISTILL, "-o", out],
    "distill": lambda p, out: p.distill("-o", out),
    "export": lambda p, out: ["export", p.teacher, "-o", out],
    "profile": lambda p, out: ["profile", *text_as_onnx(p)[1:], "-o", out / "m.json"],
    "report": lambda p, out: ["report", p.teacher, "-o", out],
    "run": lambda p, out: ["run", *DISTILL, "-o", out],
}


@pytest.mark.parametrize("verb", VERBS)
def test_read_only(verb: str, edgekd: Command, taught: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk:
        answer = edgekd(*VERBS[verb](Place(tmp_path, taught), disk / "out"))
        assert_clear(answer, 2, ["cannot write", "Read-only file system", "--output"])
