"""Scouted tables and attempts made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgekd.budget import Budget, Figure, rule_all
from edgekd.flow.mission.plans import Attempt, Limits, Made, Other, Plan, state_of
from edgekd.schema import SCOUT

LIMITS = Limits(attempts=6, margin=0.1, epochs=10)


def row(
    name: str,
    median: float,
    prior: float | None = None,
    size: int = 32,
    precision: str = "fp32",
    **more: Any,
) -> dict[str, Any]:
    """A line of ``scout.json``: p95 is 1.2 of the median, its interval 2 % to either side."""
    p95 = 1.2 * median
    return {
        "key": f"{name}-{size}px",
        "name": name,
        "size": size,
        "precision": precision,
        "parameters": int(1000 * median),
        "macs": int(1e6 * median),
        "size_bytes": int(1e5 * median),
        "peak_bytes": 50_000_000,
        "median": {"value": median, "lo": 0.99 * median, "hi": 1.01 * median},
        "p95": {"value": p95, "lo": 0.98 * p95, "hi": 1.02 * p95, "method": "order statistics"},
        "mean": median,
        "mean_interval": [0.99 * median, 1.01 * median],
        "prior": {"value": prior, "basis": "none" if prior is None else "published"},
        "rulings": [],
        "failed": None,
        **more,
    }


def table(*rows: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "scout", **SCOUT.head, "candidates": list(rows)}


def tried(
    budget: Budget,
    plan: Plan,
    found: Mapping[str, tuple[float, float, float]],
    made: Made | None = None,
    again: Mapping[str, tuple[float, float, float]] | None = None,
) -> Attempt:
    """An attempt that measured value, low and high of each metric."""
    rulings = rule_all(budget.clauses, {k: Figure(*v) for k, v in found.items()})
    attempt = Attempt(plan, state_of(rulings), rulings, made=made or Made("fp32", 1.0))
    if again is None:
        return attempt
    later = rule_all(budget.costs, {k: Figure(*v) for k, v in again.items()})
    return replace(attempt, again=later, state=state_of(later))


def auto(chosen: str = "fp32", ratio: float = 1.0, lost: float = 0.0, *others: Other) -> Made:
    return Made(chosen, ratio, lost, others)
