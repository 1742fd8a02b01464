"""The result in sentences that a person understands without the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekd.report import text
from edgekd.report.places import CLOCKS, clock_name, failed_place
from edgekd.report.view import Result, RunView, Training, count, dig, number

USUAL = next(iter(CLOCKS))


@dataclass(frozen=True)
class Statement:
    """One figure that stands out: ``label``, the figure itself, and the facts it needs."""

    label: str
    figure: str
    facts: tuple[str, ...]


def title(view: RunView) -> str:
    """``resnet8, distilled from resnet56``, or what there is instead."""
    student, teacher = view.result("student"), view.result("teacher")
    if student and teacher:
        return (
            f"{text.plain(student.network, 60)}, distilled from {text.plain(teacher.network, 60)}"
        )
    names = list(dict.fromkeys(text.plain(line.network, 60) for line in view.results))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    curves = ", ".join(text.plain(training.name, 60) for training in view.trainings[:3])
    return (", ".join(names[:3]) + more) or (f"Training of {curves}" if curves else "A run")


def statements(view: RunView) -> list[Statement]:
    """Size, accuracy, latency and gain, as far as they are known."""
    subject = view.result("student") or (view.results[-1] if view.results else None)
    if subject is None:
        return [statement] if (statement := gain(view)) else []
    found = [_size(view, subject), _accuracy(view, subject), _latency(view, subject), gain(view)]
    return [statement for statement in found if statement]


def headline(view: RunView) -> str:
    """One sentence: how small, how right, how fast."""
    subject = view.result("student") or (view.results[-1] if view.results else None)
    if subject is None:
        said = [_reached(training) for training in view.trainings]
        return " ".join([*said, _failed(view)]).strip()
    parts = [_smaller(view, subject), _right(subject), _fast(view, subject)]
    said = [part for part in parts if part]
    joined = ", and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else "".join(said)
    who = f"The {subject.role} " if subject.role else ""
    whole = f"{who}{text.plain(subject.network, 60)} {joined}." if joined else ""
    return f"{whole} {_failed(view)}".strip()


def _reached(training: Training) -> str:
    moments = [p.epoch for p in training.epochs] + [p.epoch for p in training.losses]
    done = max(moments, default=0.0)
    name, epochs = text.plain(training.name, 60), f"{done:,.4g}"
    tops = [p.validation for p in training.epochs if "top1" in p.validation]
    if not tops:
        return f"{name}: {epochs} epochs done."
    top1 = text.percent(tops[-1]["top1"], count(tops[-1].get("n")))
    return f"{name}: {top1} validation top-1 after {epochs} epochs."


def _ratio(view: RunView, subject: Result) -> float | None:
    teacher = view.result("teacher")
    if teacher is None or teacher is subject or not subject.parameters or not teacher.parameters:
        return None
    return teacher.parameters / subject.parameters


def _smaller(view: RunView, subject: Result) -> str:
    ratio = _ratio(view, subject)
    if ratio is None:
        return f"has {text.scaled(subject.parameters)} parameters" if subject.parameters else ""
    if ratio < 1:
        return f"is {text.times(1 / ratio)} larger than its teacher"
    return f"is {text.times(ratio)} smaller than its teacher"


def _right(subject: Result) -> str:
    found = subject.accuracy
    if found is None:
        return ""
    ends = text.percent_interval(found).strip("[]").replace(", ", " to ")
    where = {"validation": "held-out validation images", "test": "test images"}
    images = f"{found.n:,} " * bool(found.n) + where.get(found.source, "images")
    known = f" (95% interval {ends}%)" if ends else ""
    return f"classifies {text.percent(found.value, found.n)} of {images} correctly{known}"


def _fast(view: RunView, subject: Result) -> str:
    found = _everywhere(view, subject)
    if not found:
        return ""
    said = [f"{text.milliseconds(line.median_ms)}{_where(line, len(found))}" for line in found]
    said = said if len(said) < 2 else [said[0], said[-1]]
    by = "" if subject.clock in ("", USUAL) else f" by the {clock_name(subject.clock)}"
    return f"answers in {' to '.join(said)}{by}"


def _where(line: Result, devices: int) -> str:
    """With its hardware, or by its name alone beside others."""
    name = line.place if devices > 1 else line.device
    return f" on {text.plain(name, 80)}" if name else ""


def _everywhere(view: RunView, subject: Result) -> list[Result]:
    """The subject on each device it was timed on by the same clock, the fastest first."""
    alike = [
        line
        for line in view.results
        if (line.role, line.network, line.precision, line.model, line.clock)
        == (subject.role, subject.network, subject.precision, subject.model, subject.clock)
    ]
    first: dict[str, Result] = {}
    for line in alike:
        if line.median_ms is not None:
            first.setdefault(line.place, line)
    return sorted(first.values(), key=lambda line: line.median_ms or 0.0)


def _failed(view: RunView) -> str:
    """Which devices gave no answer."""
    found = dict.fromkeys(text.plain(failed_place(e), 60) or "a device" for e in view.failures)
    *first, last = found or [""]
    who = f"{', '.join(first)} and {last}" if first else last
    return f"No answer from {who}." if who else ""


def _size(view: RunView, subject: Result) -> Statement | None:
    ratio = _ratio(view, subject)
    if subject.parameters is None:
        return None
    own = f"{text.scaled(subject.parameters)} parameters"
    teacher = view.result("teacher")
    if ratio is None or teacher is None:
        return Statement("Size", text.scaled(subject.parameters), ("parameters",))
    figure = f"{text.times(ratio)} smaller" if ratio >= 1 else f"{text.times(1 / ratio)} larger"
    return Statement("Size", figure, (own, f"teacher: {text.scaled(teacher.parameters)}"))


def _accuracy(view: RunView, subject: Result) -> Statement | None:
    found = subject.accuracy
    if found is None:
        return None
    ends = text.percent_interval(found)
    parts = [f"95% interval {ends}" if ends else "", f"n = {found.n:,}" if found.n else ""]
    teacher = view.result("teacher")
    if teacher and teacher is not subject and teacher.accuracy:
        above = text.percent(teacher.accuracy.value, teacher.accuracy.n)
        parts.append(f"teacher: {above}")
    figure = text.percent(found.value, found.n)
    return Statement("Top-1 accuracy", figure, tuple(part for part in parts if part))


def _latency(view: RunView, subject: Result) -> Statement | None:
    everywhere = _everywhere(view, subject)
    if len(everywhere) > 1:
        return _range(everywhere)
    found = subject.median
    if found is None or found.value is None:
        return None
    ends = text.latency(found, interval=True).partition(" [")[2]
    known = f"95% interval [{ends}" if ends else ""
    state = f"measurement {text.plain(subject.state, 40)}" if subject.state else ""
    clock = clock_name(subject.clock) if subject.clock else ""
    parts = (known, state, clock, text.plain(subject.device, 48))
    facts = tuple(part for part in parts if part)
    return Statement("Median latency", text.milliseconds(found.value), facts)


def _range(everywhere: Sequence[Result]) -> Statement:
    """From the fastest device to the slowest."""
    ends = (everywhere[0], everywhere[-1])
    times = [text.milliseconds(line.median_ms) for line in ends]
    names = [text.plain(line.place, 40) for line in ends]
    facts = (f"{names[0]} to {names[1]}", clock_name(ends[0].clock))
    more = (f"{len(everywhere)} devices",) if len(everywhere) > 2 else ()
    return Statement("Median latency", " to ".join(times), (*facts, *more))


def gain(view: RunView) -> Statement | None:
    """What distillation added over the same student trained alone, whatever it is."""
    found = view.run.get("gain")
    delta, n = number(dig(found, "delta")), number(dig(found, "n"))
    if delta is None:
        return None
    images = round(n) if n else None
    ends = dig(found, "interval")
    span = [number(end) for end in ends] if isinstance(ends, list) and len(ends) == 2 else []
    lo, hi = span if span else (None, None)
    facts = [f"paired over {images:,} images"] if images else []
    epochs = number(dig(found, "baseline_epochs"))
    alone = "at equal cost" if dig(found, "basis") != "epochs" else "as the student"
    facts += [f"baseline trained {epochs:,.0f} epochs, {alone}"] if epochs else []
    gained = f"{text.points(delta, images)} points"
    label = "Gain over the baseline"
    if lo is None or hi is None:
        return Statement(label, gained, ("no interval, hence no claim", *facts))
    ends = f"95% interval [{text.points(lo, images)}, {text.points(hi, images)}]"
    if lo <= 0 <= hi:  # a difference is one only where the interval leaves out zero
        return Statement(label, "no difference seen", (gained, ends, *facts))
    said = "distillation helped" if lo > 0 else "distillation hurt"
    return Statement(label, gained, (said, ends, *facts))
