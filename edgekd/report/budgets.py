"""What became of a budget: its verdict, the way out where it does not hold, and each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.budget import ACCURACY
from edgekd.report import clauses, text
from edgekd.report.places import LOCAL
from edgekd.report.results import measured_accuracy
from edgekd.report.standing import taken_attempt
from edgekd.report.table import Cell, Column, Table, lines, table
from edgekd.report.tables import accuracy_cell
from edgekd.report.view import Estimate, RunView, count, dig, listed, number

VERDICTS = {
    "holds": ("holds", "The budget holds"),
    "infeasible": ("fails", "The budget is not met"),
    "open": ("open", "Whether the budget holds is open"),
}
"""State of a budget -> the state whose mark it has, and its words."""
RUNGS = {
    "first": "first choice",
    "precision": "next precision",
    "smaller": "smaller student",
    "resolution": "lower resolution",
    "other": "another student",
    "longer": "longer training",
}
SPARE = "The test images chose nothing."


@dataclass(frozen=True)
class Step:
    """One rung of the ladder: what was tried, why, and what came of it."""

    title: str
    state: str
    outcome: str
    why: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The answer, in words."""

    state: str
    title: str
    sentence: str
    device: str
    ways: tuple[str, ...]
    steps: tuple[Step, ...]


def verdict(view: RunView) -> Verdict | None:
    """None where the run had no budget."""
    budget = view.budget
    if not budget:
        return None
    state, title = VERDICTS.get(str(budget.get("state")), VERDICTS["open"])
    sentence = text.plain(budget.get("sentence") or "")
    return Verdict(
        state,
        title,
        sentence.removeprefix(f"{budget.get('state')}: "),
        device_of(view),
        tuple(text.plain(way) for way in listed(budget.get("way_out"))),
        tuple(_step(number, attempt, view) for number, attempt in enumerate(attempts(view), 1)),
    )


def device_of(view: RunView) -> str:
    """The device that the budget is for; this machine by its hardware, where that is known."""
    name = str(view.budget.get("device") or "")
    known = [line.device for line in view.results if line.place == name == LOCAL and line.device]
    return text.plain(known[0] if known else name, 60)


def attempts(view: RunView) -> list[Mapping[str, Any]]:
    """In the order in which they were made."""
    return [found for found in listed(view.budget.get("attempts")) if isinstance(found, Mapping)]


def accepted(view: RunView) -> int | None:
    """Which attempt was taken, or came nearest."""
    found = taken_attempt(view.budget)
    return next((i for i, attempt in enumerate(attempts(view)) if attempt is found), None)


def plan(attempt: Mapping[str, Any]) -> str:
    """``resnet20 at 32 px, 30 epochs, int8``."""
    size, epochs = count(attempt.get("size")), count(attempt.get("epochs"))
    name = text.plain(attempt.get("network") or attempt.get("key") or "attempt", 60)
    parts = [name + (f" at {size} px" if size else "")]
    parts += [f"{epochs:,} epoch{'s' * (epochs != 1)}"] if epochs else []
    precision = dig(attempt, "made", "precision") or attempt.get("precision")
    parts += [text.plain(precision, 20)] if precision else []
    return ", ".join(parts)


def _step(order: int, attempt: Mapping[str, Any], view: RunView) -> Step:
    first, again = (clauses.rulings(attempt.get(key)) for key in ("rulings", "again"))
    state = clauses.state_of(attempt)
    taken = accepted(view) == order - 1
    outcome = clauses.WORDS[state]
    if taken:
        outcome += ", taken" if view.budget.get("state") == "holds" else ", nearest"
    facts = [_fact(ruling) for ruling in first]
    facts += ["measured again: " + "; ".join(map(_fact, again))] if again else []
    rung = str(attempt.get("rung") or "")
    refused = text.plain(attempt.get("refused") or "")
    return Step(
        f"{order}. {plan(attempt)}"
        + (f" ({RUNGS.get(rung, text.plain(rung, 40))})" if rung else ""),
        state,
        outcome,
        text.plain(attempt.get("why") or ""),
        (*facts, *([refused] if refused else [])),
    )


