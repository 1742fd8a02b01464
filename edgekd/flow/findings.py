"""Findings: what a device said about a model, held against the float network, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from edgekd import intervals
from edgekd.cards import write_card
from edgekd.errors import EdgeKDError
from edgekd.flow.disagreeing import disagreements
from edgekd.flow.gallery import Gallery, Shown
from edgekd.flow.proving import keep
from edgekd.flow.references import Reference
from edgekd.watching import Watch


@dataclass(frozen=True)
class Found:
    """What was found of one model on one device."""

    path: Path
    """As it was given: an artifact's folder, or a file."""
    record: dict[str, Any]
    predictions: Sequence[int] | None
    """The class of each test image, where there are any."""
    answers: Sequence[Sequence[float]] | None
    """The logits of the first image of each input that was timed."""
    shown: Shown | None
    """The test images."""


def judge(
    found: Found,
    others: Sequence[Found],
    reference: Reference,
    gallery: Gallery,
    watch: Watch,
) -> None:
    """Complete a record's accuracy: paired with the reference, and where the two differ."""
    if found.predictions is None or found.shown is None:
        return
    against = reference.predictions
    if reference.model is not None:
        same = [each.predictions for each in others if each.path == reference.model]
        against = same[0] if same else None
    missing = "" if against is not None else reference.missing or "its fp32 export was not measured"
    if missing:
        watch.say(f"{found.path.name}: no accuracy delta against the float network: {missing}.")
    truth = [int(target) for target in found.shown.read().targets]
    found.record["accuracy"] |= intervals.accuracy(found.predictions, truth, against)
    found.record["accuracy"]["disagreements"] = disagreements(
        found.predictions, against, gallery, found.shown
    )


class Proofs(Enum):
    """Whether what was found is kept in the artifact's folder."""

    NONE = "none"
    OPTIONAL = "optional"  # a measurement is no worse without one
    REQUIRED = "required"


def prove(found: Found, device: str, gallery: Gallery | None, watch: Watch, proofs: Proofs) -> None:
    """Keep the proof in an artifact's folder; where it cannot be, say so, or raise that."""
    if proofs is Proofs.NONE or not found.path.is_dir():
        return
    try:
        keep(
            found.path,
            device,
            found.record,
            None if gallery is None else asdict(gallery.data),
            None if found.shown is None else found.shown.sha256,
            found.predictions,
            found.answers,
        )
        write_card(found.path)
    except EdgeKDError as error:
        if proofs is Proofs.REQUIRED:
            raise
        watch.say(f"{found.path.name}: no proof was kept: {error}")
