"""Wording: figures and students as every sentence of a mission says them."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.budget import Ruling, shown
from edgekd.flow.mission.plans import Attempt


def said(ruling: Ruling) -> str:
    """A figure with its interval: ``p95 34.1ms [33.8ms, 34.6ms]``."""
    metric, figure = ruling.clause.metric, ruling.figure
    if figure.value is None:
        return f"{metric} {figure.why if figure.why.startswith('n/a') else f'n/a ({figure.why})'}"
    text = f"{metric} {shown(metric, figure.value)}"
    if figure.lo is None or figure.hi is None:
        return text
    return f"{text} [{shown(metric, figure.lo)}, {shown(metric, figure.hi)}]"


def against(short: Sequence[Ruling]) -> str:
    """What is short, and of what: ``p95 34.1ms [33.8ms, 34.6ms] against p95<=30ms``."""
    return ", ".join(f"{said(r)} against {r.clause.text}" for r in short)


def name_of(attempt: Attempt) -> str:
    """``resnet8 at 32 px in int8``."""
    plan = attempt.plan
    return f"{plan.network} at {plan.size} px in {attempt.made.precision}"


def points(share: float) -> str:
    """``2.8 points`` of accuracy."""
    return f"{100 * share:.3g} point{'' if share == 0.01 else 's'}"


def students_that_fit(count: int) -> str:
    """``2 students that should fit were``."""
    return f"{count} student{'s' * (count > 1)} that should fit {'were' if count > 1 else 'was'}"


def some(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
