"""The README is true: its commands run, in order, in a folder with a small data set.

Those of edgekd run in forks of one process that has imported it, which saves the seconds that
importing takes each time; what a shell starts is started as a shell does.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.commands import BRIEF
from tests.faults.doomed import Workshop, workshop

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ELSEWHERE = ("make ", "pip install ")
"""Commands that set up what runs this very test; they are read, not run."""
WIDE = {
    "--precision": ["--max-drop", "50%"],
    "edgekd profile": ["--max-seconds", "2"],
    "edgekd compare": ["--epochs", "2"],
    "run --teacher": ["--epochs", "2", "--set", "export.precision=fp32", "--baseline", "none"],
}
"""What is added to a command: a dozen validation images cannot prove that one point is lost, how
well a time is known is not looked at, and nothing is to be learned of noise."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cifar10-jpeg`` in it: coloured noise, a colour a class, as two tars."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "cifar10-jpeg").mkdir()
    for name, count in (("train", 12), ("test", 4)):
        _write_tar(folder / "cifar10-jpeg" / f"{name}.tar", count)
    return folder


def _write_tar(path: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(CLASSES):
            for i in range(count):
                colour = np.array([number * 25, 255 - number * 25, number % 2 * 200])
                pixels = np.clip(draw.normal(colour, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, "JPEG")
                entry = tarfile.TarInfo(f"./{label}/{i:04}.jpg")
                entry.size = data.tell()
                data.seek(0)
                tar.addfile(entry, data)


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as opened:
        yield opened


def homes(folder: Path) -> dict[str, str]:
    tools = str(Path(sys.executable).parent)
    return {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder / "config"),  # devices are added to it
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | homes(folder)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def carried_out(words: list[str], place: Path, shop: Workshop) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    if words[0] == "edgekd":
        ended = shop.run(words[1:], place, env=homes(place), first=BRIEF)
        return ended.code, ended.out, ended.err
    done = run(words, place)
    return done.returncode, done.stdout, done.stderr


def test_every_command_of_the_readme_runs_in_order(place: Path, shop: Workshop) -> None:
    assert len(commands()) >= 8
    for command in commands():
        words, _, target = command.partition(" > ")
        if words.startswith(ELSEWHERE):
            continue
        more = [word for option, added in WIDE.items() if option in words for word in added]
        code, out, said = carried_out([*shlex.split(words), *more], place, shop)
        assert code == 0, f"{command}\n{said}"
        if target:
            (place / target).write_text(out)
    assert (place / "runs" / "report.html").is_file()
    assert "[teacher]" in (place / "mine.toml").read_text()
    assert (place / "config" / "edgekd" / "devices" / "here.toml").is_file()


def test_the_readmes_file_needs_nothing_of_edgekd(place: Path) -> None:
    (code,) = [block for block in blocks("python") if block.startswith("import numpy, onnxruntime")]
    lines = [line for line in code.splitlines() if line]
    assert len(lines) == 3
    assert (place / "runs" / "r8-onnx" / "model.onnx").is_file(), "run the test of the commands too"
    done = run([sys.executable, "-c", f"{code}\nprint(logits.shape)"], place)
    assert done.stdout == "(1, 10)\n", done.stderr


def test_the_readmes_make_targets_exist() -> None:
    for command in commands():
        if command.startswith("make "):
            done = run(["make", "--dry-run", *shlex.split(command)[1:]], ROOT)
            assert done.returncode == 0, done.stderr


def test_the_readmes_python_runs(place: Path) -> None:
    (code,) = [block for block in blocks("python") if block.startswith("import edgekd")]
    done = run([sys.executable, "-c", code], place)
    assert done.returncode == 0, done.stderr


def test_the_readmes_term_is_the_one_on_the_shelf() -> None:
    (code,) = [block for block in blocks("python") if block.startswith("class FitNet")]
    shelf = (ROOT / "edgekd" / "methods" / "fitnet.py").read_text("utf-8")
    body = "\n".join(line for line in code.splitlines() if line.strip())
    plain = re.sub(r'    """Hint-based.*?"""\n\n', "", shelf, flags=re.DOTALL)
    assert body in "\n".join(line for line in plain.splitlines() if line.strip())
