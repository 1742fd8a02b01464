"""Catalogue: what is known of each method without importing it."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from edgekd import plugins

COSTS = Path(__file__).parent / "methods" / "costs.json"
"""Seconds of a step beside those of ``kd``; ``tools/bench/methods.py --write`` measures them."""


@dataclass(frozen=True)
class Entry:
    """One method."""

    summary: str
    needs: tuple[str, ...]
    """Which features it looks at."""
    cost: float | None
    """Seconds of a training step, as a multiple of one with ``ce + kd``; ``None``: not measured."""
    suits: str
    """When to take it."""


def methods() -> dict[str, Entry]:
    """Each method by name; the files are parsed, not imported."""
    costs = json.loads(COSTS.read_text("utf-8"))["relative_to_kd"]
    found = {}
    for name, file in plugins.files("method").items():
        tree = ast.parse(file.read_text("utf-8"))
        summary, _, rest = (ast.get_docstring(tree) or "").partition("\n")
        found[name] = Entry(summary, _needs(tree), costs.get(name), _suits(rest))
    return found


def _needs(tree: ast.Module) -> tuple[str, ...]:
    """What the class attribute ``needs`` says; logits where there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "needs":
            (names,) = node.value.args if isinstance(node.value, ast.Call) else (None,)
            if names is not None:
                return tuple(sorted(ast.literal_eval(names)))
    return ("logits",)


def _suits(docstring: str) -> str:
    """The paragraph that begins so, on one line."""
    said = [text for text in docstring.split("\n\n") if text.startswith("Suits: ")]
    return " ".join(said[0].removeprefix("Suits: ").split()) if said else ""
