"""Who is who where a folder holds several students: the one that was taken, and the attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgekd.report.view import EXPORTED, ArtifactView, count, dig, listed

ACCEPTED = "artifact"
"""The folder with the copy of the export that a budget accepted."""
STUDENT, ATTEMPT = "student", "attempt"

Content = Mapping[str, Any]


def settled(
    artifacts: Sequence[ArtifactView], run: Content, compare: Content
) -> tuple[ArtifactView, ...]:
    """The artifacts as they stand in this folder; those of old folders stay as they are."""
    budget = run.get("budget")
    taken = _taken(artifacts, budget)
    keys, runs = _attempts(budget), _runs(compare)
    found = []
    for artifact in artifacts:
        key = keys.get(artifact.path.split("/")[0])
        if key and artifact.role == STUDENT and artifact.sha256 not in taken:
            artifact = replace(artifact, standing=ATTEMPT, called=key)
        elif artifact.path in runs:
            artifact = replace(artifact, called=runs[artifact.path])
        found.append(artifact)
    return tuple(found)


def training_name(parts: Sequence[str], run: Content, compare: Content) -> str:
    """Whose training lies in a folder where its last name does not say it; else nothing.

    Args:
        parts: names of the folders from the run's, without ``training``.
        run: what ``run.json`` holds.
        compare: what ``compare.json`` holds.
    """
    budget = run.get("budget")
    key = _attempts(budget).get(parts[0]) if parts else None
    if key and parts[-1] == STUDENT:
        return STUDENT if key == dig(budget, "best") else key
    return _runs(compare).get("/".join(parts), "")


def _attempts(budget: Any) -> dict[str, str]:
    """The key of each attempt by its folder."""
    found = {}
    for attempt in listed(dig(budget, "attempts")):
        key = str(dig(attempt, "key") or "")
        folder = str(dig(attempt, "folder") or key)
        if key:
            found[folder.rstrip("/").rpartition("/")[2]] = key
    return found


def _runs(compare: Content) -> dict[str, str]:
    """Method and seed of each training of a comparison, by its folder."""
    found = {}
    for method in listed(compare.get("methods")):
        for run in listed(dig(method, "runs")):
            seed, folder = count(dig(run, "seed")), str(dig(run, "folder") or "")
            name = str(dig(method, "method") or "a method")
            found[folder] = name if seed is None else f"{name}, seed {seed}"
    return found


def _taken(artifacts: Sequence[ArtifactView], budget: Any) -> set[str]:
    """Hashes of the export that was accepted, or came nearest, and of its network."""
    copies = [a for a in artifacts if a.path == ACCEPTED and a.kind in EXPORTED]
    copies = copies or _nearest(artifacts, budget)
    return {a.sha256 for a in copies} | {a.parent for a in copies}


def taken_attempt(budget: Any) -> Content | None:
    """The attempt that was accepted, or came nearest: several of one student share a key."""
    best, ruled = dig(budget, "best"), dig(budget, "rulings")
    tried = [a for a in listed(dig(budget, "attempts")) if best and dig(a, "key") == best]
    held = [a for a in tried if dig(a, "state") == "holds"]
    same = [a for a in tried if ruled and dig(a, "rulings") == ruled]
    return next(iter([*held, *same, *tried[::-1]]), None)


def _nearest(artifacts: Sequence[ArtifactView], budget: Any) -> list[ArtifactView]:
    found = taken_attempt(budget)
    if found is None:
        return []
    folder = str(found.get("folder") or found.get("key")).rstrip("/").rpartition("/")[2]
    inside = [a for a in artifacts if a.path.split("/")[0] == folder and a.role == STUDENT]
    exports = [a for a in inside if a.kind in EXPORTED]
    asked = [a for a in exports if a.path == f"{folder}/onnx-{found.get('precision')}"]
    return asked or exports or inside
