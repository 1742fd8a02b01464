"""A wheel built from the tree holds what it needs and works outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = [sys.executable, "-m", "uv"]


def run(*command: str | Path, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(*UV, "build", "--wheel", "--out-dir", out, ROOT, cwd=out)
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_profiles_and_data_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {path.relative_to(ROOT / "profiles") for path in (ROOT / "profiles").rglob("*.toml")}
    assert shipped
    assert {f"edgekd/_profiles/{path.as_posix()}" for path in shipped} <= names
    assert {"edgekd/profile.schema.json", "edgekd/report/page.html.j2"} <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]


def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    run(*UV, "venv", "--python", sys.executable, fresh, cwd=tmp_path)
    tools = fresh / "bin"
    run(*UV, "pip", "install", "--python", tools / "python", wheel, cwd=tmp_path)
    where = run(tools / "python", "-c", "import edgekd; print(edgekd.__file__)", cwd=tmp_path)
    assert where.startswith(str(fresh))
    assert "digits" in run(tools / "edgekd", "list", "recipe", cwd=tmp_path)
    small = ["--size", "8", "--epochs", "1", "--baseline", "none"]
    settings = ["--set", "teach.epochs=4", "--set", "profile.max_seconds=1"]
    run(tools / "edgekd", "run", *small, *settings, "--output", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "report.html").is_file()
