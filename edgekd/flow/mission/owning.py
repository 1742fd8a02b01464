"""Owning: which files of a folder a mission left there, and may replace or take away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.artifact import MANIFEST
from edgekd.errors import UsageError
from edgekd.files import sha256
from edgekd.flow.measuring import check_earlier
from edgekd.flow.preflight import SUMMARY
from edgekd.flow.running import PROFILE, Run
from edgekd.flow.scouts import RANKING
from edgekd.schema import RUN, SCOUT
from edgekd.watching import Watch

ARTIFACT, SAMPLES = "artifact", "profile.samples.jsonl"
TEACHER_PROFILE = "profile-teacher.json"
ASKED = "budget_asked"
"""In the summary: a hash of the whole question that it answers, or is about to."""
PUBLISHED = "published"
"""In the summary: the hash of the manifest of what was copied to :data:`ARTIFACT`."""


def summary_in(out: Path) -> dict[str, Any]:
    """What the last run in a folder said; nothing where there was none, or it is damaged.

    Raises:
        UsageError: it is of a newer edgekd.
    """
    return RUN.found(out / SUMMARY)


def check_place(out: Path) -> None:
    """Refuse a folder with files in it that a mission would replace, and did not leave there.

    Raises:
        UsageError: naming them.
    """
    SCOUT.check_place(out / RANKING)
    check_earlier(out / TEACHER_PROFILE)
    foreign = [] if _is_ours(out) else [ARTIFACT]
    if not _is_mission(out):
        foreign += [name for name in (PROFILE, SAMPLES) if (out / name).exists()]
    if foreign:
        raise UsageError(
            f"{out} holds {' and '.join(foreign)}, which no run with a budget left there and this "
            "one would replace. Choose another --output, or move them away."
        )


def withdraw(task: Run) -> None:
    """Leave nothing that looks accepted: it was, under another budget, and lies in its folder.

    It is said which one, unless all is to be thrown away.
    """
    out = task.out
    if _is_ours(out) and (out / ARTIFACT).is_dir():
        kept = _kept(out)
        shutil.rmtree(out / ARTIFACT)
        if not task.restart:
            attempt = f"; its attempt is kept in {kept}" if kept else ""
            task.watch.say(
                f"{out / ARTIFACT} is taken away until the present budget holds{attempt}"
            )
    if _is_mission(out):
        for name in (PROFILE, SAMPLES):
            (out / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Opening:
    """A watch that does something before it first passes on what is said."""

    watch: Watch
    begin: Callable[[], None]

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Pass on."""
        self.watch.progress(stage, done, total, note)

    def say(self, text: str) -> None:
        """Begin, which is to do no harm when it is done again, and pass on."""
        self.begin()
        self.watch.say(text)


def _is_mission(out: Path) -> bool:
    """Whether a folder was one's of a run with a budget."""
    summary = summary_in(out)
    said = any(summary.get(name) for name in ("budget", ASKED, PUBLISHED))
    return said or any(out.glob("*/outcome-*.json"))


def _is_ours(out: Path) -> bool:
    """Whether what is there is nothing, or a copy of an export of this folder."""
    place = out / ARTIFACT
    if not place.exists() and not place.is_symlink():
        return True
    if place.is_symlink() or not (place / MANIFEST).is_file():
        return False
    return sha256(place / MANIFEST) == summary_in(out).get(PUBLISHED) or _kept(out) is not None


def _kept(out: Path) -> Path | None:
    """The folder of the export that the copy was made of, if it is there."""
    found = sha256(out / ARTIFACT / MANIFEST)
    files = sorted(out.glob(f"*/onnx-*/{MANIFEST}"))
    return next((file.parents[1] for file in files if sha256(file) == found), None)
