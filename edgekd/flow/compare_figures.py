"""The figures of a comparison: means over seeds, paired gains, and costs.

Validation images say which method is best; test images give the figures that are claimed.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.artifact import Artifact
from edgekd.flow.baseline import answers
from edgekd.flow.compare_leads import Right, accuracy, lead
from edgekd.flow.gates import gain

CONFIDENCE = 0.95
BOTH = "test images, paired by seed and by image; how much seeds and images differ is both in it"
IMAGES = "test images of one seed, paired by image; how much seeds differ is not in it"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One method and seed."""

    seed: int
    folder: str
    """In that of the comparison."""
    artifact: Artifact | None
    failed: str = ""
    """Why there is none."""

    def top1(self, split: str) -> float:
        """On ``validation`` or ``test`` images."""
        return float(self._scores(split)["top1"])

    def images(self, split: str) -> int:
        """How many."""
        return int(self._scores(split)["n"])

    @property
    def together(self) -> Mapping[str, Any]:
        """What was noted of the lockstep; nothing where it was trained by itself."""
        found = {} if self.artifact is None else self.artifact.manifest["training"]
        noted: Mapping[str, Any] = found.get("together") or {}
        return noted

    def to_dict(self) -> Figures:
        """For JSON."""
        found: Figures = {"seed": self.seed, "folder": self.folder, "failed": self.failed or None}
        for split in ("validation", "test"):
            found[split] = None if self.artifact is None else self.top1(split)
            found[f"n_{split}"] = None if self.artifact is None else self.images(split)
        seconds = None if self.artifact is None else self.artifact.manifest["training"]["seconds"]
        return found | {"seconds": seconds}

    def _scores(self, split: str) -> Mapping[str, Any]:
        assert self.artifact is not None
        scores: Mapping[str, Any] = self.artifact.manifest["metrics"][split]
        return scores


def figures_of(
    runs: Mapping[str, Sequence[Run]], alone: str, looking: Collection[str]
) -> tuple[list[Figures], Figures]:
    """The table of methods; what the teacher takes, in ms a step, and how often it was remembered.

    Args:
        runs: of each method, one a seed, in the same order.
        alone: the method without a teacher.
        looking: the methods that look at the teacher.
    """
    noted = [run.together for several in runs.values() for run in several]
    keys = ("teacher_ms_per_step", "teacher_hits")
    teacher = {key: _median(facts.get(key) for facts in noted) for key in keys}
    found = []
    for text, several in runs.items():
        own = _median(run.together.get("ms_per_step") for run in several)
        over = _over(several, runs[alone], looks=text in looking)
        found.append(
            {
                "method": text,
                "folder": several[0].folder.partition("/")[0],
                "alone": text == alone,
                "failed": next((run.failed for run in several if run.failed), None),
                "runs": [run.to_dict() for run in several],
                "validation": _spread(several, "validation"),
                "test": _spread(several, "test"),
                "gain": None if text == alone else _gain(several, runs[alone]),
                "cost": {"ms_per_step": own, "over_alone": over},
            }
        )
    return found, teacher


def right_of(runs: Sequence[Run], split: str) -> Right | None:
    """(S, N) where each seed's student was right; None where one failed or did not keep it."""
    rows = []
    for run in runs:
        found = answers(run.artifact) if run.artifact is not None else {}
        said = found if found.get("split") == split else found.get(split)
        if not said:
            return None
        rows.append(np.equal(said["predictions"], said["targets"]))
    return np.stack(rows)


def _over(runs: Sequence[Run], alone: Sequence[Run], *, looks: bool) -> float | None:
    """A step and its look at the teacher, in steps of the student alone of the same sitting.

    Times of two sittings are those of two machines: a neighbour, or the heat, came between them.
    """
    ratios = []
    for run, other in zip(runs, alone, strict=True):
        own, least = run.together, other.together
        asked = own.get("teacher_ms_per_step") if looks else 0.0
        beside = "sitting" in own and own["sitting"] == least.get("sitting")
        if beside and own["ms_per_step"] and least["ms_per_step"] and asked is not None:
            ratios.append((own["ms_per_step"] + asked) / least["ms_per_step"])
    return _median(ratios)


def _spread(runs: Sequence[Run], split: str) -> Figures:
    """Mean over the seeds with its interval, and the extremes; none where a run failed."""
    if any(run.artifact is None for run in runs):
        return dict.fromkeys(("mean", "lo", "hi", "min", "max"))
    values = [run.top1(split) for run in runs]
    found: Figures = {"mean": statistics.fmean(values), "lo": None, "hi": None}
    if len(values) > 1:
        around = accuracy(values, runs[0].images(split), CONFIDENCE)
        found |= {"lo": around.lo, "hi": around.hi}
    return found | {"min": min(values), "max": max(values)}


def _gain(runs: Sequence[Run], alone: Sequence[Run]) -> Figures | None:
    """Top-1 on the test images over the student alone of the same seed."""
    ours, theirs = right_of(runs, "test"), right_of(alone, "test")
    if ours is None or theirs is None:
        return None
    per_seed = [
        one.top1("test") - other.top1("test") for one, other in zip(runs, alone, strict=True)
    ]
    if len(per_seed) > 1:
        around = lead(ours, theirs, CONFIDENCE)
        ends = {"lo": around.lo, "hi": around.hi}
        return {"value": around.value, **ends, "per_seed": per_seed, "basis": BOTH}
    found = gain(ours[0], theirs[0], 0, "")
    low, high = found["interval"]
    return {"value": found["delta"], "lo": low, "hi": high, "per_seed": per_seed, "basis": IMAGES}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None
