"""Packages, each in a process of its own: those that load, and every way in which one may not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import packages


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Looks at an ``onnxruntime`` that does what it is told, with no other package beside it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    both = ("onnxruntime", "onnxruntime-gpu")
    monkeypatch.setattr(packages, "PACKAGES", {"onnxruntime": both})

    def look(body: str, *installed: str) -> dict[str, Any]:
        (tmp_path / "onnxruntime.py").write_text(body)
        for package in installed:
            name, _, version = package.partition("==")
            folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
        return packages.look()

    return look


GOOD = "__version__ = '9.9'\ndef get_available_providers(): return ['CPUExecutionProvider']\n"


def test_one_that_loads(fake: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = fake(GOOD, "onnxruntime==9.9.1")
    assert found["onnxruntime"] == {
        "version": "9.9.1",
        "path": str(tmp_path / "onnxruntime.py"),
        "error": None,
        "providers": ["CPUExecutionProvider"],
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "illegal instruction (SIGILL)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ran out of memory"),
        ('raise ImportError("x.so: version `GLIBC_2.99\' not found")', "it wants GLIBC_2.99"),
        ("raise ImportError('/x/y.so: wrong ELF class: ELFCLASS32')", "another kind of CPU"),
        (
            "raise ImportError('libcudnn.so.9: cannot open shared object file: No such file')",
            "needs libcudnn.so.9",
        ),
        ("import nothing_of_that_name", "has no module 'nothing_of_that_name'"),
        ("raise ValueError('numpy.dtype size changed')", "It said: "),
    ],
)
def test_one_that_does_not(fake: Callable[..., dict[str, Any]], body: str, words: str) -> None:
    found = fake(body, "onnxruntime==1.21.0")["onnxruntime"]
    assert found["version"] == "1.21.0"  # known without loading it
    assert found["path"] is None
    assert words in found["error"]


@pytest.mark.parametrize(
    ("body", "version", "words"),
    [
        ("__version__ = '7'", "7", None),
        ("raise ImportError('/x/y.so: wrong ELF class: ELFCLASS32')", None, "another kind of CPU"),
        ("import nothing_of_that_name", None, "has no module 'nothing_of_that_name'"),
    ],
)
def test_one_that_no_package_owns(
    body: str,
    version: str | None,
    words: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As TensorRT's bindings from JetPack may be."""
    (tmp_path / "lonely.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(packages, "PACKAGES", {"lonely": ("lonely-package", "another")})
    found = packages.look()
    assert found["lonely-package"]["version"] == version
    error = found["lonely-package"]["error"]
    assert error is None if words is None else words in error
    assert "another is not installed" in found["another"]["error"]


def test_two_that_overwrite_each_other(fake: Callable[..., dict[str, Any]]) -> None:
    found = fake(GOOD, "onnxruntime==9.9", "onnxruntime-gpu==9.8")
    assert found["onnxruntime-gpu"]["version"] == "9.8"
    (doubt,) = packages.doubts(found)
    assert "each overwrites files of the other" in doubt


def test_a_missing_one_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", {"no_such_module": ("no-such-package",)})
    found = packages.look()["no-such-package"]
    assert (found["version"], found["path"], found["providers"]) == (None, None, [])
    advice = f"{sys.executable} -m pip install 'no-such-package'"
    assert found["error"] == f"no-such-package is not installed. Install it: {advice}"


def test_one_that_hangs(
    fake: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "PATIENCE_S", 0.5)
    found = fake("import time; time.sleep(60)", "onnxruntime==1.0")["onnxruntime"]
    assert "could not be imported within 0.5 s" in found["error"]


def test_no_such_interpreter(tmp_path: Path) -> None:
    found = packages.look(str(tmp_path / "python"))
    assert all("cannot be started" in one["error"] for one in (found["numpy"], found["pillow"]))
