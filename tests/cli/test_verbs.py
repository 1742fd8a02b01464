"""Verbs: what each takes, prints and returns, for a person and for a program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import click
import pytest

from edgekd import __version__, cli
from edgekd.cli import FLOW
from edgekd.errors import DataError, DeviceError, EdgeKDError, GateError
from edgekd.flow.checkup import Check
from edgekd.recipe import Recipe, recipe_from
from edgekd.trainer import Interrupted
from tests.cli.conftest import Answer, Command

VERBS = [str(verb.name) for verb in FLOW]
LEAVES = [
    (str(verb.name), *((inner,) if inner else ()))
    for verb in FLOW
    for inner in (verb.commands if isinstance(verb, click.Group) else [""])
]
TINY: list[str | Path] = ["--size", "8", "--limit", "300", "--precision", "fp32"]
TINY += ["--batch-size", "32", "--epochs", "1"]


def narrow(text: str) -> bool:
    """Whether a table keeps within 80 columns; sentences are left to the terminal to break."""
    rows = [line for line in text.splitlines() if line.startswith("  ")]
    return bool(rows) and max(map(len, rows)) <= 80


def read(answer: Answer) -> Any:
    """What a program is told: JSON, and nothing else on standard output."""
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


# ---- help ----


def test_the_overview(edgekd: Command) -> None:
    answer = edgekd("--help")
    assert answer.code == 0
    assert answer.out.startswith("Usage: edgekd ")
    verbs = answer.out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)  +\S", verbs, re.MULTILINE) == VERBS
    assert "..." not in verbs
    assert "Exit codes: 0 fine, 1 a gate or a check failed, 2 wrong usage" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert edgekd("-h").out == answer.out
    assert edgekd("--version").out.strip().endswith(__version__)


def test_without_a_verb_the_overview_is_shown(edgekd: Command) -> None:
    answer = edgekd()
    assert answer.code == 2
    assert answer.out == ""
    assert "Commands:" in answer.err


@pytest.mark.parametrize("verb", LEAVES, ids=" ".join)
def test_every_verb_has_help_and_json(verb: tuple[str, ...], edgekd: Command) -> None:
    answer = edgekd(*verb, "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert "--json" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert re.search(r"\n\n  [A-Z]\w+.*\n", answer.out)  # a sentence that says what it does
    assert edgekd(*verb, "-h").out == answer.out


@pytest.mark.parametrize("verb", LEAVES, ids=" ".join)
def test_every_option_says_what_it_does(verb: tuple[str, ...]) -> None:
    command: click.Command = cli.cli
    for name in verb:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


# ---- the flow, verb by verb ----


def test_the_flow_for_a_program_and_for_a_person(edgekd: Command, tmp_path: Path) -> None:
    teacher, student, onnx = (tmp_path / name for name in ("t", "s", "s-onnx"))
    lr = ["--lr", "0.1", "--epochs", "6"]
    teach = ["teach", "--teacher", "resnet14", *TINY, *lr, "-o", teacher]
    found = read(edgekd(*teach, "--json"))
    assert found["path"] == str(teacher)
    assert found["test"]["top1"] > 0.5
    said = edgekd(*teach)
    limited = "--student NAME --data digits --size 8 --limit 300"
    assert f"Next: edgekd distill --teacher {teacher} {limited}" in said.out
    lost = edgekd(*teach, "--set", "train.optimizer=adamw")
    assert lost.code == 2
    assert "--set teach.optimizer=adamw" in lost.err
    assert "resnet14" in said.out
    assert "already trained" in said.err
    assert narrow(said.out)

    distill = ["distill", "--teacher", teacher, "--student", "resnet8", *TINY, "-o", student]
    found = read(edgekd(*distill, "--baseline", "epochs", "--json"))
    assert set(found) >= {"path", "sha256", "validation", "test", "gain"}
    assert found["gain"]["baseline_epochs"] == 1
    said = edgekd(*distill, "--baseline", "epochs")
    assert re.search(r"points of top-1, 95 % interval [+-]\d", said.out)
    assert f"Next: edgekd export {student} --onnx" in said.out
    assert narrow(said.out)

    found = read(edgekd("export", student, "--onnx", "--json"))
    assert found["path"] == str(onnx)
    assert found["parity"]["passed"] is True
    said = edgekd("export", student, "--opset", "17", "--float-input", "-o", tmp_path / "f")
    assert said.code == 0, said.err
    assert "opset 17" in said.out
    assert "float32 (batch, 3, 8, 8)" in said.out
    assert f"Next: edgekd profile {tmp_path / 'f'}" in said.out
    assert narrow(said.out)

    measured = tmp_path / "profile.json"
    quick = ["--max-seconds", "0.5", "--data", "digits"]
    found = read(edgekd("profile", onnx, *quick, "-o", measured, "--json"))
    assert json.loads(measured.read_text()) == found
    assert found[0]["accuracy"]["n"] == 359
    said = edgekd("profile", onnx, tmp_path / "f" / "model.onnx", "--max-seconds", "0.5")
    assert said.code == 0, said.err
    assert "s-onnx" in said.out
    assert "model.onnx" in said.out
    assert "Against s-onnx/model.onnx: " in said.out
    assert narrow(said.out)

    found = read(edgekd("report", tmp_path, "--json"))
    assert set(found) == {"html", "markdown", "json"}
    said = edgekd("report", tmp_path, "-o", tmp_path / "else")
    assert said.out.splitlines() == [
        str(tmp_path / "else" / f"report.{end}") for end in ("html", "md", "json")
    ]


def test_run_as_its_own_recipe(edgekd: Command, tmp_path: Path) -> None:
    """``--print-recipe`` into a file, the file into ``run``; once for each kind of reader."""
    flags = ["--teacher", "resnet14", "--student", "resnet8", "--method", "0.5*ce + kd", *TINY]
    sets = ["teach.epochs=4", "teach.lr=0.1", "teach.batch_size=32", "profile.max_seconds=0.5"]
    flags += [word for text in sets for word in ("--set", text)]
    printed = edgekd("run", *flags, "--print-recipe")
    assert printed.err == ""
    file = tmp_path / "mine.toml"
    file.write_text(printed.out)
    out = tmp_path / "run"
    found = read(edgekd("run", file, "-o", out, "--baseline", "epochs", "--json"))
    assert set(found) >= {"gain", "seconds", "report", "decisions", "command"}
    assert found["command"].startswith("edgekd run ")

    said = edgekd("run", file, "-o", out, "--baseline", "epochs")
    assert said.code == 0, said.err
    assert said.err.count("already") == 6
    lines = [line.split() for line in said.out.splitlines() if line.strip()]
    assert lines[0] == ["teacher", "baseline", "student"]
    assert lines[1] == ["resnet14", "resnet8", "resnet8"]
    words = said.out
    for row in ("parameters", "file size", "MACs", "top-1", "[95 %]", "median latency", "p95"):
        assert row in words
    assert "…" not in words
    assert "Gain of distilling over the student alone (1 epoch):" in words
    assert f"Report: {out / 'report.html'}" in words
    assert narrow(words)


# ---- recipes from flags ----

ROUND_TRIPS: dict[str, tuple[list[str], list[str]]] = {
    "nothing": ([], []),
    "names": (
        ["--teacher", "resnet20:runs/w.pth", "--student", "wrn_16_1"],
        ["teacher.name=resnet20", "teacher.weights='runs/w.pth'", "student.name=wrn_16_1"],
    ),
    "method": (["--method", "ce + 0..1*at"], ["method=ce + 0..1*at"]),
    "data": (
        ["--data", "images", "--size", "32", "--limit", "7"],
        ["data.source=images", "data.size=32", "data.limit=7"],
    ),
    "train": (
        ["--epochs", "3", "--batch-size", "7", "--lr", "0.3", "--seed", "5", "--precision", "bf16"],
        [
            "train.epochs=3",
            "train.batch_size=7",
            "train.lr=0.3",
            "train.seed=5",
            "train.precision=bf16",
        ],
    ),
    "set": (
        ["--set", "train.ema=0.9", "--set", 'train.trackers=["wandb"]', "--set", "export.opset=17"],
        ["train.ema=0.9", 'train.trackers=["wandb"]', "export.opset=17"],
    ),
    "the last word": (["--epochs", "3", "--set", "train.epochs=4"], ["train.epochs=4"]),
    "a name that must be quoted": (
        ["--data", 'a "b" \\ ä'],
        ["data.source='a \"b\" \\ ä'"],
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_flags_make_a_recipe_that_is_read_back(name: str, edgekd: Command, tmp_path: Path) -> None:
    flags, overrides = ROUND_TRIPS[name]
    answer = edgekd("distill", *flags, "--print-recipe")
    assert answer.code == 0, answer.err
    file = tmp_path / "r.toml"
    file.write_text(answer.out)
    expected = recipe_from({}, overrides)
    assert Recipe.load(file) == expected
    assert edgekd("run", file, "--print-recipe").out == answer.out
    assert read(edgekd("distill", *flags, "--print-recipe", "--json")) == expected.to_dict()


def test_flags_win_over_the_recipe_file(edgekd: Command, tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('[train]\nepochs = 7\nlr = 0.5\n[student]\nname = "resnet14"\n[teach]\nlr = 1')
    for verb in ("run", "distill"):
        source = [file] if verb == "run" else ["--recipe", file]
        found = read(edgekd(verb, *source, "--lr", "0.25", "--print-recipe", "--json"))
        assert found["train"]["epochs"] == 7
        assert found["train"]["lr"] == 0.25
        assert found["teach"]["lr"] == 1
        assert found["student"]["name"] == "resnet14"
    command = ["teach", "--teacher", "resnet20", "--recipe", file, "--lr", "0.25"]
    found = read(edgekd(*command, "--print-recipe", "--json"))
    assert found["teach"]["lr"] == 0.25
    assert found["train"]["lr"] == 0.5
    assert found["teacher"]["name"] == "resnet20"


def test_an_artifact_knows_its_name(edgekd: Command, taught: Path) -> None:
    found = read(edgekd("distill", "--teacher", taught, "--print-recipe", "--json"))
    assert found["teacher"] == {"name": "", "weights": str(taught)}


# ---- lists, doctor, completion ----

KINDS = {
    "method": {"ce", "kd", "at", "fitnet"},
    "model": {"resnet8", "resnet18", "torchvision/resnet18"},
    "dataset": {"digits", "folder", "torchvision", "hf", "wds"},
    "device": {"local"},
    "runtime": {"ort"},
    "recipe": {"digits"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_lists(kind: str, edgekd: Command) -> None:
    found = read(edgekd("list", kind, "--json"))
    assert set(found) >= KINDS[kind]
    printed = edgekd("list", kind)
    assert printed.code == 0
    firsts = [line for line in printed.out.splitlines() if not line.startswith((" ", "Costs are"))]
    assert [line.split()[0] for line in firsts] == list(found)
    if kind != "model":
        assert all(found.values())


def test_a_part_of_a_name(edgekd: Command) -> None:
    found = read(edgekd("list", "model", "resnet8x", "--json"))
    assert set(found) == {"resnet8x4"}
    nothing = edgekd("list", "method", "zzz")
    assert nothing.code == 0
    assert nothing.out == ""
    assert "No method has 'zzz' in its name." in nothing.err


def test_doctor(edgekd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(edgekd("doctor", "--json"))
    assert {"python", "torch", "processor", "disk", "GPU"} <= {check["name"] for check in found}
    assert edgekd("doctor").code == 0

    def sick() -> list[Check]:
        return [
            Check("torch", "none", ok=False, advice="pip install torch"),
            Check("GPU", "none", ok=False, optional=True),
        ]

    monkeypatch.setattr("edgekd.flow.checkup.checkup", sick)
    answer = edgekd("doctor")
    assert answer.code == 1
    assert re.search(r"PROBLEM +torch +none\n +pip install torch", answer.out)
    assert edgekd("doctor", "--json").code == 1


@pytest.mark.parametrize(
    ("shell", "words"),
    [("bash", "complete -o"), ("zsh", "#compdef edgekd"), ("fish", "complete --no-files")],
)
def test_completion(shell: str, words: str, edgekd: Command) -> None:
    answer = edgekd("completion", shell)
    assert answer.code == 0, answer.err
    assert words in answer.out
    assert "_EDGEKD_COMPLETE" in answer.out
    found = read(edgekd("completion", shell, "--json"))
    assert found == {"shell": shell, "script": answer.out.removesuffix("\n")}


def test_the_shell_completes_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from edgekd.cli import main; import sys; sys.argv = ['edgekd']; main()"
    asked = {"_EDGEKD_COMPLETE": "bash_complete", "COMP_WORDS": "edgekd dist", "COMP_CWORD": "1"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split(",")[-1].strip() == "distill"


def test_what_lies_among_the_users_own_files_is_listed_or_told(
    edgekd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgekd/recipes"
    folder.mkdir(parents=True)
    (folder / "bytes.toml").write_bytes(b"\xff\xfe")
    (folder / "folder.toml").mkdir()
    (folder / "long.toml").write_text("# " + 5000 * "a")
    (folder / "good.toml").write_text("# of mine\n")
    (folder / "circle.toml").symlink_to(folder / "circle.toml")
    os.mkfifo(folder / "pipe.toml")
    answer = edgekd("list", "recipe")
    assert answer.code == 0
    for words in ("of mine", "it is not UTF-8 text", "it is a folder", "it is no plain file"):
        assert words in " ".join(answer.out.split())
    assert 300 * "a" not in "".join(answer.out.split())


@pytest.mark.parametrize(
    "words",
    [
        ["teach", "--teacher", "resnet8"],
        ["run", "--teacher", "resnet14", "--student", "resnet8"],
        ["compare", "--teacher", "TAUGHT", "--student", "resnet8", "--method", "ce"],
        ["export", "TAUGHT"],
    ],
    ids=lambda words: str(words[0]),
)
def test_an_output_that_leads_to_itself(
    words: list[str], edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    data = [] if words[0] == "export" else ["--data", "digits", "--size", "8", "--limit", "100"]
    answer = edgekd(*[str(taught) if w == "TAUGHT" else w for w in words], *data, "-o", loop)
    assert answer.code == 2
    assert "cannot write" in answer.err
    assert "Traceback" not in answer.err
    assert loop.is_symlink()


@pytest.mark.parametrize("more", [[], ["--budget", "p95<=1s"]], ids=["run", "mission"])
def test_a_recipe_with_comments_is_somebodys_own(
    more: list[str], edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    """It is read where it lies; a run's own, which has none, would take its place."""
    words = ["--teacher", taught, "--data", "digits", "--size", "8", "--limit", "100"]
    words += [] if more else ["--student", "resnet8"]
    out = tmp_path / "out"
    out.mkdir()
    plain = edgekd("run", *words, "--print-recipe").out
    for own in (f"# mine\n{plain}", "[train]\nepochs = 1\n"):
        (out / "recipe.toml").write_text(own)
        answer = edgekd("run", out / "recipe.toml", *words, *more, "-o", out)
        assert answer.code == 2
        assert "recipe.toml was not written by a run, and this one would replace it" in answer.err
        assert [file.read_text() for file in out.iterdir()] == [own]


