"""The tables of evidence: measurements, device facts, decisions, lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.report import text
from edgekd.report.results import device_name, record_hash, runtime_name
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import named, ratio_cell
from edgekd.report.view import RunView, dig, leaves, number


def measurements_table(view: RunView) -> Table | None:
    """Under which conditions each latency was measured, and how steady it was."""
    head = [
        Column("Measured", False),
        Column("Verdict", False),
        Column("Conditions", False),
        *map(Column, ("Runs", "Spread", "Drift")),
        *map(Column, ("Undisturbed", "CPU time", "Load")),
    ]
    runtimes = {runtime_name(record.get("runtime")) for record in view.records}
    rows = [_measurement(view, record, len(runtimes) > 1) for record in view.records]
    caption = "How each latency was measured; spread is the coefficient of variation."
    if len(runtimes) == 1 and any(runtimes):
        caption += f" Runtime: {text.plain(runtimes.pop())}."
    return table("measurements", caption, head, rows)


def _measurement(view: RunView, record: Mapping[str, Any], several: bool) -> list[Cell]:
    policy, timing = record.get("policy"), record.get("timing")

    def share(value: Any, suffix: str = "") -> Cell:
        found = number(value)
        words = text.NONE if found is None else text.signed(f"{found:.1f}%{suffix}")
        return Cell(words, found)

    spread, kept = number(dig(timing, "cov")), number(dig(timing, "kept_share"))
    reasons = dig(record, "verdict", "reasons")
    runtime = text.plain(runtime_name(record.get("runtime"))) if several else ""
    return [
        _measured_name(view, record, runtime),
        Cell(
            text.anything(dig(record, "verdict", "state")),
            note=text.anything(reasons) if reasons else "",
        ),
        _conditions(policy),
        _runs(timing),
        share(None if spread is None else 100 * spread),
        share(dig(timing, "drift_pct_per_min"), "/min"),
        share(None if kept is None else 100 * kept),
        _ms(dig(timing, "cpu_ms")),
        _ms(dig(timing, "load_ms"), dig(timing, "first_ms")),
    ]


def _measured_name(view: RunView, record: Mapping[str, Any], note: str) -> Cell:
    known = next((a for a in view.artifacts if record_hash(record) in a.hashes), None)
    if known:
        return Cell(named(known.role, known.name), note=note, role=known.role)
    return Cell(text.plain(dig(record, "artifact", "name") or "model"), note=note)


def _conditions(policy: Any) -> Cell:
    batch, threads = number(dig(policy, "batch_size")), number(dig(policy, "threads"))
    parts = [f"batch {batch:,.0f}" if batch else "", _plural(threads, "thread") if threads else ""]
    order = dig(policy, "order")
    note = text.plain(order) if order else ""
    return Cell(", ".join(part for part in parts if part) or text.NONE, note=note)


def _plural(value: float, noun: str) -> str:
    return f"{value:,.0f} {noun}{'' if value == 1 else 's'}"


def _runs(timing: Any) -> Cell:
    runs, warmup = number(dig(timing, "n")), number(dig(timing, "warmup", "n"))
    note = "" if warmup is None else f"{warmup:,.0f} warm-up"
    return Cell(text.anything(runs), runs, note)


def _ms(value: Any, first: Any = None) -> Cell:
    found, then = number(value), number(first)
    note = "" if then is None else f"first run {text.milliseconds(then)}"
    return Cell(text.milliseconds(found), found, note)


def comparisons_table(view: RunView) -> Table | None:
    """Pairs that were measured in turns, which alone tells small differences from chance."""
    head = [Column("Pair", False), Column("Time ratio [95%]"), Column("Null pair")]
    rows = []
    for entry in (found["comparison"] for found in view.comparisons):
        pair = f"{_short(dig(entry, 'b'))} against {_short(dig(entry, 'a'))}"
        said, state = _short(dig(entry, "sentence")), dig(entry, "state")
        note = "" if state in (None, "stable") else text.anything(state)
        ratios = [ratio_cell(dig(entry, "ratio")), ratio_cell(dig(entry, "null"))]
        rows.append([Cell(pair), *ratios, Cell(said, note=note)])
    caption = "Two networks in turns, beside a null pair: the same network against itself."
    return table("comparisons", caption, [*head, Column("Verdict", False)], rows)


def _short(name: Any) -> str:
    """A model by its artifact's folder: the file in it is called ``model.onnx`` every time."""
    return text.anything(name).replace("/model.onnx", "")


def device_tables(view: RunView) -> list[Table]:
    """The facts of each device that was measured on, and how it did meanwhile."""
    firsts: dict[str, Mapping[str, Any]] = {}
    for record in view.records:
        firsts.setdefault(device_name(record), record)
    found = []
    for index, (name, record) in enumerate(firsts.items()):
        rows = [[Cell(_title(key)), _device_fact(key, value)] for key, value in _facts(record)]
        caption = f"Facts of the device {text.plain(name)}".rstrip() + "."
        head = [Column("Fact", False), Column("Found", False)]
        found.append(table(f"device-{index + 1}", caption, head, rows))
    return [facts for facts in found if facts]


def _facts(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every fact once, though the record repeats some in its evidence."""
    evidence = record.get("evidence", {})
    other = {"facts", "asked"}
    more = (
        {k: v for k, v in evidence.items() if k not in other}
        if isinstance(evidence, Mapping)
        else {}
    )
    merged = dict(leaves(record.get("device")))
    merged |= {k: v for k, v in leaves(dig(evidence, "facts")) if k not in merged}
    return [*merged.items(), *leaves(more)]


def _title(key: str) -> str:
    return text.plain(key.removesuffix("_bytes").replace("_", " ").replace(".", ": "))


def _device_fact(key: str, value: Any) -> Cell:
    found = number(value)
    if key.endswith("bytes") and found is not None:
        return Cell(text.scaled(found, "B"), found)
    return Cell(text.anything(value), found)


def decisions(view: RunView) -> list[str]:
    """What was decided on the way, one line each."""
    found = view.run.get("decisions")
    return [text.anything(entry) for entry in found] if isinstance(found, list) else []


SHOWN = 16  # digits of a hash that tell files apart; report.json has all
CAPTION = f"Every artifact, by the first {SHOWN} digits of its manifest's hash."


def lineage_table(view: RunView) -> Table | None:
    """Which file came from which, by the hash of its manifest."""
    paths = {a.sha256: "this folder" if a.path == "." else a.path for a in view.artifacts}
    rows = []
    for artifact in view.artifacts:
        parent = artifact.parent
        origin = paths.get(parent) or dig(artifact.manifest, "parent", "name")
        rows.append(
            [
                Cell(text.plain(paths[artifact.sha256]), role=artifact.role),
                Cell(text.plain(f"{artifact.role} {artifact.kind}".strip())),
                Cell(artifact.sha256[:SHOWN]),
                Cell(text.plain(origin) if origin else text.NONE, note=parent[:SHOWN]),
                Cell(text.moment(artifact.manifest.get("created"))),
            ]
        )
    head = [Column(name, False) for name in ("Artifact", "Kind", "SHA-256", "Made from", "Made at")]
    return table("lineage", CAPTION, head, rows)
