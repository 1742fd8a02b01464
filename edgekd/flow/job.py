"""Job: one network to train and to leave as an artifact, and what its folder holds of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd import artifact
from edgekd.artifact import Artifact
from edgekd.cards import NAME as CARD
from edgekd.cards import write_card
from edgekd.errors import UsageError
from edgekd.files import check_folder, sweep
from edgekd.flow.choosing import check_table
from edgekd.flow.identity import fingerprint
from edgekd.flow.launch import wrote
from edgekd.loading import Splits
from edgekd.models import Backbone
from edgekd.recipe import Network, Recipe, Train
from edgekd.trainer import RESULT, check, checkpoint
from edgekd.trainer.collective import meet, shared
from edgekd.watching import Watch

METRICS = "training/metrics.jsonl"
PEER = "peer"
"""Folder, in the student's, of who learned beside it."""
STATE = (f"training/{checkpoint.NAME}", f"training/{RESULT}")
"""What an unfinished training leaves, and a finished one does not."""
STAGES = {"teacher": "teach", "student": "distill", "baseline": "baseline"}


@dataclass(frozen=True)
class Job:
    """One network to train and to leave as an artifact."""

    role: str
    network: Network
    train: Train
    table: Mapping[str, Any]
    """Its method, as a recipe holds it."""
    recipe: Recipe
    out: Path
    watch: Watch
    restart: bool
    start: Backbone | None = None
    """The network to go on with, where it is at hand; ``network`` says which one it is."""
    stage: str = ""
    """What a watch is told that is done; empty: what is done for its role."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the artifact says of its training besides."""

    def __post_init__(self) -> None:
        check(self.train, "teach" if self.role == "teacher" else "train")
        check_table(self.table)
        check_folder(self.out)

    @property
    def peer(self) -> Network:
        """Who learns beside it; a name of no letters for nobody."""
        return self.recipe.peer if self.role == "student" else Network("")

    def fingerprint(self, teacher: Backbone | None, splits: Splits) -> str:
        """Hash of all that decides what comes out."""
        data, own = self.recipe.data, (self.role, self.network, self.train, self.table)
        return fingerprint(*own, data, splits, teacher, self.peer)

    def tell(self, done: int, total: int, note: str) -> None:
        """Say how far it is."""
        self.watch.progress(self.stage or STAGES[self.role], done, total, note)

    def finished(self, known: str) -> Artifact | None:
        """The finished artifact of this very training, if it is there.

        Raises:
            UsageError: that of another one is.
        """
        if not shared(meet().is_main and self._settle(known)):
            return None
        self.tell(1, 1, f"already trained, in {self.out}")
        return Artifact.open(self.out)

    def _settle(self, known: str) -> bool:
        """Put away what a killed sitting left; whether the finished artifact is there."""
        sweep(self.out)
        if self.discards or not artifact.is_artifact(self.out):
            return False
        found = Artifact.open(self.out)
        if found.manifest.get("fingerprint") != known:
            raise UsageError(
                f"{self.out} holds a finished {found.manifest['role']} of another recipe or other "
                "data. Choose another --output, or start again with --restart."
            )
        write_card(self.out)  # which a kill may have kept from being written
        self.close()  # where it was killed between the manifest and this
        return True

    @property
    def discards(self) -> bool:
        """Whether what the folder holds is to be thrown away, and was not yet."""
        return self.restart and not wrote(self.out / METRICS)

    def clear(self) -> None:
        """Delete what a training left in the folder; whatever else lies there stays."""
        self._forget(artifact.MANIFEST, CARD, *STATE, METRICS)
        if artifact.is_artifact(self.out / PEER):
            shutil.rmtree(self.out / PEER)

    def close(self) -> None:
        """Delete what only an unfinished training needs."""
        self._forget(*STATE)

    def _forget(self, *names: str) -> None:
        for name in names:
            (self.out / name).unlink(missing_ok=True)
