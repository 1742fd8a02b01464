"""Running trtexec: it may take long, print much, and must not outlive the agent."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Sequence, Tuple

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.trtexec_command import offered
from edgekd.agent.tensorrt.trtexec_log import Version, version_of

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
LOG = "trtexec.log"
HELP_S = 120.0
"""Time to print the help: its libraries are large, and a small board reads them slowly."""
PR_SET_PDEATHSIG = 1  # prctl(2)


def ask(trtexec: str, run: Run = subprocess.run) -> Tuple[Version, FrozenSet[str]]:
    """Its version, and the options that its help lists.

    Raises:
        AgentError: it does not start, or is another program.
    """
    try:
        done = run(
            [trtexec, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HELP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(
            "library",
            f"{trtexec} does not start ({error}). Check that it is NVIDIA's program for this "
            "device and may be executed: trtexec --help",
        ) from error
    text = done.stdout.decode("utf-8", errors="replace")
    return version_of(text), offered(text)


def execute(arguments: Sequence[str], folder: Path, run: Run, timeout_s: float) -> Tuple[int, str]:
    """Run it in ``folder``: its exit code and all it printed, which is kept in LOG.

    Raises:
        AgentError: it cannot be run, or did not finish in time.
    """
    log = folder / LOG
    try:
        with log.open("wb") as sink:
            done = run(
                list(arguments),
                cwd=str(folder),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
                **_dies_with_us(),
            )
    except subprocess.TimeoutExpired as error:
        raise AgentError(
            "crash",
            f"trtexec did not finish within {timeout_s:.0f} s and was stopped; the log is {log}. "
            "A timing cache and a single batch size shorten a build.",
        ) from error
    except OSError as error:
        raise AgentError("library", f"{arguments[0]} cannot be run in {folder}: {error}") from error
    return done.returncode, log.read_text("utf-8", errors="replace")


def _dies_with_us() -> Dict[str, Any]:
    """Have Linux end it when the agent ends: a cut connection must not leave the GPU busy."""
    if not sys.platform.startswith("linux"):
        return {}
    prctl = ctypes.CDLL(None).prctl  # looked up here: little may be done between fork and exec
    return {"preexec_fn": lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)}
