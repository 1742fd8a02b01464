"""The tables of proof: how it was measured, what was decided, where each file came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.report import text
from edgekd.report.models import model_cell
from edgekd.report.places import anchor, by_clock, clock_name, runtime_name, sentence
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.view import RunView, dig, number


def measurements_tables(view: RunView) -> list[Table]:
    """Under which conditions each latency was measured, and how steady it was; by clock."""
    found = []
    for index, (clock, records) in enumerate(by_clock(view.records)):
        made = _measurements(view, records, clock, anchor("measurements", index))
        found += [made] if made else []
    return found


def _measurements(
    view: RunView, records: Sequence[Mapping[str, Any]], clock: str, name: str
) -> Table | None:
    head = [
        Column("Measured", False),
        Column("Verdict", False),
        Column("Conditions", False),
        *map(Column, ("Runs", "Spread", "Drift")),
        *map(Column, ("Undisturbed", "CPU time", "Load")),
    ]
    runtimes = {runtime_name(record.get("runtime")) for record in records}
    rows = [_measurement(view, record, len(runtimes) > 1) for record in records]
    caption = "How each latency was measured; spread is the coefficient of variation."
    caption += f" {sentence(clock_name(clock))}."
    if len(runtimes) == 1 and any(runtimes):
        caption += f" Runtime: {text.plain(runtimes.pop())}."
    return table(name, caption, head, rows)


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
        model_cell(view, record, runtime),
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
