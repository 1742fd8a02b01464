"""What answering costs: help, lists and the bare package load none of the heavy packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import edgekd
from edgekd.cli import FLOW

HEAVY = {
    "accelerate",
    "numpy",
    "onnx",
    "onnxruntime",
    "PIL",
    "plotly",
    "rich",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
}
ASKED = [
    ["--help"],
    ["--version"],
    ["list", "method"],
    ["list", "dataset"],
    *([str(verb.name), "--help"] for verb in FLOW),
]
AT_EXIT = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
"""
CLI = f"{AT_EXIT}\nfrom edgekd.cli import main\nmain()"


WRONG = [
    [verb, *wrong]
    for verb in ("run", "scout")
    for wrong in (["--budget", "p95<30ms"], ["--budget", "p95<=9ms", "--sizes", "7"])
]


def run(code: str, *arguments: str, expected: int = 0) -> tuple[str, set[str]]:
    """What a fresh Python prints, and the packages it has loaded at the end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == expected, done.stderr
    modules = json.loads(done.stderr.splitlines()[-1])
    return done.stdout, {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("arguments", ASKED, ids=" ".join)
def test_the_command_line_answers_without_heavy_packages(arguments: list[str]) -> None:
    printed, loaded = run(CLI, *arguments)
    assert printed.strip()
    assert "click" in loaded  # it is the command line that was asked
    assert not loaded & HEAVY


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_budget_is_refused_before_a_heavy_package_is_loaded(arguments: list[str]) -> None:
    _, loaded = run(CLI, *arguments, expected=2)
    assert "click" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", ["edgekd", "edgekd.agent", "edgekd.recipe", "edgekd.artifact"])
def test_a_light_module_imports_no_heavy_package(module: str) -> None:
    _, loaded = run(f"{AT_EXIT}\nimport {module}")
    assert "edgekd" in loaded
    assert not loaded & HEAVY


def test_a_heavy_package_would_be_seen() -> None:
    _, loaded = run(f"{AT_EXIT}\nimport numpy, PIL")
    assert loaded >= {"numpy", "PIL"}


def test_the_package_offers_the_verbs_of_the_flow() -> None:
    from edgekd.flow import exporting, measuring, running, training

    assert edgekd.teach is training.teach
    assert edgekd.distill is training.distill
    assert edgekd.export_network is exporting.export_network
    assert edgekd.profile is measuring.measure
    assert edgekd.run is running.run


def test_the_package_names_an_attribute_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="module 'edgekd' has no attribute 'nothing'"):
        _ = edgekd.nothing


def test_a_mission_is_imported_before_anything_is_drawn() -> None:
    """Who stops it meanwhile has the cursor."""
    code = (
        "import os, sys\nfrom edgekd.cli import _screen, main\ndef draw(screen):\n"
        "    print(*sys.modules, sep='\\n', flush=True)\n    os._exit(0)\n"
        "_screen.Screen.__enter__ = draw\nmain()\n"
    )
    command = [sys.executable, "-c", code, "run", "--budget", "p95<=9ms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "edgekd.flow.mission.accomplishing" in done.stdout.splitlines()
