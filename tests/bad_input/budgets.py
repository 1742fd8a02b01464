"""Budgets that bound nothing, or not what they seem to."""

from __future__ import annotations

from tests.bad_input.table import Case, Cases


def asked(budget: str) -> Case:
    """A run for this budget."""
    return lambda place: ["run", "--budget", budget, "-o", place.out]


CASES: Cases = {
    "budget of nothing": (asked(""), 2, ["the budget's '' is no clause", "such as"]),
    "budget of a comma": (asked("p95<=30ms,"), 2, ["the budget's '' is no clause"]),
    "budget of words": (asked("as fast as it can"), 2, ["'as fast as it can' is no clause"]),
    "budget of an unknown metric": (
        asked("p96<=30ms"),
        2,
        ["the budget bounds 'p96'", "Did you mean", "p95"],
    ),
    "budget the wrong way round": (
        asked("p95>=30ms"),
        2,
        ["the budget says p95>=", "expected p95<=", "to be small"],
    ),
    "budget below": (asked("p95<30ms"), 2, ["the budget says p95<", "expected p95<="]),
    "budget equal": (asked("top1==90%"), 2, ["the budget says top1==", "expected top1>="]),
    "budget without a unit": (asked("p95<=30"), 2, ["with '30' and no unit", "expected us or ms"]),
    "budget with another's unit": (asked("p95<=30MB"), 2, ["the unit 'MB'", "us or ms or s"]),
    "budget with a fraction for a share": (asked("top1>=0.9"), 2, ["no unit", "expected %"]),
    "budget of no number": (asked("p95<=tenms"), 2, ["the unit 'tenms'", "us or ms or s"]),
    "budget below zero": (asked("p95<=-1ms"), 2, ["p95 with '-1'", "a number more than 0"]),
    "budget of zero": (asked("size_mb<=0MB"), 2, ["size_mb with '0'", "a number more than 0"]),
    "budget of nan": (asked("p95<=nan ms"), 2, ["p95 with 'nan'", "a number more than 0"]),
    "budget of infinity": (asked("p95<=1e999ms"), 2, ["p95 with '1e999'", "a number more than 0"]),
    "budget of nearly nothing": (asked("p95<=1e-999ms"), 2, ["p95 with '1e-999'"]),
    "budget beyond all": (asked("top1>=101%"), 2, ["top1 with '101'", "at most 100"]),
    "budget of other digits": (
        asked("p95<=\u0663\u0660ms"),
        2,
        ["p95 with '\u0663\u0660'", "a number more than 0"],
    ),
    "budget twice": (asked("p95<=3ms, p95<=4ms"), 2, ["bounds p95 twice", "Leave one out"]),
    "budget with escapes": (asked("\x1b[2J<=3ms"), 2, ["the budget bounds '\\x1b[2J'"]),
    "budget with bytes that are no text": (asked("p\udcff<=3ms"), 2, ["'p\\udcff'"]),
    "budget of spaces": (
        asked("p95<=" + " " * 50_000 + "1 1"),
        2,
        ["the budget has 50,008 characters", "at most 1,000"],
    ),
    "budget of clauses": (
        asked("p95<=1ms," * 90 + "p95<=1ms"),
        2,
        ["bounds p95 twice"],
    ),
    "budget of letters": (asked("p95<=" + "a" * 900 + "!"), 2, ["the budget bounds p95"]),
    "budget of a scout": (
        lambda p: ["scout", "--budget", "p95=<30ms", "-o", p.out],
        2,
        ["the budget says p95=;", "expected p95<="],
    ),
}
