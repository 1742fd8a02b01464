"""What the models answered on the devices: how right, and where otherwise than in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.report import text
from edgekd.report.exports import change_cell
from edgekd.report.models import artifact_of, model_cell, model_name
from edgekd.report.results import measured_accuracy
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import accuracy_cell
from edgekd.report.view import RunView, count, dig, number

Record = Mapping[str, Any]
TOLD = ("top5", "delta", "top1_agreement", "disagreements")
"""What the table of results does not have."""


@dataclass(frozen=True)
class Picture:
    """An image that got another class; ``png`` is base64, ``labels`` what who said it is."""

    png: str
    alternative: str
    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Disagreement:
    """How many images of one record got another class, and some of them."""

    sentence: str
    title: str
    pictures: tuple[Picture, ...]


def accuracy_table(view: RunView) -> Table | None:
    """How right each model is in its runtime on its device, beside the float network."""
    judged = [r for r in view.records if any(dig(r, "accuracy", key) is not None for key in TOLD)]
    head = [Column("On the device", False), Column("Top-1 [95%]"), Column("Top-5")]
    head += [Column("Change in points [95%]"), Column("Same answers"), Column("Another class")]
    caption = (
        "Accuracy in the runtime, on the device, over the same decoded images; the change is "
        "against the float network, image by image."
    )
    return table("accuracy", caption, head, [_judged(view, record) for record in judged])


def _judged(view: RunView, record: Record) -> list[Cell]:
    found = record.get("accuracy")
    n, top5 = count(dig(found, "n")), number(dig(found, "top5"))
    agreement, others = (
        number(dig(found, "top1_agreement")),
        count(dig(found, "disagreements", "n")),
    )
    reference = number(dig(found, "reference"))
    note = "" if reference is None else f"float {text.percent(reference, n)}"
    return [
        model_cell(view, record, note),
        accuracy_cell(measured_accuracy(found)),
        Cell(text.percent(top5, n), top5),
        change_cell(found),
        Cell(text.percent(agreement, n), agreement),
        Cell(text.NONE if others is None else f"{others:,}{f' of {n:,}' if n else ''}", others),
    ]


def disagreements(view: RunView) -> list[Disagreement]:
    """One for each record whose answers were held against others."""
    return [
        _disagreement(view, record)
        for record in view.records
        if count(dig(record, "accuracy", "disagreements", "n")) is not None
    ]


def _disagreement(view: RunView, record: Record) -> Disagreement:
    found = dig(record, "accuracy", "disagreements")
    n, images = count(dig(found, "n")) or 0, count(dig(record, "accuracy", "n"))
    total = f" of {images:,}" if images else ""
    many = f"{n:,}{total} images get" if n != 1 else f"1{total} images gets"
    title = model_name(view, record)
    said = f"{title}: {many} another class than {_other(view, record)}."
    listed = dig(found, "shown")
    shown = tuple(map(_picture, listed)) if isinstance(listed, list) else ()
    shown = tuple(picture for picture in shown if picture.png)
    return Disagreement(said, title, shown)


def _other(view: RunView, record: Record) -> str:
    """What the answers were held against: the float network's, or the truth where it has none."""
    keys = ("reference", "top1_agreement")
    if all(number(dig(record, "accuracy", key)) is None for key in keys):
        return "the true one"
    own = artifact_of(view, record)
    return f"from the float {text.plain(own.role, 40) if own and own.role else 'network'}"


def _picture(found: Any) -> Picture:
    labels = tuple(
        (who, text.plain(label, 60))
        for who, key in (("truth", "truth"), ("float", "reference"), ("here", "found"))
        if (label := dig(found, key)) is not None
    )
    index, name = count(dig(found, "index")), text.plain(dig(found, "name") or "", 60)
    called = name or ("image" if index is None else f"image {index:,}")
    said = ", ".join(f"{who} {label}" for who, label in labels)
    png = dig(found, "png")
    return Picture(png if isinstance(png, str) else "", f"{called}: {said}", called, labels)
