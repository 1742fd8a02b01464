"""The report without a browser: Markdown for a README, JSON for programs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgekd import __version__
from edgekd.report import (
    answers,
    budgets,
    by_class,
    comparing,
    contests,
    endurance,
    evidence,
    exports,
    knobs,
    matrix,
    methods_beside,
    openings,
    proofs,
    reductions,
    scouted,
    tables,
)
from edgekd.report.table import Table
from edgekd.report.text import plain
from edgekd.report.view import RunView

SCHEMA_VERSION = 1
ON_DEVICE = (
    proofs.measurements_tables,
    endurance.sustained_tables,
    knobs.sweep_tables,
    knobs.energy_tables,
    evidence.state_tables,
)
"""What is told of each measurement beside its latency."""


def render_json(view: RunView) -> str:
    """Everything that was collected, under names that stay."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "edgekd_version": __version__,
        "title": openings.title(view),
        "headline": openings.headline(view),
        "statements": [asdict(statement) for statement in openings.statements(view)],
        **asdict(view),
        "commands": commands(view),
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def commands(view: RunView) -> list[str]:
    """What was typed, or what would do it again."""
    entries = (view.run, view.compare, view.scout, *view.records, *view.failures)
    found = [entry.get("command") for entry in entries]
    said = list(dict.fromkeys(plain(command) for command in found if command))
    if not said and view.recipe:
        peer = tomllib.loads(view.recipe).get("peer", {}).get("name")
        said = [f"edgekd {'distill --recipe' if peer else 'run'} recipe.toml"]
    return said


def render_markdown(view: RunView) -> str:
    """Headline and tables, short enough for a README."""
    parts = [heading(openings.title(view)), _escape(openings.headline(view))]
    found = [
        f"- {_escape(s.label)}: **{_escape(s.figure)}**. {_escape('; '.join(s.facts))}"
        for s in openings.statements(view)
    ]
    parts.append("\n".join(found))
    parts += _planned(view)
    parts += _all(matrix.matrices(view))
    parts += _all(tables.results_tables(view))
    parts += [part for make in exports.TABLES for part in _shown(make(view))]
    parts += [part for make in reductions.TABLES for part in _shown(make(view))]
    parts.append(_list(reductions.type_lines(view)))
    for contest in contests.contests(view):
        parts += [*_shown(contest.table), _list(contest.said)]
    parts.append(_list(exports.explanations(view)))
    parts += _all(comparing.comparisons_tables(view))
    parts += _shown(answers.accuracy_table(view))
    parts += [part for make in by_class.TABLES for part in _shown(make(view))]
    parts.append(_list([found.sentence for found in answers.disagreements(view)]))
    for make in ON_DEVICE:
        parts += _all(make(view))
    parts += _shown(tables.costs_table(view))
    parts += [f"Rejected, not to be used: {_escape(path)}" for path in view.rejected]
    lines = "\n".join(commands(view))
    if lines:
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", lines) or [""]))
        parts.append(f"{fence}console\n{lines}\n{fence}")
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(title: str) -> str:
    """The first line of the Markdown."""
    return f"## {_escape(title)}"


def _planned(view: RunView) -> list[str]:
    """The budget and its attempts, the scout and the methods."""
    found = budgets.verdict(view)
    parts: list[str] = []
    if found:
        parts += [
            _escape(f"{found.title}: {found.sentence}" if found.sentence else f"{found.title}.")
        ]
        parts += [*_shown(budgets.rulings_table(view)), *_shown(budgets.test_table(view))]
        parts += [_escape("The way out, cheapest first:"), _list(found.ways)] if found.ways else []
        steps = [
            " ".join((f"{s.title}: {s.outcome}.", s.why, "; ".join(s.facts))) for s in found.steps
        ]
        parts += [_list(steps), *_shown(budgets.attempts_table(view))]
    if view.scout:
        parts += [_list(scouted.scout_sentences(view)), *_all(scouted.scout_tables(view))]
    if view.compare:
        parts += _shown(methods_beside.methods_table(view))
    return parts


def _shown(table: Table | None) -> list[str]:
    """A table under its caption."""
    return [_escape(table.caption), _markdown_table(table)] if table else []


def _all(found: Sequence[Table]) -> list[str]:
    return [part for each in found for part in _shown(each)]


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_escape(sentence)}" for sentence in sentences)


def _markdown_table(table: Table) -> str:
    head = [_noted(column.title, column.note) for column in table.columns]
    line = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[_noted(cell.text, cell.note) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, line, *rows])


def _noted(words: str, note: str) -> str:
    """Small print in brackets, its lines beside each other."""
    return _escape(words + (f" ({note})" if note else "").replace("\n", "; "))


_SPECIAL = re.compile(r"([\\`*_\[\]|~#!@$]|:(?=/)|(?<=\bwww)\.)", re.IGNORECASE)
"""What Markdown obeys; and what makes a link, a mention or a formula of a name."""


def _escape(value: Any) -> str:
    """Text that Markdown and HTML leave as it is, in one line."""
    escaped = _SPECIAL.sub(r"\\\1", plain(value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
