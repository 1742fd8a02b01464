"""What sets a device's frequencies: its cores' governors, and a Jetson's ``jetson_clocks``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Mapping

from edgekd.agent.failures import AgentError
from edgekd.agent.system import read

GOVERNORS = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
FIXED = "performance"
PATIENCE_S = 60.0


def changeable(root: Path) -> Dict[str, str]:
    """Each core's governor by its file, once all of them were found to be this user's to change.

    Raises:
        AgentError: there are none, or they cannot be changed; with how to allow it.
    """
    found = {str(file): read(file) or "" for file in sorted(root.glob(GOVERNORS))}
    if not found:
        raise AgentError(
            "clocks",
            "the clocks cannot be fixed: this device shows no CPU frequency governor "
            f"({root / GOVERNORS}). A virtual machine's clocks are its host's. "
            "Leave --lock-clocks out.",
        )
    for name in found:
        known = read(Path(name).with_name("scaling_available_governors"))
        if known is not None and FIXED not in known.split():
            raise AgentError(
                "clocks",
                f"the clocks cannot be fixed: {name} knows {known}, not {FIXED}. "
                "Leave --lock-clocks out.",
            )
    locked = [name for name in found if not os.access(name, os.W_OK)]
    if locked:
        raise AgentError(
            "clocks",
            f"the clocks cannot be fixed: this user may not write {locked[0]}. Allow it until the "
            f"next start: sudo chmod a+w {root / GOVERNORS}; or reach the device as root; or leave "
            "--lock-clocks out.",
        )
    if has_jetson_clocks() and os.geteuid() != 0:
        raise AgentError(
            "clocks",
            "the clocks cannot be fixed: jetson_clocks needs root. Reach the device as root, or "
            "run sudo jetson_clocks there yourself and leave --lock-clocks out.",
        )
    return found


def fix(governors: Mapping[str, str]) -> None:
    """Set each of these files to :data:`FIXED`.

    Raises:
        AgentError: one does not take it.
    """
    for name in governors:
        try:
            Path(name).write_text(FIXED)
        except OSError as error:
            raise AgentError("clocks", f"{name} does not take {FIXED}: {error}.") from error
        found = read(Path(name))
        if found != FIXED:
            raise AgentError(
                "clocks", f"{name} was set to {FIXED} and says {found}. Leave --lock-clocks out."
            )


def set_back(governors: Mapping[str, str]) -> List[str]:
    """Write what was there before; what did not work, as parts of a sentence."""
    failed = []
    for name, value in governors.items():
        try:
            Path(name).write_text(value)
        except OSError as error:
            failed.append(f"{name} does not take {value} ({error})")
    return failed


def has_jetson_clocks() -> bool:
    """Whether this is a Jetson with NVIDIA's own program for it."""
    return shutil.which("jetson_clocks") is not None


def jetson_clocks(*options: str) -> None:
    """Run it: without options it fixes all clocks, with ``--store FILE`` it only notes them.

    Raises:
        AgentError: it failed; with what it said.
    """
    argv = [shutil.which("jetson_clocks") or "jetson_clocks", *options]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise AgentError("clocks", f"{' '.join(argv)} failed: {error}.") from error
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", errors="replace").strip()[-300:]
        raise AgentError(
            "clocks", f"{' '.join(argv)} failed with exit code {done.returncode}: {said}"
        )
