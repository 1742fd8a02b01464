"""What is trained, exported, measured and reported on this machine asks no other one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command

LISTENER = """
import json, os, sys

def hook(event, args):
    file = os.environ.get("EDGEKD_TEST_CALLS")
    if file and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(file, "a") as written:
            written.write(json.dumps([event, repr(args)]) + "\\n")

sys.addaudithook(hook)
"""
"""Writes down each way out of the machine that Python takes; the first thing a process runs."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(LISTENER)
    exec(LISTENER, {})  # and in this process; it cannot be taken away, but does nothing unasked
    return folder


@pytest.fixture
def calls(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], str]]:
    """What was called so far, by this process and those it started."""
    file = tmp_path / "calls"
    monkeypatch.setenv("PYTHONPATH", f"{site}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("EDGEKD_TEST_CALLS", str(file))
    yield lambda: file.read_text() if file.exists() else ""
    monkeypatch.delenv("EDGEKD_TEST_CALLS")


def test_a_mission_leaves_the_network_alone(
    edgekd: Command,
    taught: Path,
    tmp_path: Path,
    calls: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--data", "digits", "--size", "8", "--limit", "100", "--epochs", "1"]
    for words in (
        ["distill", "--teacher", taught, "--student", "resnet8", *small, "-o", "student"],
        ["export", "student", "--onnx", "-o", "file"],
        ["profile", "file", "--max-seconds", "0.2", "-o", "profile.json"],
        ["report", "."],
        ["deploy", "file", "-o", "deployed"],
    ):
        answer = edgekd(*words)
        assert answer.code == 0, answer.err
    assert (tmp_path / "report.html").is_file()
    assert not calls()


def test_a_call_of_this_process_and_of_a_child_would_be_seen(calls: Callable[[], str]) -> None:
    with socket.socket() as here:
        here.connect_ex(("127.0.0.1", 9))
    child = "import socket; socket.socket().connect_ex(('127.0.0.1', 10))"
    subprocess.run([sys.executable, "-c", child], check=True)
    assert [json.loads(line)[0] for line in calls().splitlines()] == ["socket.connect"] * 2