def _fact(ruling: clauses.Ruling) -> str:
    state = clauses.state_of(ruling)
    mark, word = clauses.MARKS[state], clauses.WORDS[state]
    return f"{mark} {clauses.clause_of(ruling)}: {clauses.found_in(ruling)}, {word}"


def rulings_table(view: RunView) -> Table | None:
    """The final word on each clause."""
    device, found = device_of(view) or "the device", clauses.rulings(view.budget.get("rulings"))
    caption = (
        f"Each clause, measured on {device}{_judged_on(view, found)}. One holds where the whole "
        "95% interval is within the bound, and is open where the bound lies inside the interval."
    )
    return clauses.rulings_table("rulings", caption, found)


def _judged_on(view: RunView, found: list[clauses.Ruling]) -> str:
    """Which images a verdict on accuracy is of: what was accepted met the test images at last."""
    if not any(ruling["metric"] in ACCURACY for ruling in found):
        return ""
    tested = isinstance(view.budget.get("test"), Mapping)
    return f"; accuracy is that on the {'test' if tested else 'validation'} images"


def attempts_table(view: RunView) -> Table | None:
    """Every attempt with what was found for every clause."""
    made = attempts(view)
    metrics: dict[str, str] = {}
    for attempt in made:
        for ruling in clauses.rulings(attempt.get("rulings")):
            metrics.setdefault(str(ruling["metric"]), clauses.clause_of(ruling))
    head = [Column("Attempt", False), *map(Column, metrics.values())]
    head += [Column("Validation top-1"), Column("Outcome", False)]
    rows = [_row(view, index, attempt, list(metrics)) for index, attempt in enumerate(made)]
    caption = (
        "Attempts in their order. All were judged on the same validation images, so the intervals "
        "of accuracy widen from attempt to attempt, and all together err in at most 5% of cases."
    )
    return table("attempts", caption, head, rows)


def _row(view: RunView, index: int, attempt: Mapping[str, Any], metrics: list[str]) -> list[Cell]:
    ruled = clauses.rulings(attempt.get("rulings"))
    taken = accepted(view) == index
    state = clauses.state_of(attempt)
    again = clauses.rulings(attempt.get("again"))
    unsteady = "not repeatable" if again and state != "holds" else ""
    told = "taken" if view.budget.get("state") == "holds" else "nearest"
    size, (_, _, rest) = count(attempt.get("size")), plan(attempt).partition(", ")
    name = Cell(
        f"{index + 1}. {text.plain(attempt.get('network') or attempt.get('key'), 60)}",
        note=lines(f"{size} px" if size else "", rest),
        role="student" if taken else "attempt",
    )
    return [
        name,
        *(clauses.found_cell(clauses.of_metric(ruled, metric)) for metric in metrics),
        accuracy_cell(validation(attempt)),
        Cell(
            f"{clauses.MARKS[state]} {clauses.WORDS[state]}",
            note=lines(told if taken else "", unsteady),
        ),
    ]


def validation(attempt: Mapping[str, Any]) -> Estimate | None:
    """What an attempt got right of the validation images, on the device."""
    return judged(attempt.get("validation"))


def judged(found: Any) -> Estimate | None:
    """An accuracy, as records and verdicts have it."""
    value = number(dig(found, "value"))
    if isinstance(found, Mapping) and value is None:
        found = {**found, "value": found.get("top1")}
    known = measured_accuracy(found)
    return known and Estimate(known.value, known.lo, known.hi, known.n)


def test_table(view: RunView) -> Table | None:
    """The one figure of the test images, which were kept for the end."""
    found = view.budget.get("test")
    known, n = judged(found), count(dig(found, "n"))
    if known is None:
        return None
    reference, delta = number(dig(found, "teacher")), number(dig(found, "delta"))
    row = [
        Cell("Test images", note="n = " + f"{n:,}" if n else ""),
        Cell(f"{text.percent(known.value, n)} {text.percent_interval(known)}".strip(), known.value),
        Cell(text.percent(reference, n), reference),
        Cell(text.difference(delta, dig(found, "delta_interval"), n), delta),
    ]
    head = [Column("Final", False), Column("Top-1 on the device [95%]"), Column("Teacher")]
    head += [Column("Change in points [95%]")]
    return table("final", f"Accuracy of what was taken. {SPARE}", head, [row])
