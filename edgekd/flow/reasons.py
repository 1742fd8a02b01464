"""Why a file of lower precision is not faster: what stays float, and what converting costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

CONVERTING = ("QuantizeLinear", "DequantizeLinear", "Cast")
NAMED = 2
"""Operators that a sentence names."""
NOTEWORTHY = 0.05
"""Share of the time from which converting is worth a word."""


def why_slow(export: Mapping[str, Any], layers: Sequence[Mapping[str, Any]] | None) -> str:
    """A clause that begins with a colon, or nothing where nothing explains it.

    Args:
        export: the manifest's section, with ``types``: operator -> precision -> nodes.
        layers: what the runtime's own profiler found: ``type`` and ``ms`` of each.
    """
    parts = [text for text in (_floats(export), _conversions(layers)) if text]
    return f": {'; '.join(parts)}" if parts else ""


def _floats(export: Mapping[str, Any]) -> str:
    """``34 HardSwish and 18 HardSigmoid nodes stay float``."""
    if export.get("engine"):  # its own layers decide there, not the graph's nodes
        return ""
    lowered = {"int8"} if "int8" in str(export.get("precision_asked")) else {"fp16", "int8"}
    staying: Counter[str] = Counter()
    for operator, found in (export.get("types") or {}).items():
        staying[operator] = sum(n for kind, n in found.items() if kind not in lowered)
    named = [(kind, n) for kind, n in staying.most_common(NAMED) if n]
    if not named:
        return ""
    words = " and ".join(f"{n} {kind}" for kind, n in named)
    return f"{words} nodes stay float"


def _conversions(layers: Sequence[Mapping[str, Any]] | None) -> str:
    """``converting between int8 and float takes 31 % of its time``."""
    total = sum(layer["ms"] for layer in layers or ())
    if not total:
        return ""
    spent = sum(layer["ms"] for layer in layers or () if layer["type"] in CONVERTING)
    if spent < NOTEWORTHY * total:
        return ""
    return f"converting between precisions takes {100 * spent / total:.0f} % of its time"
