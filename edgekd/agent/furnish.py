"""The task ``furnish``: a virtual environment out of wheels that were sent; no internet, no pip.

The job's ``furnish`` says ``wheels`` (addresses), ``name`` (of the environment's folder),
``system`` (whether it sees the system's own packages: TensorRT is one of them) and ``imports``
(modules that have to load in it). It is built aside and renamed, so that it is there whole or not
at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Mapping, Optional, Sequence

from edgekd.agent import facts
from edgekd.agent.children import Stage
from edgekd.agent.failures import AgentError, Crash, explain

PATIENCE_S = 300.0  # for an import: minutes on a slow SD card or under emulation
LIBRARIES = ("purelib", "platlib")  # of what may lie in a wheel's folder NAME.data, all a module is
ASIDE = ".edgekd-venv-"
"""How a folder begins in which an environment is made: what a run that died left of it goes."""
LEAST_LEFT = 50 * 2**20  # bytes of the disk that are left alone
DAMAGED = (  # the last two: compressed in a way that is not known, encrypted
    zipfile.BadZipFile,
    zlib.error,
    FileNotFoundError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
PROBE = """import importlib, json, sys
modules = [importlib.import_module(name) for name in sys.argv[1:]]
versions = {module.__name__: str(getattr(module, "__version__", "?")) for module in modules}
print("\\n" + json.dumps(versions))
"""


def furnish(stage: Stage) -> Dict[str, Any]:
    """Make the environment, or take the one that is there and works.

    Returns:
        ``python`` (its path) and ``versions`` (of what was imported in it).

    Raises:
        AgentError: Python's venv module is missing, the disk is full or read-only, a wheel is none
            or reaches outside, or the runtime cannot be imported.
    """
    plan = stage.job["furnish"]
    folder = stage.path.resolve().parent
    wheels = [folder / str(address) for address in plan["wheels"]]
    final = folder / _plain(str(plan["name"]))
    imports = [str(name) for name in plan["imports"]]
    try:
        versions = _kept(final, imports)
        if versions is None:
            versions = _build(final, wheels, imports, system=bool(plan["system"]))
    except OSError as error:
        raise AgentError(
            "disk",
            f"cannot write into {folder}: {error.strerror or error}. Free some space, or give "
            "another folder (edgekd device add --folder).",
        ) from error
    return {"python": str(final / "bin/python"), "versions": versions}


def _kept(final: Path, imports: Sequence[str]) -> Optional[Dict[str, str]]:
    """What an environment of an earlier time has, if it still works."""
    try:
        return _try(final, imports) if (final / "bin/python").exists() else None
    except AgentError:
        return None


def _build(
    final: Path, wheels: Sequence[Path], imports: Sequence[str], *, system: bool
) -> Dict[str, str]:
    for left in final.parent.glob(f"{ASIDE}*"):  # nobody else is at it: this is a turn
        shutil.rmtree(str(left), ignore_errors=True)
    _check_room(wheels)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=str(final.parent)))
    try:
        draft = aside / final.name
        _make(draft, system=system)
        (site,) = draft.glob("lib/python3.*/site-packages")
        for wheel in wheels:
            unpack(wheel, site)
        versions = _try(draft, imports)
        if final.exists():  # one that did not work
            final.rename(aside / "replaced")
        draft.rename(final)
        return versions
    finally:
        shutil.rmtree(str(aside), ignore_errors=True)


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel into ``site-packages``; its scripts and headers are left out.

    Raises:
        AgentError: it is no wheel, or holds a path that leaves the folder.
    """
    try:
        with zipfile.ZipFile(str(wheel)) as archive:
            for entry in archive.infolist():
                target = _target(wheel, entry.filename)
                if target is None or entry.is_dir():
                    continue
                path = site / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except DAMAGED as error:
        raise AgentError("job", f"{wheel.name} is not a wheel: {error}. Send it again.") from error


def _target(wheel: Path, name: str) -> Optional[PurePosixPath]:
    """Where in ``site-packages`` an entry goes; None for what is not needed."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
        raise AgentError(
            "job", f"{wheel.name} holds {name!r}, which leaves the folder; nothing of it was kept."
        )
    if len(parts.parts) < 3 or not parts.parts[0].endswith(".data"):
        return parts
    return PurePosixPath(*parts.parts[2:]) if parts.parts[1] in LIBRARIES else None


def _make(draft: Path, *, system: bool) -> None:
    """``venv --without-pip``: pip would need the internet, or wheels that Debian leaves out."""
    options = ["--system-site-packages"] if system else []
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", *options, str(draft)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_own_environment(),
    )
    if made.returncode != 0:
        said = made.stdout.decode("utf-8", errors="replace").strip()[-300:]
        version = ".".join(map(str, sys.version_info[:2]))
        raise AgentError(
            "module",
            f"Python {version} at {sys.executable} cannot make a virtual environment. Install what "
            f"it lacks: sudo apt install python3-venv (or python{version}-venv). It said: {said}",
        )
    for script in draft.glob("bin/[Aa]ctivate*"):  # they name the folder it was made in
        script.unlink()


def _try(environment: Path, imports: Sequence[str]) -> Dict[str, str]:
    """Versions of modules, imported in a child: that a runtime crashes has to be a sentence."""
    before = facts.free_bytes()
    python = environment / "bin/python"
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", PROBE, *imports],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        what = " and ".join(imports)
        raise AgentError(
            "crash", f"{what} could not be imported within {PATIENCE_S:g} s."
        ) from None
    if done.returncode == 0:
        versions: Mapping[str, str] = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
        return dict(versions)
    said = done.stderr.decode("utf-8", errors="replace")
    runtime = "ort" if "onnxruntime" in imports else imports[-1]
    raise explain(Crash(done.returncode, said, "its import", runtime, facts.cpu_model(), before))


def _check_room(wheels: Sequence[Path]) -> None:
    """Refuse before anything is written, not when the disk of a device is full."""
    needed = 0
    for wheel in wheels:
        try:
            with zipfile.ZipFile(str(wheel)) as archive:
                needed += sum(entry.file_size for entry in archive.infolist())
        except DAMAGED as error:
            raise AgentError("job", f"{wheel.name} is not a wheel: {error}.") from error
    free = shutil.disk_usage(str(wheels[0].parent)).free if wheels else LEAST_LEFT
    if free < needed + LEAST_LEFT:
        raise AgentError(
            "disk",
            f"the environment takes {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free. Free "
            "some space, or give another folder (edgekd device add --folder).",
        )


def _plain(name: str) -> str:
    if not name or name.startswith(".") or {"/", "\\", os.sep} & set(name):
        raise AgentError("job", f"the environment's name is {name!r}; expected a file's name.")
    return name


def _own_environment() -> Dict[str, str]:
    """Without what would make another Python's packages part of this one."""
    dropped: List[str] = ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"]
    return {key: value for key, value in os.environ.items() if key not in dropped}
