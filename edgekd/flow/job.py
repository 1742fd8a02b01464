"""Job: one network to train and to leave as an artifact, and what its folder holds of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd import artifact
from edgekd.artifact import Artifact
from edgekd.cards import NAME as CARD
from edgekd.cards import write_card
from edgekd.errors import UsageError
from edgekd.files import check_folder, sweep, write_text
from edgekd.flow.asked import changed
from edgekd.flow.choosing import check_table
from edgekd.flow.identity import earlier, fingerprint
from edgekd.flow.launch import wrote
from edgekd.hiding import hidden, is_hidden
from edgekd.loading import Splits, check_apart
from edgekd.models import Backbone
from edgekd.recipe import Data, Network, Recipe, Train
from edgekd.schema import MANIFEST
from edgekd.trainer import RESULT, check, checkpoint
from edgekd.trainer.collective import meet, shared
from edgekd.trainer.metrics import is_curve
from edgekd.watching import Watch

METRICS = "training/metrics.jsonl"
PEER = "peer"
"""Folder, in the student's, of who learned beside it."""
STATE = (f"training/{checkpoint.NAME}", f"training/{RESULT}")
"""What an unfinished training leaves, and a finished one does not."""
CLEARED = (artifact.MANIFEST, CARD, *STATE)
"""What goes before a training is begun anew, beside the peer."""
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
        if is_hidden(str(self.out)):
            raise UsageError(
                f"{self.out} is what an artifact says in place of a folder, and not known on this "
                "machine. Name the folder."
            )
        check_folder(self.out)
        check_apart(self.out, self.recipe.data.source)
        MANIFEST.check_place(self.out / artifact.MANIFEST)
        if self.peer.name or self.peer.weights:
            self._check_peer()
        self._check_spared()

    def _check_spared(self) -> None:
        """Refuse to throw away what the training is to begin with, or to learn from."""
        for given in (self.network.weights, self.recipe.teacher.weights, self.peer.weights):
            if self.restart and given not in ("", "pretrained") and self._loses(Path(given)):
                raise UsageError(
                    f"{given} is to be read, and lies in {self.out}, which --restart would clear. "
                    "Choose another --output."
                )

    def _check_peer(self) -> None:
        """Refuse a folder for who learns beside it that holds something else."""
        file = self.out / PEER / artifact.MANIFEST
        MANIFEST.check_place(file)
        role = MANIFEST.found(file).get("role", "peer")
        if role != "peer":
            raise UsageError(
                f"{file.parent} holds a {role}, and the peer goes there. Choose another --output."
            )

    def _loses(self, given: Path) -> bool:
        """Whether it is what :meth:`clear` deletes, or the weights that the new ones replace.

        It may be the tag of published weights as well, and then is no file.
        """
        out = Path(os.path.realpath(self.out))
        with suppress(OSError):  # a name longer than any
            found = Path(os.path.realpath(given))
            own = {out, *(out / name for name in (*CLEARED, artifact.MODEL_FILES["network"]))}
            return given.exists() and (found in own or found.is_relative_to(out / PEER))
        return False

    def check_room(self) -> None:
        """Refuse to replace files of others', where nothing tells that the folder is a training's.

        Raises:
            UsageError: it holds some.
        """
        curve = self.out / METRICS  # which comes first, and stays
        there = [name for name in (*STATE, METRICS) if os.path.lexists(self.out / name)]
        if not there:
            artifact.check_room(self.out)
        elif artifact.is_artifact(self.out) or is_curve(curve):
            return
        elif checkpoint.fingerprint_of(self.out / STATE[0]) is None:
            raise UsageError(
                f"{curve.parent} holds files of names that a training has, and that none of "
                "edgekd's left; they would be lost. Move them away, or choose another --output."
            )

    @property
    def peer(self) -> Network:
        """Who learns beside it; a name of no letters for nobody."""
        return self.recipe.peer if self.role == "student" else Network("")

    def fingerprint(self, teacher: Backbone | None, splits: Splits) -> str:
        """Hash of all that decides what comes out."""
        return fingerprint(*self._deciding, splits, teacher, self.peer)

    def known(self, teacher: Backbone | None, splits: Splits) -> str:
        """The same, in the words of the edgekd that began it, where the folder holds this training.

        Earlier releases gave it another hash.
        """
        own = self.fingerprint(teacher, splits)
        held = shared(self._held() if meet().is_main else None)
        if held in (None, own) or held not in earlier(*self._deciding, splits, teacher, self.peer):
            return own
        return str(held)

    @property
    def _deciding(self) -> tuple[str, Network, Train, Mapping[str, Any], Data]:
        return self.role, self.network, self.train, self.table, self.recipe.data

    def _held(self) -> str | None:
        """The hash of what the folder holds, finished or not; None where that is nothing."""
        if self.discards:
            return None
        if artifact.is_artifact(self.out):
            return str(artifact.read_manifest(self.out).get("fingerprint"))
        return checkpoint.fingerprint_of(self.out / STATE[0])

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
            apart = ""
            if found.manifest["role"] == self.role:
                asked = hidden(self.recipe.to_dict())
                apart = changed(self.role, found.manifest["recipe"], asked)
            raise UsageError(
                f"{self.out} holds a finished {found.manifest['role']} of another recipe or other "
                f"data, or of an edgekd that told trainings apart otherwise.{apart} Choose another "
                "--output, or start again with --restart."
            )
        write_card(self.out)  # which a kill may have kept from being written
        self.close()  # where it was killed between the manifest and this
        return True

    @property
    def discards(self) -> bool:
        """Whether what the folder holds is to be thrown away, and was not yet."""
        return self.restart and not wrote(self.out / METRICS)

    def clear(self) -> None:
        """Delete what a training left in the folder; whatever else lies there stays.

        An empty curve says, if this is cut off, whose the files are that the next one replaces.
        """
        write_text(self.out / METRICS, "")
        self._forget(*CLEARED)
        if MANIFEST.found(self.out / PEER / artifact.MANIFEST).get("role") == "peer":
            shutil.rmtree(self.out / PEER)

    def close(self) -> None:
        """Delete what only an unfinished training needs."""
        self._forget(*STATE)

    def _forget(self, *names: str) -> None:
        for name in names:
            (self.out / name).unlink(missing_ok=True)
