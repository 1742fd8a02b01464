"""Pinning: a process to some CPUs, given by number or as the big or the little ones."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Set

from edgekd.agent import facts
from edgekd.agent.failures import AgentError

ROOT = Path("/")
ALIKE = 0.1  # groups of the same cores whose strengths are so close are of one kind


def pin(words: str, root: Path = ROOT) -> List[int]:
    """Keep this process, and every thread it starts from now on, on some CPUs.

    Args:
        words: such as ``4-7``, ``0,2``, ``big`` or ``little``; empty leaves it where it is.
        root: of the file system, for tests.

    Returns:
        The CPUs that it may use then, as the system says.

    Raises:
        AgentError: there are no such CPUs, or the system does not let it choose.
    """
    allowed = facts.affinity()
    if not words:
        return allowed
    wanted = choose(words, allowed, root)
    if not hasattr(os, "sched_setaffinity"):
        raise AgentError(
            "job", "this system pins no process to CPUs. Leave the affinity out (--affinity)."
        )
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        raise _not_there(words, wanted, allowed) from error
    return facts.affinity()


def choose(words: str, allowed: Sequence[int], root: Path = ROOT) -> List[int]:
    """The CPUs that are meant, of those that this process may use."""
    if words in ("big", "little"):
        return _kind(words, allowed, root)
    wanted = _numbers(words)
    if not wanted or not set(wanted) <= set(allowed):
        raise _not_there(words, wanted, allowed)
    return wanted


def spans(cpus: Sequence[int]) -> str:
    """``0-3,6`` for people."""
    runs: List[List[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _numbers(words: str) -> List[int]:
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", words):
        return []
    found: Set[int] = set()
    for part in words.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found)


def _kind(words: str, allowed: Sequence[int], root: Path) -> List[int]:
    groups = [
        group for group in facts.clusters(root) if any(cpu in allowed for cpu in group["cpus"])
    ]
    weakest = groups[0] if groups else {}
    known = [_strength(group) for group in groups]
    unlike = [group for group in groups if not _alike(weakest, group)]
    if not unlike or None in known:
        why = "do not say how fast they are" if unlike else "are all alike"
        raise AgentError(
            "job",
            f"the {words} CPUs were asked for, and the CPUs that this process may use "
            f"({spans(allowed)}) {why}. Give numbers (--affinity {allowed[0]}), or leave it out.",
        )
    big = {cpu for group in unlike for cpu in group["cpus"]}
    return [cpu for cpu in allowed if (cpu in big) == (words == "big")]


def _strength(group: Mapping[str, Any]) -> Optional[int]:
    strength: Optional[int] = group["capacity"] or group["max_khz"]
    return strength


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two groups are of one kind: cores of one design may differ a little."""
    a, b = _strength(one) or 0, _strength(other) or 0
    return one["part"] == other["part"] and b <= a * (1 + ALIKE)


def _not_there(words: str, wanted: Sequence[int], allowed: Sequence[int]) -> AgentError:
    missing = spans([cpu for cpu in wanted if cpu not in allowed]) or words
    return AgentError(
        "job",
        f"the CPUs {words} were asked for, and this process may not use {missing}: it may use "
        f"{spans(allowed)}. Ask for some of these (--affinity).",
    )
