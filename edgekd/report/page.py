"""The page: one file, no network, made by a template that escapes whatever it is given."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.report import (
    answers,
    comparing,
    contests,
    endurance,
    evidence,
    exports,
    knobs,
    layering,
    matrix,
    proofs,
    reductions,
    tables,
    verdict,
)
from edgekd.report.figures import figures
from edgekd.report.heat import heat_figures
from edgekd.report.text import plain
from edgekd.report.view import RunView, dig
from edgekd.report.words import commands

FOLDER = Path(__file__).parent
MOST_LABELS = 200
MARKS = {"teacher": "■", "baseline": "▲", "student": "●"}
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
    heat = heat_figures(view)
    scripts = _scripts() if fronts or curves or heat else []
    labels = [plain(label) for label in _labels(view)]
    return {
        "version": __version__,
        "title": verdict.title(view),
        "headline": verdict.headline(view),
        "statements": verdict.statements(view),
        "fronts": fronts,
        "curves": curves,
        "results": [
            *matrix.matrices(view),
            *tables.results_tables(view),
            *comparing.comparisons_tables(view),
        ],
        "trainings": [
            found
            for index, training in enumerate(view.trainings)
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
        "style": _own("page.css"),
        "scripts": scripts,
        "script_hashes": " ".join(_hash(script) for script in scripts) or "'none'",
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
        "states": evidence.state_tables(view),
        "devices": [*evidence.device_tables(view), *layering.layer_tables(view)],
    }


def _labels(view: RunView) -> list[Any]:
    """The class names, of the last artifact that has any: the student's."""
    found = [dig(artifact.manifest, "labels") for artifact in view.artifacts]
    return next((labels for labels in reversed(found) if isinstance(labels, list)), [])


def _scripts() -> list[str]:
    """Plotly, whole, and the lines that draw: ours, hence the only text that is not escaped."""
    from plotly.offline import get_plotlyjs

    return [get_plotlyjs(), _own("page.js")]


def _own(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def _hash(script: str) -> str:
    """The script's name in the page's policy: no other script runs, whatever a name injects."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
