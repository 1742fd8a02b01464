"""Engines by trtexec, for devices that have NVIDIA's program and no Python bindings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import timing
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.trtexec_advice import judge
from edgekd.agent.tensorrt.trtexec_command import Outputs, command, is_typed
from edgekd.agent.tensorrt.trtexec_json import Profile, layers_of, profile_of, times_of
from edgekd.agent.tensorrt.trtexec_log import (
    Summary,
    Version,
    summary_of,
    warnings_of,
)
from edgekd.agent.tensorrt.trtexec_process import LOG, Run, ask, execute

__all__ = ["Built", "Measured", "Outputs", "Version", "ask", "build", "command", "find"]

FOLDERS = ("/usr/src/tensorrt/bin", "/opt/tensorrt/bin")
"""Where NVIDIA's packages put it, which is not on the PATH (JetPack; containers)."""
BUILD_S = 3600.0
UNSHAPED = re.compile(r"Dynamic dimensions required for input: (\S+), but no shapes were provided")


@dataclass(frozen=True)
class Measured:
    """What trtexec measured, on random inputs that lie on the GPU already."""

    summary: Summary
    times: Dict[str, List[float]]
    """Column -> its value for each query; see ``times_of``."""
    profile: Profile


@dataclass(frozen=True)
class Built:
    """An engine, and how it came about."""

    engine: Path
    layers: str
    """What its inspector says of its layers: JSON, for ``inspector.inspect``."""
    seconds: float
    """All of trtexec: start, build, and runs if it was timed."""
    version: Version
    typed: bool
    """Whether the network was strongly typed."""
    timing_cache: str
    """``none``, ``new`` or ``used``."""
    warnings: Tuple[str, ...]
    command: Tuple[str, ...]
    log: Path
    measured: Optional[Measured] = None


def find(path_env: Optional[str] = None) -> Optional[str]:
    """The path of trtexec: on ``path_env`` (the PATH), or where NVIDIA puts it; None if nowhere."""
    path = os.environ.get("PATH", "") if path_env is None else path_env
    found = shutil.which("trtexec", path=os.pathsep.join(filter(None, (path, *FOLDERS))))
    return None if found is None else str(Path(found).absolute())  # it will run in another folder


def build(
    spec: BuildSpec,
    trtexec: str,
    folder: Path,
    run: Run = subprocess.run,
    *,
    timed: bool = False,
    gpu: str = "gpu",
    timeout_s: float = BUILD_S,
) -> Built:
    """Make an engine in ``folder``.

    Args:
        spec: what is wanted.
        trtexec: its path.
        folder: made if need be; holds the engine, the JSON files and the log afterwards.
        run: what runs a program, ``subprocess.run``.
        timed: whether trtexec also measures the engine at the best batch.
        gpu: the GPU's name, part of the name of the timing cache.
        timeout_s: when to give up.

    Raises:
        AgentError: it failed, or wrote no engine; with what it said and what to do.
    """
    version, options = ask(trtexec, run)
    outputs = _outputs(spec, version, gpu, timed)
    arguments = command(trtexec, spec, version, outputs, options)
    _clear(folder, outputs)
    known = outputs.timing_cache is not None and Path(outputs.timing_cache).is_file()
    started = time.perf_counter()
    code, text = execute(arguments, folder, run, timeout_s)
    seconds = time.perf_counter() - started
    _judge(code, text, spec, folder / LOG)
    return Built(
        engine=_written(folder, outputs.engine),
        layers=layers_of(_text(folder, outputs.layers)),
        seconds=seconds,
        version=version,
        typed=is_typed(spec, version, options),
        timing_cache=("used" if known else "new") if outputs.timing_cache else "none",
        warnings=warnings_of(text),
        command=tuple(arguments),
        log=folder / LOG,
        measured=_measured(folder, outputs, text) if timed else None,
    )


def _outputs(spec: BuildSpec, version: Version, gpu: str, timed: bool) -> Outputs:
    times, profile = ("times.json", "profile.json") if timed else (None, None)
    return Outputs(times=times, profile=profile, timing_cache=_cache(spec, version, gpu))


def _cache(spec: BuildSpec, version: Version, gpu: str) -> Optional[str]:
    """The timing cache; none where there is no place for it, which only costs time."""
    if spec.timing_cache is None:
        return None
    release = ".".join(map(str, version))
    file = timing.cache_file(spec.timing_cache.absolute(), release + "-trtexec", gpu)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(file)


def _clear(folder: Path, outputs: Outputs) -> None:
    """What an earlier build left must not pass for what this one makes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (outputs.engine, outputs.layers, outputs.times, outputs.profile):
            if name is not None:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise AgentError(
            "output",
            f"{folder} cannot be written to ({error}). Name a folder on the device that can.",
        ) from error


def _judge(code: int, text: str, spec: BuildSpec, log: Path) -> None:
    judge(code, text, spec, log)
    unshaped = UNSHAPED.search(text)
    if unshaped:
        raise AgentError(
            "input",
            f"{spec.onnx.name} leaves sizes of its input {unshaped.group(1)} free, and trtexec "
            "took 1 for each: such an engine is of no use. Name the sizes (inputs) in the job.",
        )


def _written(folder: Path, name: str) -> Path:
    file = folder / name
    if not file.is_file() or file.stat().st_size == 0:
        raise AgentError(
            "output",
            f"trtexec said PASSED and wrote no {name} in {folder}. Check the free space of the "
            f"disk and the log, {folder / LOG}.",
        )
    return file


def _text(folder: Path, name: str) -> str:
    return _written(folder, name).read_text("utf-8", errors="replace")


def _measured(folder: Path, outputs: Outputs, text: str) -> Measured:
    summary = summary_of(text)
    if summary is None or outputs.times is None or outputs.profile is None:
        raise AgentError(
            "output", f"trtexec printed no performance summary; its log is {folder / LOG}."
        )
    times, profile = times_of(_text(folder, outputs.times)), _text(folder, outputs.profile)
    return Measured(summary, times, profile_of(profile))