def test_a_compiler_that_fails_is_told_in_a_sentence(
    edgekd: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some optimizers are compiled; where that was killed, PyTorch loads what was half written."""
    from torch._inductor.exc import InductorError

    def fails(*words: object, **settings: object) -> None:
        raise InductorError(ImportError("a.main.so: invalid ELF header"), None)

    monkeypatch.setattr("edgekd.flow.training.teach", fails)
    words = ["--teacher", "resnet8", "--data", "digits", "--size", "8", "--limit", "100"]
    answer = edgekd("teach", *words, "-o", tmp_path / "out")
    assert answer.code == 1
    said = " ".join(answer.err.split())
    assert "PyTorch's compiler failed: ImportError: a.main.so: invalid ELF header" in said
    assert "remove what it left" in said
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("nowhere/t", "there is no nowhere/t. Expected a folder that edgekd teach"),
        (".", ". is not an edgekd artifact: it has no manifest.json"),
        ("torchvision/resnet18", "the teacher torchvision/resnet18 has no weights"),
    ],
)
def test_a_teacher_that_is_none(teacher: str, said: str, edgekd: Command, tmp_path: Path) -> None:
    words = ["--student", "resnet8", "--data", "digits", "--size", "8", "--limit", "100"]
    answer = edgekd("distill", "--teacher", teacher, *words, "-o", tmp_path / "out")
    assert answer.code == 2
    assert said in " ".join(answer.err.split())


def test_weights_of_a_student_that_are_a_pipe(
    edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "f.pth")
    data = ["--data", "digits", "--size", "8", "--limit", "100", "-o", tmp_path / "out"]
    for weights, said in (
        (str(tmp_path / "f.pth"), "is a pipe or a device"),
        (300 * "x", "File name too long. Correct the path"),
    ):
        student = f"resnet8:{weights}"
        answer = edgekd("distill", "--teacher", taught, "--student", student, *data)
        assert answer.code == 2
        assert said in " ".join(answer.err.split())


# ---- codes ----

ERRORS: list[tuple[BaseException, int, str]] = [
    (GateError("too low"), 1, "edgekd: too low"),
    (DeviceError("gone"), 1, "edgekd: gone"),
    (EdgeKDError("what"), 1, "edgekd: what"),
    (DataError("no images"), 2, "edgekd: no images"),
    (
        OSError(5, "Input/output error", "x.png"),
        1,
        "edgekd: x.png: Input/output error. "
        "Look at its path, its permissions and the disk it is on.",
    ),
    (KeyboardInterrupt(), 130, "edgekd: stopped."),
    (
        Interrupted(),
        130,
        "edgekd: stopped. The state is saved: give the same command again to go on.",
    ),
]


@pytest.mark.parametrize(("error", "code", "said"), ERRORS, ids=lambda value: type(value).__name__)
def test_exit_codes(
    error: BaseException, code: int, said: str, edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("edgekd.report.write", fail)
    answer = edgekd("report", ".")
    assert answer.code == code
    assert answer.out == ""
    assert answer.err.strip() == said


def test_a_bug_is_not_hidden(edgekd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("edgekd.report.write", fail)
    with pytest.raises(ZeroDivisionError):
        edgekd("report", ".")


# ---- what profiling loads ----

WITHOUT_TORCH = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from edgekd.cli import main
main()
"""


def test_a_plain_file_is_profiled_without_torch(tmp_path: Path) -> None:
    make: Callable[[Path], Path] = run_path(
        str(Path(__file__).parents[1] / "agent" / "tiny_models.py")
    )["classifier"]
    file = make(tmp_path / "plain.onnx")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "profile", file, "--max-seconds", "0.5", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["timing"]["n"] > 10
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    assert "edgekd" in loaded
    assert not loaded & {"torch", "timm", "torchvision", "accelerate", "sklearn"}
