"""The judgement on an artifact that was measured again: one word, and the sentence behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekd import intervals
from edgekd.flow.differences import (
    ACCEPTED,
    Answers,
    Condition,
    Figure,
    answers,
    conditions,
    median,
    memory,
    shown,
)
from edgekd.flow.proving import Proof

REGRESSIONS = ("slower", "different answers")
DOUBTED = ("slower", "faster")
"""What a second measurement has to find too."""


@dataclass(frozen=True)
class Judgement:
    """What a second measurement says of the first."""

    verdict: str
    """``same``, ``faster``, ``slower``, ``different answers`` or ``cannot tell``."""
    why: str
    figures: tuple[Figure, ...]
    answers: Answers
    accuracy: Mapping[str, Any] | None
    """Paired with the predictions of the proof; None where no prediction differs."""
    conditions: tuple[Condition, ...]
    unconfirmed: bool = False
    """Whether a slowness was found once, and a second try was too noisy to tell."""

    @property
    def sentence(self) -> str:
        return f"{self.verdict}: {self.why}.{self._causes()}"

    def _causes(self) -> str:
        if self.verdict == "same":
            return ""
        if not self.conditions:
            return " Software, system and settings are those of the proof." * (
                self.verdict in REGRESSIONS
            )
        found = (f"{c.name} {_known(c.old)} -> {_known(c.now)}" for c in self.conditions)
        return f" Changed since the proof: {', '.join(found)}."


def _known(value: Any) -> Any:
    return "not known" if value is None else value


def judge(old: Proof, now: Proof, targets: Sequence[int] | None = None) -> Judgement:
    """Compare two measurements of the same files on the same device.

    Answers come first: they do not depend on who else was busy. Speed is only judged where both
    measurements are stable.

    Args:
        old: the proof.
        now: the new measurement.
        targets: the true class of each image, where both have predictions.
    """
    took, said = median(old.record, now.record), answers(old, now)
    paired = None
    if targets is not None and said.different and now.predictions is not None:
        paired = intervals.accuracy(now.predictions, targets, old.predictions)
    verdict, why = _verdict(old, now, took, said, paired)
    return Judgement(
        verdict,
        why,
        (took, shown("p95", old.record, now.record), memory(old.record, now.record)),
        said,
        paired,
        tuple(conditions(old.record, now.record)),
    )


def _verdict(
    old: Proof, now: Proof, took: Figure, said: Answers, paired: Mapping[str, Any] | None
) -> tuple[str, str]:
    if said.differ:
        return "different answers", _difference(said, paired)
    lost = [
        name for name in ("answers", "predictions") if getattr(old, name) and not getattr(now, name)
    ]
    if lost:
        return "cannot tell", f"the proof holds {' and '.join(lost)}, this measurement does not"
    for which, proof in (("the proof", old), ("this measurement", now)):
        found = proof.record["verdict"]
        if found["state"] != "stable":
            reasons = "; ".join(found["reasons"]) or "it says no more"
            return "cannot tell", f"{which} is {found['state']} ({reasons}){_advice(which)}"
    if took.word == "n/a":
        return "cannot tell", "one of the medians has no interval; allow more --max-seconds"
    return took.word, f"{_speed(took)}{_agreement(said)}"


def _advice(which: str) -> str:
    if which == "the proof":
        return "; measure it anew on a quiet device with edgekd profile"
    return "; close other programs there and try again"


def _speed(took: Figure) -> str:
    text = f"{took.name} {took.old:.4g} ms then, {took.now:.4g} ms now ({took.change or 0:+.1%})"
    if took.word == "same" and abs(took.change or 0) > ACCEPTED:
        return f"{text}, and the two intervals overlap"
    return text


def _agreement(said: Answers) -> str:
    parts = []
    if said.images:
        parts.append(f"{said.images:,} predictions")
    if said.feeds:
        parts.append(f"the answers to {said.feeds} timed inputs")
    if not parts:
        return "; the proof holds no answers, so none were compared"
    return f"; {' and '.join(parts)} are those of the proof"


def _difference(said: Answers, paired: Mapping[str, Any] | None) -> str:
    parts = []
    if said.different:
        parts.append(f"{said.different:,} of {said.images:,} images{_accuracy(paired)}")
    if said.other_classes:
        parts.append(f"another class for {said.other_classes} of {said.feeds} timed inputs")
    if said.moved:
        parts.append(
            "logits of another shape or not finite"
            if said.furthest is None
            else f"logits moved by up to {said.furthest:.2g} of the largest, more than rounding"
        )
    return "; ".join(parts)


def _accuracy(paired: Mapping[str, Any] | None) -> str:
    """The change among the same images, with its interval."""
    if paired is None:
        return ""
    low, high = (100 * end for end in paired["delta_interval"])
    return f", top-1 {100 * paired['delta']:+.2f} points [{low:+.2f}, {high:+.2f}]"


def settled(first: Judgement, second: Judgement) -> Judgement:
    """What holds of two tries: a change of speed that only one of them shows is not called one.

    Args:
        first: it found the artifact slower or faster.
        second: what another process found.
    """
    if second.verdict in (first.verdict, "different answers"):
        return second
    change = first.figures[0].change or 0
    why = f"{second.why}; a first try was {change:+.1%}"
    if first.verdict == "slower" and second.verdict == "cannot tell":
        once = f"slower once ({change:+.1%}), then too noisy to confirm, which is no pass"
        return replace(second, why=f"{once}: {second.why}", unconfirmed=True)
    verdict = "cannot tell" if second.verdict in DOUBTED else second.verdict
    return replace(second, verdict=verdict, why=why)
