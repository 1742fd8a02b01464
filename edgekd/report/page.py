"""The page: one file, no network, made by a template that escapes whatever it is given."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
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
    layering,
    matrix,
    methods_beside,
    openings,
    proofs,
    reductions,
    scouted,
    tables,
)
from edgekd.report.budget_picture import budget_figure
from edgekd.report.clauses import MARKS as STATES
from edgekd.report.curves import told
from edgekd.report.figures import Figure, figures
from edgekd.report.heat import heat_figures
from edgekd.report.scout_picture import scout_figure
from edgekd.report.text import plain
from edgekd.report.view import RunView, dig
from edgekd.report.words import commands

FOLDER = Path(__file__).parent
MOST_LABELS = 200
MARKS = {"teacher": "■", "baseline": "▲", "attempt": "✕", "student": "●"}
"""The shapes that stand for the roles in the pictures."""


def render_page(view: RunView) -> str:
    """The whole page as HTML."""
    import jinja2

    engine = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return engine.get_template("page.html.j2").render(_content(view))


def _content(view: RunView) -> dict[str, Any]:
    fronts, curves = figures(view)
    heat, planned = heat_figures(view), _planned(view)
    drawn = [planned[key] for key in ("budget_figure", "scout_figure", "gains_figure")]
    scripts = _scripts() if any((fronts, curves, heat, *drawn, planned["class_figures"])) else []
    labels = [plain(label) for label in _labels(view)]
    return {
        "version": __version__,
        "title": openings.title(view),
        "headline": openings.headline(view),
        "statements": openings.statements(view),
        **planned,
        "fronts": [] if planned["budget_figure"] else fronts,
        "curves": curves,
        "results": [
            *matrix.matrices(view),
            *tables.results_tables(view),
            *comparing.comparisons_tables(view),
        ],
        "trainings": [
            found
            for index, training in enumerate(told(view))
            if (found := tables.training_table(training, f"training-{index + 1}"))
        ],
        "costs": tables.costs_table(view),
        "exports": [
            found for make in (*exports.TABLES, *reductions.TABLES) if (found := make(view))
        ],
        "contests": contests.contests(view),
        "types": reductions.type_tables(view),
        "explanations": exports.explanations(view),
        "rejected": [plain(path) for path in view.rejected],
        **_measured(view),
        "heat": heat,
        "decisions": [*proofs.decisions(view), *contests.choices(view)],
        "time": tables.time_table(view),
        "lineage": proofs.lineage_table(view),
        "labels": labels[:MOST_LABELS],
        "more_labels": max(len(labels) - MOST_LABELS, 0),
        "recipe": view.recipe,
        "commands": commands(view),
        "marks": MARKS,
        "states": STATES,
        "style": _own("page.css"),
        "scripts": scripts,
        "script_hashes": " ".join(_hash(script) for script in scripts) or "'none'",
    }


def _planned(view: RunView) -> dict[str, Any]:
    """What was asked for, tried and compared: budget, scout, methods, classes."""
    found: dict[str, Figure | None] = {
        "budget_figure": budget_figure(view),
        "scout_figure": scout_figure(view),
        "gains_figure": methods_beside.gains_figure(view),
    }
    return {
        **found,
        "budget": budgets.verdict(view),
        "rulings": budgets.rulings_table(view),
        "final": budgets.test_table(view),
        "attempts": budgets.attempts_table(view),
        "scout_said": scouted.scout_sentences(view),
        "scout_tables": scouted.scout_tables(view),
        "scout_more": scouted.more_tables(view),
        "compare_said": methods_beside.compare_sentences(view),
        "methods": methods_beside.methods_table(view),
        "method_runs": methods_beside.runs_table(view),
        "class_figures": by_class.class_figures(view),
        "class_tables": [made for make in by_class.TABLES if (made := make(view))],
    }


def _measured(view: RunView) -> dict[str, Any]:
    """What is told of the devices beside latency: answers, steadiness, state."""
    return {
        "accuracy": answers.accuracy_table(view),
        "disagreements": answers.disagreements(view),
        "sustained": endurance.sustained_tables(view),
        "minutes": endurance.minute_tables(view),
        "measurements": proofs.measurements_tables(view),
        "knobs": [*knobs.sweep_tables(view), *knobs.energy_tables(view)],
        "conditions": evidence.state_tables(view),
        "devices": [*evidence.device_tables(view), *layering.layer_tables(view)],
    }


def _labels(view: RunView) -> list[Any]:
    """The class names, of the last artifact that has any: the student's."""
    found = [dig(artifact.manifest, "labels") for artifact in view.artifacts]
    return next((labels for labels in reversed(found) if isinstance(labels, list)), [])


@cache
def _scripts() -> list[str]:
    """Plotly, whole, and the lines that draw: ours, hence the only text that is not escaped."""
    from plotly.offline import get_plotlyjs

    return [get_plotlyjs(), _own("page.js")]


def _own(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


@cache
def _hash(script: str) -> str:
    """The script's name in the page's policy: no other script runs, whatever a name injects."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
