"""What exported files prove: that they are their networks, and what a lower precision costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import named
from edgekd.report.view import ArtifactView, RunView, count, dig, leaves, number

PARITY = {  # column -> its names in a proof, and which of several, one for each batch, is worse
    "Top-1 agreement": (("top1_agreement", "agreement"), min),
    "KL": (("kl",), max),
    "Cosine": (("cosine",), min),
    "SNR": (("snr_db", "snr"), min),
}
EVERYTHING = 1.0
"""The drop that fp32 is allowed on paper: what holds it is its proof."""


def export_table(view: RunView) -> Table | None:
    """What was found in each exported file, and whether it answers as its network does."""
    head = [Column("Export", False), Column("Made by", False), Column("Opset")]
    head += [Column("Precision", False), Column("Nodes"), *map(Column, PARITY)]
    rows = [
        [
            export_cell(view, artifact),
            *_found(artifact),
            *(_proof(artifact.export.get("parity"), name) for name in PARITY),
            _passed(artifact.export.get("parity"), _proved_file(artifact)),
        ]
        for artifact in view.exports
    ]
    caption = "Each exported file against its network on the same real images."
    return table("export", caption, [*head, Column("Verdict", False)], rows)


def export_cell(view: RunView, artifact: ArtifactView) -> Cell:
    """The heading of an export's row; its folder stands below where several are called so."""
    name = named(artifact.role, artifact.name)
    return Cell(name, note=_folder(view, artifact), role=artifact.role)


def export_name(view: RunView, artifact: ArtifactView) -> str:
    """The same in a sentence: ``student: resnet8 (student-int8)``."""
    folder = _folder(view, artifact)
    return named(artifact.role, artifact.name) + (f" ({folder})" if folder else "")


def _folder(view: RunView, artifact: ArtifactView) -> str:
    names = [(other.role, other.name) for other in view.exports]
    if names.count((artifact.role, artifact.name)) < 2:
        return ""
    return "this folder" if artifact.path == "." else text.plain(artifact.path)


def _found(artifact: ArtifactView) -> list[Cell]:
    found = artifact.export
    nodes, opset = found.get("nodes"), found.get("opset")
    counts = {str(k): count(v) or 0 for k, v in nodes.items()} if isinstance(nodes, Mapping) else {}
    total = sum(counts.values()) if counts else count(nodes)
    most = sorted(counts.items(), key=lambda entry: -entry[1])[:3]
    return [
        Cell(text.anything(found.get("exporter"))),
        Cell(text.anything(opset), number(opset)),
        Cell(text.anything(artifact.precision)),
        Cell(text.anything(total), total, text.plain(", ".join(f"{n} {k}" for k, n in most))),
    ]


def _proved_file(artifact: ArtifactView) -> str:
    """Which file the proof is of, where it is not the one that runs."""
    if artifact.kind == "tensorrt":
        return "the ONNX file it was built from"
    return "the fp32 file it was made from" if artifact.export.get("int8") else ""


def _proof(parity: Any, name: str) -> Cell:
    keys, worse = PARITY[name]
    found = [value for key, value in leaves(parity) if key.split(".")[-1] in keys]
    values = [value for value in map(number, found) if value is not None]
    if not values:
        return Cell(text.NONE)
    value = worse(values)
    words = {
        "Top-1 agreement": text.percent(value),
        "KL": f"{value:.1e}",
        "Cosine": f"{value:.6f}",
        "SNR": f"{value:.0f} dB",
    }
    return Cell(text.signed(words[name]), value)


def _passed(found: Any, of: str = "") -> Cell:
    """Whether a proof or a verdict holds; ``of`` names the file where it is another one."""
    reasons, images = dig(found, "reasons"), count(dig(found, "images"))
    note = text.anything(reasons) if reasons else f"on {images:,} images" if images else ""
    for key in ("passed", "verdict", "state"):
        state = dig(found, key)
        if state is not None:
            word = {True: "passed", False: "failed"}[state] if isinstance(state, bool) else state
            notes = ", ".join(part for part in (of, note) if part)
            return Cell(text.anything(word), note=notes)
    return Cell(text.NONE, note=note)


def precision_table(view: RunView) -> Table | None:
    """Which precision was asked for and found, and how much accuracy it costs."""
    judged = [a for a in view.exports if "precision_asked" in a.export or "verdict" in a.export]
    head = [Column("Export", False), Column("Precision", False), Column("Top-1")]
    head += [Column("Change in points [95%]"), Column("Same answers"), Column("SNR")]
    head += [Column("May lose"), Column("Verdict", False)]
    caption = (
        "What the precision costs: top-1 beside the float network's, image by image. The worse end "
        "of the interval decides."
    )
    rows = [[export_cell(view, artifact), *_judged(artifact)] for artifact in judged]
    return table("precision", caption, head, rows)


def _judged(artifact: ArtifactView) -> list[Cell]:
    verdict = artifact.export.get("verdict")
    n, top1 = count(dig(verdict, "n")), number(dig(verdict, "top1"))
    reference, db = number(dig(verdict, "reference")), number(dig(verdict, "snr_db"))
    before = "" if reference is None else f"float {text.percent(reference, n)}"
    agreement = number(dig(verdict, "top1_agreement"))
    return [
        Cell(text.anything(artifact.precision), note=_asked(artifact)),
        Cell(text.percent(top1, n), top1, before),
        change_cell(verdict),
        Cell(text.percent(agreement, n), agreement),
        Cell(text.NONE if db is None else text.signed(f"{db:.0f} dB"), db),
        _allowed(verdict),
        _passed(verdict),
    ]


def _asked(artifact: ArtifactView) -> str:
    """What was asked for, where that is not simply what was found."""
    chosen, asked = dig(artifact.export, "auto", "chosen"), artifact.export.get("precision_asked")
    if isinstance(chosen, str):
        return text.plain(f"auto chose {chosen}")
    differs = isinstance(asked, str) and asked != artifact.precision
    return text.plain(f"asked for {asked}") if differs else ""


def change_cell(verdict: Any) -> Cell:
    """The change of accuracy with its interval, and over how many images."""
    delta, n = number(dig(verdict, "delta")), count(dig(verdict, "n"))
    words = text.difference(delta, dig(verdict, "delta_interval"), n)
    return Cell(words, delta, f"{n:,} images" if n and delta is not None else "")


def _allowed(verdict: Any) -> Cell:
    most = number(dig(verdict, "max_drop"))
    if most is None or most >= EVERYTHING:
        return Cell(text.NONE)
    return Cell(f"{100 * most:g} point{'' if most == 0.01 else 's'}", most)


TABLES = (export_table, precision_table)


def explanations(view: RunView) -> list[str]:
    """Where the error of a file begins, one sentence for each that was looked into."""
    found = []
    for artifact in view.exports:
        said = dig(artifact.export, "explanation", "sentence")
        if isinstance(said, str) and said:
            found.append(f"{export_name(view, artifact)}: {text.plain(said)}")
    return found
