"""Command lines: names there are not, values out of range, places that cannot be written."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from tests.bad_input.models import text_as_onnx, whole_onnx
from tests.bad_input.table import DISTILL, Case, Cases, Place


def file_in_the_way(place: Place) -> list[str | Path]:
    place.out.write_text("mine")
    return place.distill()


def file_further_up(place: Place) -> list[str | Path]:
    (place.tmp / "file").write_text("mine")
    return [*place.distill(), "-o", place.tmp / "file" / "deep" / "out"]


def empty_folder(place: Place) -> list[str | Path]:
    (place.tmp / "nothing").mkdir()
    return ["report", place.tmp / "nothing"]


def device_in_the_way(place: Place) -> list[str | Path]:
    """Of the same number as /dev/full's; the real one would be lost if this were not refused."""
    try:
        os.mknod(place.out, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        os.mkfifo(place.out)
    return place.distill()


def pipe_in_the_way(place: Place) -> list[str | Path]:
    os.mkfifo(place.tmp / "profile.json")
    return ["profile", whole_onnx(place), "-o", place.tmp / "profile.json"]


def taught(place: Place) -> Path:
    return shutil.copytree(place.teacher, place.tmp / "teacher")


def onto_its_teacher(place: Place) -> list[str | Path]:
    teacher = taught(place)
    return place.distill("-o", teacher, teacher=teacher)


def over_its_teacher(place: Place) -> list[str | Path]:
    return [*onto_its_teacher(place), "--restart"]


def export_onto_itself(place: Place) -> list[str | Path]:
    network = taught(place)
    return ["export", network, "-o", network]


def export_over_a_model(place: Place) -> list[str | Path]:
    (place.tmp / "mine").mkdir()
    (place.tmp / "mine" / "model.onnx").write_text("my own")
    return ["export", taught(place), "-o", place.tmp / "mine"]


def into_somebody_s(name: str, *command: str, text: str = '{"mine": 3}') -> Case:
    """Results for a folder in which a file has a name that edgekd gives to its own."""

    def case(place: Place) -> list[str | Path]:
        file = place.tmp / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return [*command, "-o", place.tmp / "mine"]

    return case


def with_training(name: str, *command: str) -> Case:
    """The same, with a folder that is called as one of edgekd's beside it."""

    def case(place: Place) -> list[str | Path]:
        (place.tmp / "mine" / "training").mkdir(parents=True)
        return into_somebody_s(name, *command)(place)

    return case


LOST = "would be lost"
MANIFEST = "manifest.json is no manifest of edgekd's"
PAIR = ("distill", "--student", "resnet8", "--peer", "resnet8", "--data", "digits", *DISTILL)
TEACH = ("teach", "--teacher", "resnet8", "--data", "digits", *DISTILL)
BUDGET = ("--budget", "p95<=9ms")
TWO = ("--teacher", "resnet8", "--student", "resnet8", "--method", "ce + kd", "--data", "digits")
CASES: Cases = {
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
        lambda p: ["profile", whole_onnx(p), "--provider", "FooProvider"],
        1,
        ["FooProvider was asked for", "CPUExecutionProvider"],
    ),
    "profile of no seconds": (
        lambda p: ["profile", *text_as_onnx(p)[1:], "--max-seconds", "0"],
        2,
        ["max_seconds is 0"],
    ),
    "file in the way": (file_in_the_way, 2, ["out is a file", "--output"]),
    "file further up": (file_further_up, 2, ["file is a file", "--output"]),
    "profile into a folder": (
        lambda p: ["profile", *text_as_onnx(p)[1:], "-o", p.tmp],
        2,
        ["is a folder", "--output profile.json"],
    ),
    "report of nothing": (empty_folder, 2, ["holds nothing to report", "it is empty"]),
    "report of nowhere": (lambda p: ["report", p.tmp / "none"], 2, ["none is not a folder"]),
    "diverged": (
        lambda p: p.distill("--lr", "1e9", "--set", "train.warmup_epochs=0"),
        1,
        ["no longer finite at step", "lower the learning rate", "--restart"],
    ),
    "the whole file system": (
        lambda p: p.distill("-o", "/"),
        2,
        ["/ is the whole file system", "--output"],
    ),
    "nowhere to write": (
        lambda p: p.distill("-o", "/proc/edgekd/out"),
        2,
        ["cannot write /proc/edgekd/out", "No such file or directory", "--output"],
    ),
    "device in the way": (device_in_the_way, 2, ["out is a file", "--output"]),
    "export of two files": (
        lambda p: ["export", p.teacher, "--trt", "--onnx", "-o", p.out],
        2,
        ["--onnx and --trt are two files", "Give one"],
    ),
    "export of an engine's option": (
        lambda p: ["export", p.teacher, "--dla-core", "0", "-o", p.out],
        2,
        ["--dla-core is of an engine", "Add --trt"],
    ),
    "ever more classes": (
        lambda p: ["scout", "--students", "resnet8", "--classes", "99999999999", "-o", p.out],
        2,
        ["99999999999 is not in the range 2<=x<=1000000"],
    ),
    "ever more seeds": (
        lambda p: ["compare", *TWO, "--seeds", "100000000", "-o", p.out],
        2,
        ["100000000 is not in the range 1<=x<=1000"],
    ),
    "somebody's run.json": (into_somebody_s("run.json", "run"), 2, ["run.json is no run of", LOST]),
    "somebody's notes called run.json": (
        into_somebody_s("run.json", "run", text="my notes"),
        2,
        ["run.json is no run of edgekd's", LOST],
    ),
    "somebody's profile.json": (
        into_somebody_s("profile.json", "run"),
        2,
        ["profile.json is there already, and is no measurement", LOST],
    ),
    "somebody's scout.json": (
        into_somebody_s("scout.json", "scout", *BUDGET),
        2,
        ["scout.json is no scout of edgekd's", LOST],
    ),
    "somebody's scout.json, by a budget": (
        into_somebody_s("scout.json", "run", *BUDGET),
        2,
        ["scout.json is no scout of edgekd's", LOST],
    ),
    "somebody's profile-teacher.json": (
        into_somebody_s("profile-teacher.json", "run", *BUDGET),
        2,
        ["profile-teacher.json is there already, and is no measurement", LOST],
    ),
    "somebody's manifest.json": (into_somebody_s("manifest.json", *TEACH), 2, [MANIFEST, LOST]),
    "somebody's manifest.json, restarted": (
        into_somebody_s("manifest.json", *TEACH, "--restart"),
        2,
        [MANIFEST, LOST, "Move it away"],
    ),
    "somebody's manifest.json, by an export": (
        lambda p: into_somebody_s("manifest.json", "export", str(p.teacher))(p),
        2,
        [MANIFEST, LOST, "another --output"],
    ),
    "somebody's manifest.json, in a run's way": (
        into_somebody_s("student-onnx/manifest.json", "run"),
        2,
        ["student-onnx/manifest.json is no manifest of edgekd's", LOST],
    ),
    "somebody's peer": (
        into_somebody_s("peer/manifest.json", *PAIR),
        2,
        ["peer/manifest.json is no manifest of edgekd's", LOST],
    ),
    "somebody's network beside his training": (
        with_training("model.safetensors", *TEACH),
        2,
        ["mine holds model.safetensors, but no manifest.json", "another --output"],
    ),
    "somebody's curves": (
        into_somebody_s("training/metrics.jsonl", *TEACH, "--restart"),
        2,
        ["training holds files of names that a training has", LOST],
    ),
    "somebody's checkpoint": (
        into_somebody_s("training/checkpoint.pt", *TEACH, "--restart"),
        2,
        ["training holds files of names that a training has", LOST],
    ),
    "somebody's compare.json": (
        into_somebody_s("compare.json", "compare", *TWO),
        2,
        ["compare.json is no comparison of edgekd's", LOST],
    ),
    "pipe in the way": (pipe_in_the_way, 2, ["profile.json is a device or a pipe", "--output"]),
    "student onto its teacher": (
        onto_its_teacher,
        2,
        ["holds a finished teacher", "Choose another --output"],
    ),
    "student over its teacher": (
        over_its_teacher,
        2,
        ["teacher is to be read, and lies in", "--restart would clear", "another --output"],
    ),
    "export onto itself": (export_onto_itself, 2, ["would replace its manifest", "with --output"]),
    "export over a model": (
        export_over_a_model,
        2,
        ["mine holds model.onnx, but no manifest.json", "Move it away", "another --output"],
    ),
}

LEFT = {"diverged": ["training", "training/metrics.jsonl"]}
TOUCHED = {"diverged": ["home/.cache/edgekd*"]}  # what the teacher answered
