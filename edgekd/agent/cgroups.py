"""Control groups: how much of the CPU a container may use, and how often it was stopped for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from edgekd.agent.system import read


def cpu_limit(root: Path) -> Optional[float]:
    """CPUs' worth of time the process may use; None where there is no limit."""
    quota, _, period = (_file(root, "cpu.cfs_quota_us", "cpu.max") or "").partition(" ")
    if not period:  # version 1 has a file for each
        period = _file(root, "cpu.cfs_period_us", "cpu.max") or ""
    limited = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if limited else None


def quota_stops(root: Path) -> Optional[int]:
    """Periods in which the quota ran out and the process stood still."""
    stat = _file(root, "cpu.stat", "cpu.stat") or ""
    found = re.search(r"^nr_throttled (\d+)$", stat, re.MULTILINE)
    return int(found.group(1)) if found else None


def container(root: Path) -> Optional[str]:
    """The kind of container around the process, if any shows."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    found = re.search(r"docker|kubepods|lxc|containerd", read(root / "proc/1/cgroup") or "")
    return found.group(0) if found else None


def _file(root: Path, name_v1: str, name_v2: str) -> Optional[str]:
    """A control file of the CPU controller, from the process's own group up to the root."""
    own = read(root / "proc/self/cgroup") or ""
    for controllers, path in re.findall(r"^\d+:([^:]*):(.*)$", own, re.MULTILINE):
        v1 = "cpu" in controllers.split(",")
        if not v1 and controllers:
            continue
        base = root / ("sys/fs/cgroup/cpu" if v1 else "sys/fs/cgroup")
        group = path.strip("/")
        while True:
            text = read(base / group / (name_v1 if v1 else name_v2))
            if text is not None or not group:
                break
            group = group.rpartition("/")[0]
        if text is not None:
            return text
    return None
