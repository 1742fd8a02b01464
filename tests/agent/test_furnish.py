"""The task furnish: an environment out of wheels, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import furnish as module
from edgekd.agent.children import Stage
from edgekd.agent.failures import AgentError
from edgekd.agent.furnish import furnish, unpack

MODULES = {"numpy": "1.0", "onnxruntime": "2.0"}


def wheel(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """A file that is unpacked as a wheel is."""
    made = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made


def stage(folder: Path, wheels: Mapping[str, str], **more: Any) -> Stage:
    """A job whose wheels hold one module each, with this source."""
    places = [
        wheel(folder, name, {f"{name}/__init__.py": text}).name for name, text in wheels.items()
    ]
    plan = {"wheels": places, "name": "venv-1", "system": False, "imports": list(wheels), **more}
    return Stage(folder / "job.json", {"furnish": plan}, {}, lambda event: None)


def versioned(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: f"__version__ = '{version}'\n" for name, version in versions.items()}


def test_an_environment_is_made_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage(tmp_path, versioned(MODULES))
    made = furnish(job)
    assert made == {"python": str(tmp_path / "venv-1/bin/python"), "versions": MODULES}
    code = "import sys, numpy; print(sys.prefix, numpy.__file__)"
    said = subprocess.run([made["python"], "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == str(tmp_path / "venv-1")
    assert said.stdout.split()[1].startswith(str(tmp_path / "venv-1/lib"))
    assert not list((tmp_path / "venv-1/bin").glob("[Aa]ctivate*"))  # they name another folder
    assert not list(tmp_path.glob(f"{module.ASIDE}*"))
    monkeypatch.setattr(module, "_build", None)
    assert furnish(job) == made


def test_what_a_run_that_was_killed_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{module.ASIDE}x" / "venv-1"
    left.mkdir(parents=True)
    furnish(stage(tmp_path, versioned(MODULES)))
    assert not left.parent.exists()


def test_a_wheel_whose_data_is_damaged_is_refused(tmp_path: Path) -> None:
    """Its list of files is whole, and what it has of them is not."""
    place = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "x" * 5000)
    data = bytearray(place.read_bytes())
    data[34] ^= 0xFF  # the first byte behind the entry's header and name
    place.write_bytes(data)
    with pytest.raises(AgentError, match=r"a-1\.0\S+ is not a wheel: .*Send it again"):
        unpack(place, tmp_path / "site")


def test_one_that_does_not_work_any_more_is_replaced(tmp_path: Path) -> None:
    job = stage(tmp_path, versioned(MODULES))
    furnish(job)
    for folder in (tmp_path / "venv-1").glob("lib/python3.*/site-packages/numpy"):
        shutil.rmtree(folder)
    assert furnish(job)["versions"] == MODULES


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("import os; os.kill(os.getpid(), 4)", "crash", r"illegal instruction .*does not run on"),
        ("import os; os.kill(os.getpid(), 9)", "memory", "ran out of memory"),
        ("import nothing_there", "module", "no module 'nothing_there'"),
    ],
)
def test_a_runtime_that_cannot_be_imported_leaves_nothing(
    source: str, kind: str, says: str, tmp_path: Path
) -> None:
    job = stage(tmp_path, {"numpy": "", "onnxruntime": source})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AgentError, match=says) as caught:
        furnish(job)
    assert caught.value.kind == kind
    assert sorted(tmp_path.iterdir()) == before


def test_an_import_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    with pytest.raises(AgentError, match=r"numpy could not be imported within 0\.5 s"):
        furnish(stage(tmp_path, {"numpy": "import time; time.sleep(60)"}))


@pytest.mark.parametrize(
    "path", ["../a.py", "/a.py", "a/../../b.py", "..\\a.py", "C:\\a.py", "numpy/../../../x"]
)
def test_a_path_that_leaves_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "deep/site").mkdir(parents=True)
    bad = wheel(tmp_path, "bad", {path: "x = 1"})
    with pytest.raises(AgentError, match="leaves the folder"):
        unpack(bad, tmp_path / "deep/site")
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [bad]


def test_libraries_of_a_data_folder_are_unpacked_and_scripts_are_not(tmp_path: Path) -> None:
    files = {
        "a/__init__.py": "",
        "a-1.0.data/purelib/b.py": "b",
        "a-1.0.data/platlib/c/d.py": "d",
        "a-1.0.data/scripts/run": "#!",
        "a-1.0.dist-info/METADATA": "Name: a",
    }
    unpack(wheel(tmp_path, "a", files), tmp_path / "site")
    found = {f.relative_to(tmp_path / "site").as_posix() for f in tmp_path.rglob("site/**/*.*")}
    assert {name for name in found if "." in name.rsplit("/", 1)[-1]} == {
        "a/__init__.py", "b.py", "c/d.py", "a-1.0.dist-info",
    }  # fmt: skip
    assert not (tmp_path / "site/run").exists()
    assert (tmp_path / "site/a-1.0.dist-info/METADATA").read_text() == "Name: a"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", None])
def test_what_is_no_wheel_is_refused(content: bytes | None, tmp_path: Path) -> None:
    job = stage(tmp_path, versioned(MODULES))
    place = tmp_path / "numpy-1.0-py3-none-any.whl"
    place.unlink()
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(AgentError, match=r"numpy-1\.0\S+ is not a wheel"):
        furnish(job)


@pytest.mark.parametrize("name", ["", "../venv", ".venv", "a/b"])
def test_a_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="expected a file's name"):
        furnish(stage(tmp_path, versioned(MODULES), name=name))


def test_a_disk_without_room_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage(tmp_path, versioned(MODULES))
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AgentError, match=r"takes 0 MB and 1 MB are free") as caught:
        furnish(job)
    assert caught.value.kind == "disk"
    assert not (tmp_path / "venv-1").exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(AgentError, match=r"cannot write into .*Read-only file system"):
        furnish(stage(tmp_path, versioned(MODULES)))


def test_a_python_without_venv_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named venv'; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(AgentError, match=r"sudo apt install python3-venv.*No module named venv"):
        furnish(stage(tmp_path, versioned(MODULES)))


def test_packages_of_another_python_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/onnxruntime.py").write_text("__version__ = 'elsewhere'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    job = stage(tmp_path, versioned({"numpy": "1.0"}), imports=["numpy", "onnxruntime"])
    with pytest.raises(AgentError, match="onnxruntime"):
        furnish(job)


def test_the_systems_own_packages_are_seen_only_where_asked_for(tmp_path: Path) -> None:
    furnish(stage(tmp_path, versioned({"numpy": "1.0"}), system=True))
    assert "include-system-site-packages = true" in (tmp_path / "venv-1/pyvenv.cfg").read_text()
    furnish(stage(tmp_path, versioned({"numpy": "1.0"}), name="venv-2"))
    assert "include-system-site-packages = false" in (tmp_path / "venv-2/pyvenv.cfg").read_text()
