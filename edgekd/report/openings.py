"""What a report opens with: its title, its headline and its figures, whatever the folder holds."""

from __future__ import annotations

from edgekd.report import budgets, clauses, text, verdict
from edgekd.report.methods_beside import compare_sentences, compared, methods
from edgekd.report.scouted import called, candidates, device_of, fit_of, scout_sentences
from edgekd.report.verdict import Statement
from edgekd.report.view import RunView, dig, number


def title(view: RunView) -> str:
    """``resnet8, distilled from resnet56``, or what there is instead."""
    student = view.result("student")
    if methods(view) and not view.budget:
        return compared(view).partition(", ")[0]
    if candidates(view) and student is None:
        device = device_of(view)
        return f"Scout of {len(candidates(view))} candidates" + (f" on {device}" if device else "")
    return verdict.title(view)


def headline(view: RunView) -> str:
    """The answer in a sentence or two: the budget's first, where there is one."""
    found = budgets.verdict(view)
    if found is not None:
        return f"{_budget(view)} {verdict.headline(view)}".strip()
    if methods(view):
        return " ".join(compare_sentences(view))
    if candidates(view) and view.result("student") is None:
        return " ".join(scout_sentences(view)[:2])
    return verdict.headline(view)


def _budget(view: RunView) -> str:
    found = budgets.verdict(view)
    assert found is not None
    asked = text.plain(view.budget.get("expression") or "", 120)
    where = f" on {found.device}" if found.device else ""
    words = {
        "holds": "is met",
        "fails": "is not met",
        "open": "is shown neither to hold nor to fail",
    }
    return f"The budget {asked} {words[found.state]}{where}."


def statements(view: RunView) -> list[Statement]:
    """The figures that stand out."""
    first = _verdict(view)
    if methods(view) and first is None:
        return _compared(view)
    if candidates(view) and view.result("student") is None:
        return [*([first] if first else []), *_scouted(view)]
    return [*([first] if first else []), *verdict.statements(view)]


def _verdict(view: RunView) -> Statement | None:
    found = budgets.verdict(view)
    if found is None:
        return None
    ruled = clauses.rulings(view.budget.get("rulings"))
    facts = [f"{clauses.clause_of(ruling)}: {clauses.found_in(ruling)}" for ruling in ruled]
    figure = {"holds": "holds", "fails": "not met", "open": "open"}[found.state]
    return Statement("Budget", f"{clauses.MARKS[found.state]} {figure}", tuple(facts))


def _compared(view: RunView) -> list[Statement]:
    name = dig(view.compare, "winner", "method")
    basis = text.plain(dig(view.compare, "winner", "basis") or "")
    found = [
        Statement(
            "Winner",
            text.plain(name, 60) if name else "none shown",
            (f"by {basis} accuracy",) if basis else (),
        )
    ]
    gains = [
        (value, lo, hi, text.plain(method.get("method"), 60))
        for method in methods(view)
        if (value := number(dig(method, "gain", "value"))) is not None
        for lo, hi in [(number(dig(method, "gain", "lo")), number(dig(method, "gain", "hi")))]
    ]
    if gains:
        value, lo, hi, best = max(gains, key=lambda gain: gain[0])
        known = "" if lo is None or hi is None else f"95% interval {_ends(lo, hi)}"
        facts = tuple(fact for fact in (best, known, "seen afterwards, on test images") if fact)
        found.append(Statement("Largest gain", f"{text.points(value)} points", facts))
    teacher = number(dig(view.compare, "teacher", "top1"))
    if teacher is not None:
        who = text.plain(dig(view.compare, "teacher", "name") or "", 60)
        found.append(
            Statement(
                "Teacher", text.percent(teacher), (*([who] if who else []), "validation images")
            )
        )
    return found


def _ends(lo: float, hi: float) -> str:
    return f"[{text.points(lo)}, {text.points(hi)}]"


def _scouted(view: RunView) -> list[Statement]:
    found = candidates(view)
    measured = [c for c in found if not c.get("failed")]
    timed = Statement("Timed", f"{len(measured)} of {len(found)}", ("candidates, untrained",))
    if not view.scout.get("budget"):
        return [timed]
    fit = [c for c in measured if fit_of(c) == "fits"]
    best = (f"best prior: {called(fit[0])}",) if fit else ()
    budget = text.plain(view.scout["budget"], 80)
    return [timed, Statement("Fit the budget", f"{len(fit)}", (budget, *best))]
