"""How files of lower precision were made, int8, fp16 and engines, and each node's precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.exports import export_cell, export_name
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import named
from edgekd.report.view import ArtifactView, RunView, count, dig, number

SHOWN = 16  # digits of a hash that tell files apart; report.json has all
NAMED = 3  # layers, of those that stay in float


def reduction_table(view: RunView) -> Table | None:
    """What int8 was calibrated on and how it was reached, and how near fp16 is to overflowing."""
    names = {a.sha256: named(a.role, a.name) for a in view.artifacts}
    head = [Column("Export", False), Column("Calibrator", False), Column("Calibrated on", False)]
    head += [Column("Reached by", False), Column("Left in float", False)]
    rows = [
        [
            export_cell(view, artifact),
            *_calibrated(artifact.export.get("int8")),
            _reached(artifact, names),
            _floats(artifact),
            _peak(artifact.export.get("half")),
        ]
        for artifact in view.exports
        if isinstance(artifact.export.get("int8") or artifact.export.get("half"), Mapping)
    ]
    caption = "How the int8 and fp16 files were made."
    return table("reduction", caption, [*head, Column("Peak, of fp16's range")], rows)


def _calibrated(int8: Any) -> list[Cell]:
    flavour, calibrator = dig(int8, "flavour"), dig(int8, "calibrator")
    images, digest = count(dig(int8, "calibration", "n")), dig(int8, "calibration", "sha256")
    words = text.NONE if images is None else f"{images:,} training images"
    return [
        Cell(text.anything(calibrator), note=text.plain(f"for {flavour}") if flavour else ""),
        Cell(words, note=f"sha256 {text.plain(digest)[:SHOWN]}" if digest else ""),
    ]


def _reached(artifact: ArtifactView, names: Mapping[str, str]) -> Cell:
    rung, rungs = (dig(artifact.export, "int8", key) for key in ("rung", "rungs"))
    tried = len(rungs) if isinstance(rungs, list) else 0
    notes = [f"attempt {tried}"] if tried > 1 else []
    tuned = artifact.export.get("tuned_from")
    if isinstance(tuned, str) and tuned:
        notes.append(f"tuned for int8, from {names.get(tuned, text.plain(tuned)[:SHOWN])}")
    return Cell(text.anything(rung), note=", ".join(notes))


def _floats(artifact: ArtifactView) -> Cell:
    """The layers that compute in float32 though the file as a whole does not."""
    int8, half = artifact.export.get("int8"), artifact.export.get("half")
    layers = _layers(dig(int8, "float_layers"))
    for key in ("float32", "float_modules"):
        layers += _layers(dig(half, key))
    total = count(dig(int8, "layers"))
    shown = [text.plain(layer, 48) for layer in layers[:NAMED]]
    more = [f"{len(layers) - NAMED} more"] if len(layers) > NAMED else []
    words = f"{len(layers)} of {total} layers" if total else f"{len(layers)} layers"
    if not layers:
        return Cell("none")
    return Cell(words if len(layers) > 1 or total else "1 layer", note=", ".join(shown + more))


def _layers(found: Any) -> list[str]:
    """Their names, listed alone or each in a table with the reason."""
    entries = found if isinstance(found, list) else []
    return [str(dig(entry, "layer") or entry) for entry in entries if entry]


def _peak(half: Any) -> Cell:
    share, value = number(dig(half, "headroom")), number(dig(half, "peak", "value"))
    layer = dig(half, "peak", "layer")
    where = f" in {text.plain(layer, 32)}" if layer else ""
    note = "" if value is None else f"{text.significant(value)}{where}"
    return Cell(text.percent(share), share, note)


def engine_table(view: RunView) -> Table | None:
    """What each TensorRT engine is, as its own inspector says, and where alone it fits."""
    head = [Column("Engine", False), Column("Precision it has", False), Column("Layers")]
    head += [Column(name, False) for name in ("TensorRT", "GPU")]
    rows = [
        [export_cell(view, artifact), *_engine(artifact)]
        for artifact in view.exports
        if isinstance(artifact.export.get("engine"), Mapping)
    ]
    caption = (
        "Engines fit the GPU and the TensorRT they were built with; elsewhere they are rebuilt."
    )
    return table("engines", caption, [*head, Column("Built in")], rows)


def _engine(artifact: ArtifactView) -> list[Cell]:
    found = artifact.export.get("engine")
    layers, took = dig(found, "layers"), number(dig(found, "seconds"))
    total = len(layers) if isinstance(layers, list) else count(layers)
    shares, cuda = dig(found, "shares"), _fact(found, "cuda")
    parts = shares.items() if isinstance(shares, Mapping) else ()
    known = [(text.plain(name), number(share)) for name, share in parts]
    capability = _fact(found, "capability")
    return [
        Cell(
            text.anything(dig(found, "label")),
            note=", ".join(f"{text.percent(s)} {name}" for name, s in known if s is not None),
        ),
        Cell(text.anything(total), total),
        Cell(text.anything(_fact(found, "tensorrt")), note=f"CUDA {cuda}" if cuda else ""),
        Cell(
            text.anything(_fact(found, "gpu")),
            note=f"compute capability {capability}" if capability else "",
        ),
        Cell(text.seconds(took), took, "reused" if dig(found, "reused") is True else ""),
    ]


def _fact(engine: Any, name: str) -> str:
    """What an engine depends on; it stands in its key."""
    found = dig(engine, "key", name) or dig(engine, name)
    return text.plain(found, 60) if isinstance(found, str | int | float) else ""


TABLES = (reduction_table, engine_table)

Types = Mapping[str, Mapping[str, int]]
"""Nodes by operator and by the precision they compute in."""


def _types(artifact: ArtifactView) -> Types:
    """Empty where nothing was found, or nothing but the fp32 that was asked for."""
    listed = artifact.export.get("types")
    found = {
        str(operator): {str(k): n for k, value in counts.items() if (n := count(value))}
        for operator, counts in (listed.items() if isinstance(listed, Mapping) else ())
        if isinstance(counts, Mapping)
    }
    kinds = set(_kinds(found.values()))
    asked = artifact.export.get("precision_asked")
    return {} if kinds <= {"fp32"} and asked in (None, "fp32") else found


def _kinds(found: Sequence[Mapping[str, int]] | Any) -> list[str]:
    """Precisions, the most frequent first."""
    totals: dict[str, int] = {}
    for counts in found:
        for kind, n in counts.items():
            totals[kind] = totals.get(kind, 0) + n
    return sorted(totals, key=lambda kind: -totals[kind])


def _in_order(found: Types) -> list[tuple[str, Mapping[str, int]]]:
    return sorted(found.items(), key=lambda entry: -sum(entry[1].values()))


def type_tables(view: RunView) -> list[Table]:
    """Which precision the nodes of each file compute in."""
    made = []
    for index, artifact in enumerate(view.exports):
        found = _types(artifact)
        kinds = _kinds(found.values())
        head = [Column("Node type", False), *(Column(text.plain(kind)) for kind in kinds)]
        rows = [
            [Cell(text.plain(operator)), *(_nodes(counts.get(kind)) for kind in kinds)]
            for operator, counts in _in_order(found)
        ]
        caption = f"Precision by node type: {export_name(view, artifact)}."
        made.append(table(f"types-{index + 1}", caption, head, rows))
    return [types for types in made if types]


def _nodes(found: int | None) -> Cell:
    return Cell(text.NONE if found is None else f"{found:,}", found)


def type_lines(view: RunView) -> list[str]:
    """The same in a line each: ``Conv 20 int8, 1 fp32; HardSwish 18 fp32``."""
    said = []
    for artifact in view.exports:
        parts = [
            f"{text.plain(operator)} {', '.join(f'{n} {text.plain(k)}' for k, n in counts.items())}"
            for operator, counts in _in_order(_types(artifact))
        ]
        if parts:
            said.append(f"{export_name(view, artifact)}: {'; '.join(parts)}")
    return said
