"""Which model a record is of, so that no two rows of a table are called the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.places import on, place, places
from edgekd.report.results import record_hash
from edgekd.report.table import Cell, lines
from edgekd.report.tables import named
from edgekd.report.view import ArtifactView, RunView, dig

DIGITS = 8  # of a hash, where nothing else tells two plain files apart

Record = Mapping[str, Any]


def model_cell(view: RunView, record: Record, *notes: str, device: bool = True) -> Cell:
    """The heading of a record's row.

    Args:
        view: all there is.
        record: of one model on one device.
        notes: more small print.
        device: whether to tell on which of several devices, where the table does not.
    """
    name, more, role = _called(view, record)
    where = on(places(view), place(record)).strip() if device else ""
    return Cell(name, note=lines(more, where, *notes), role=role)


def model_name(view: RunView, record: Record) -> str:
    """The same in a sentence: ``student: resnet8 (int8) on pi5``."""
    name, more, _ = _called(view, record)
    return name + (f" ({more})" if more else "") + on(places(view), place(record))


def artifact_of(view: RunView, record: Record) -> ArtifactView | None:
    """The artifact that a record is of."""
    known = (*view.exports, *view.artifacts)  # what runs comes before what it was made from
    return next((a for a in known if record_hash(record) in a.hashes), None)


def _called(view: RunView, record: Record) -> tuple[str, str, str]:
    """Name, what tells it from others of that name, and role."""
    own = artifact_of(view, record)
    hashes = {record_hash(other) for other in view.records}
    if own is None:
        name = text.plain(dig(record, "artifact", "name") or "model", 80)
        unknown = [h for h in hashes if not any(h in a.hashes for a in view.artifacts)]
        return name, text.plain(record_hash(record)[:DIGITS]) if len(unknown) > 1 else "", ""
    alike = [
        other
        for other in view.exports
        if (other.role, other.name) == (own.role, own.name) and other.hashes & hashes
    ]
    more = []
    if len(alike) > 1:
        more.append(text.plain(own.precision))
        if len([other for other in alike if other.precision == own.precision]) > 1:
            more.append(text.plain(own.path))
    return named(own.role, own.name), ", ".join(filter(None, more)), own.role
