"""Arguments that are empty, endless, no text, no number, or mean harm to a terminal."""

from __future__ import annotations

from pathlib import Path

from tests.bad_input.models import whole_onnx
from tests.bad_input.table import Cases, Place


def names_in_red(place: Place) -> list[str | Path]:
    (place.tmp / "\x1b[31mred\n\udcff").mkdir()
    return ["report", place.tmp / "\x1b[31mred\n\udcff"]


CASES: Cases = {
    # ---- empty, long, and no text ----
    "output of no letters": (lambda p: p.distill("-o", ""), 2, ["'-o'", "it is empty"]),
    "artifact of no letters": (lambda p: ["export", ""], 2, ["'ARTIFACT'", "it is empty"]),
    "model of no letters": (lambda p: ["profile", ""], 2, ["MODELS", "it is empty"]),
    "folder of no letters": (lambda p: ["report", ""], 2, ["'FOLDER'", "it is empty"]),
    "deployment of no letters": (lambda p: ["deploy", ""], 2, ["'ARTIFACT'", "it is empty"]),
    "proof of no letters": (lambda p: ["verify", ""], 2, ["'ARTIFACT'", "it is empty"]),
    "data of no letters": (lambda p: p.distill("--data", ""), 2, ["there is no data set ''"]),
    "student of no letters": (lambda p: p.distill("--student", ""), 2, ["--student is missing"]),
    "teacher of no letters": (lambda p: p.distill("--teacher", ""), 2, ["--teacher is missing"]),
    "method of no letters": (lambda p: p.distill("--method", ""), 2, ["'' is not a term"]),
    "setting of no letters": (lambda p: p.distill("--set", ""), 2, ["expected key=value"]),
    "setting of no key": (lambda p: p.distill("--set", "=3"), 2, ["expected key=value"]),
    "setting of half a key": (lambda p: p.distill("--set", "train.=3"), 2, ["expected key=value"]),
    "setting of two lines": (
        lambda p: p.distill("--set", "train.epochs=3\ntrain.lr=4"),
        2,
        ["train.epochs is '3\\ntrain.lr=4'", "expected a whole number"],
    ),
    "setting of many levels": (
        lambda p: p.distill("--set", f"method.kd.{'a.' * 500}b=1"),
        2,
        ["method.kd.a.a", "more than 16 tables or lists"],
    ),
    "setting of many lists": (
        lambda p: p.distill("--set", f"train.epochs={'[' * 900}{']' * 900}"),
        2,
        ["train.epochs is '[[[[", "expected a whole number"],
    ),
    "long verb": (lambda p: ["d" * 9000], 2, ["No such command 'ddd"]),
    "long flag": (lambda p: p.distill(f"--{'d' * 9000}"), 2, ["No such option", "--ddd"]),
    "long student": (
        lambda p: p.distill("--student", "s" * 9000),
        2,
        ["there is no model 'sss"],
    ),
    "long teacher": (
        lambda p: p.distill(teacher=f"resnet14:{'t' * 9000}"),
        2,
        ["ttt", "File name too long"],
    ),
    "long data": (lambda p: p.distill("--data", "d" * 9000), 2, ["there is no data set 'ddd"]),
    "long path of data": (
        lambda p: p.distill("--data", f"./{'d' * 9000}"),
        2,
        ["ddd", "File name too long"],
    ),
    "long output": (
        lambda p: p.distill("-o", p.tmp / ("o" * 9000)),
        2,
        ["'-o'", "ooo: File name too long"],
    ),
    "long model": (lambda p: ["profile", p.tmp / ("m" * 9000)], 2, ["mmm", "File name too long"]),
    "long device": (
        lambda p: ["profile", whole_onnx(p), "--device", "d" * 9000],
        2,
        ["there is no device 'ddd"],
    ),
    "long artifact": (
        lambda p: ["export", p.tmp / ("a" * 9000)],
        2,
        ["aaa", "File name too long"],
    ),
    "long report": (lambda p: ["report", p.tmp / ("r" * 9000)], 2, ["rrr", "File name too long"]),
    "long number": (lambda p: p.distill("--epochs", "9" * 9000), 2, ["--epochs", "999"]),
    "verb in red": (lambda p: ["\x1b[31mdistil\r"], 2, ["No such command", "\\x1b[31mdistil\\r"]),
    "flag in red": (lambda p: p.distill("--\x1b[31mred"), 2, ["No such option", "\\x1b[31mred"]),
    "student backwards": (
        lambda p: p.distill("--student", "res\u202ente"),
        2,
        ["there is no model 'res\\u202ente'"],
    ),
    "names in red": (names_in_red, 2, ["\\x1b[31mred", "\\udcff", "holds nothing to report"]),
    "data of no text": (
        lambda p: p.distill("--data", "./caf\udce9"),
        2,
        ["data.source is './caf\\udce9', which is not UTF-8"],
    ),
    "student of no text": (
        lambda p: p.distill("--student", "caf\udce9"),
        2,
        ["student.name is 'caf\\udce9', which is not UTF-8"],
    ),
    "method of no text": (lambda p: p.distill("--method", "ce + \udce9"), 2, ["'\\udce9'"]),
    "setting of no text": (
        lambda p: p.distill("--set", "train.optimizer=\udce9"),
        2,
        ["train.optimizer is '\\udce9', which is not UTF-8"],
    ),
    "student in another script": (
        lambda p: p.distill("--student", "\u6a21\u578b"),
        2,
        ["there is no model '\u6a21\u578b'"],
    ),
    "home of nobody": (
        lambda p: p.distill("--data", "~nobodyhere/images"),
        2,
        ["'~nobodyhere/images' is in the home of nobody known here"],
    ),
    # ---- numbers ----
    "rate of nan": (lambda p: p.distill("--lr", "nan"), 2, ["train.lr is", "expected a number"]),
    "rate without end": (lambda p: p.distill("--lr", "inf"), 2, ["train.lr is", "a number"]),
    "many epochs": (
        lambda p: p.distill("--epochs", "9" * 30),
        2,
        ["train.epochs is beyond 2^63"],
    ),
    "seed below zero": (lambda p: p.distill("--seed", "-1"), 2, ["train.seed is -1", "at least 0"]),
    "wide images": (lambda p: p.distill("--size", "9999999"), 2, ["data.size", "8 to 8,192"]),
    "time of nan": (
        lambda p: ["profile", whole_onnx(p), "--max-seconds", "nan"],
        2,
        ["max_seconds is nan", "expected a number"],
    ),
    "time without end": (
        lambda p: ["profile", whole_onnx(p), "--max-seconds", "inf"],
        2,
        ["max_seconds is inf", "expected a number"],
    ),
    "a million threads": (
        lambda p: ["profile", whole_onnx(p), "--threads", "1000000"],
        2,
        ["threads is 1000000", "expected at most 1,024"],
    ),
    "a trillion images": (
        lambda p: ["profile", whole_onnx(p), "--batch-size", "1000000000000"],
        2,
        ["batch_size is 1000000000000", "expected at most 65,536"],
    ),
    "affinity of words": (
        lambda p: ["profile", whole_onnx(p), "--affinity", "4-7; reboot"],
        2,
        ["the affinity is '4-7; reboot'", "expected CPUs"],
    ),
}
