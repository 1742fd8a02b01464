"""Scout: candidates with random weights, ranked on the device before any of them is trained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd import records
from edgekd.agent import facts
from edgekd.budget import ACCURACY, Budget
from edgekd.claims import claim
from edgekd.devices import reach
from edgekd.errors import DeviceError, UsageError
from edgekd.files import write_json
from edgekd.flow.boarding import look_at, packages
from edgekd.flow.policies import policy_for
from edgekd.flow.targeting import check_reachable, target_of
from edgekd.profiling import Policy
from edgekd.recipe import Data
from edgekd.schema import SCOUT
from edgekd.scouting.candidates import Candidate, read_candidates
from edgekd.scouting.efforts import efforts
from edgekd.scouting.following import leading
from edgekd.scouting.keeping import Store, environment
from edgekd.scouting.ranking import Entry
from edgekd.scouting.rounds import Raced, race
from edgekd.scouting.telling import anchor_of, facts_of, rounds_of, rows, steady
from edgekd.scouting.timing import JOB, Noise, Stand
from edgekd.scouting.writing import Files, Sketcher
from edgekd.scratch import temporary
from edgekd.targets import PRECISIONS, Target
from edgekd.watching import Watch

RANKING = "scout.json"
BIG = 64
"""Pixels above which data is of the kind that timm's networks are made for."""
LOOKED_AT = 9
"""Images, to see how large they are."""


@dataclass(frozen=True)
class Scouting:
    """What to rank, and for whom."""

    device: str = "local"
    budget: Budget | None = None
    space: tuple[str, ...] = ()
    """Names of spaces (``cifar``, ``timm``) and of networks; empty: by the data's size."""
    sizes: tuple[int, ...] = ()
    """Pixels; empty: as the space says."""
    size: int = 32
    """Of the data."""
    classes: int = 10
    precisions: tuple[str, ...] = ("fp32",)
    said: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the policy that a person decided."""
    margin: float = 0.1
    """How much below a bound a figure has to lie to count as one that fits, as a share of it."""
    rounds: int = 3
    restart: bool = False
    """Whether to measure anew what is kept."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("classes", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if not 0 <= self.margin < 1:
            raise UsageError(f"the margin is {self.margin:g}; expected 0 % to less than 100 %.")
        unknown = [each for each in self.precisions if each not in PRECISIONS]
        if unknown or not self.precisions:
            raise UsageError(
                f"the precisions are {', '.join(self.precisions) or 'none'}; expected some of "
                f"{', '.join(PRECISIONS)}."
            )

    @property
    def spaces(self) -> tuple[str, ...]:
        """The space, or the one that suits the data."""
        return self.space or (("cifar",) if self.size <= BIG else ("timm",))


def scout(asked: Scouting, out: Path | None, watch: Watch) -> dict[str, Any]:
    """Rank candidates on a device by what they cost there, before any of them is trained.

    What is measured is kept, so that the same scout goes on where it was ended, and another one
    measures what is new to it.

    Args:
        asked: what to rank.
        out: a folder for ``scout.json``; None writes none.
        watch: told the rounds.

    Returns:
        What ``scout.json`` holds: the candidates, the best first.

    Raises:
        UsageError: a space, a policy or a folder that cannot be.
        DeviceError: the device cannot be reached, or cannot measure any candidate; before
            anything is exported where it is the device that is at fault.
    """
    if out is None:
        return _scout(asked, watch)
    with claim(out, "scout"):
        SCOUT.check_place(out / RANKING)
        found = _scout(asked, watch)
        write_json(out / RANKING, found)
    return found


def _scout(asked: Scouting, watch: Watch) -> dict[str, Any]:
    check_reachable(asked.device)
    device, policy = reach(asked.device), policy_for(asked.device, asked.said)
    candidates = read_candidates(asked.spaces, asked.sizes, asked.size, asked.classes)
    entries = [Entry(each, how) for each in candidates for how in asked.precisions]
    survey = look_at(device)
    has = packages(survey)
    _check_meter(asked, policy, survey["meters"])
    many = f"{len(entries)} candidate{'s' * (len(entries) > 1)}"
    watch.say(f"{many} on {asked.device}: {', '.join(asked.spaces)}")
    _say_what_is_left_out(asked.budget, watch)
    store = Store(environment(asked.device, survey["device"], has, policy), asked.classes)
    if asked.restart:
        store.forget(entries)
    with temporary() as folder:
        sketcher = sketching(asked.classes, target_of(asked.device))
        files = Files(sketcher, store, folder, _apart(survey["device"]))
        stand = Stand(device, policy, files, store, watch)
        raced, noise = _raced(asked, entries, stand, watch)
    if store.unkept:
        watch.say(f"nothing is kept for the next time: {store.unkept}")
    said = _said(asked, raced, noise, survey["device"])
    _say_if_busy(said, watch)
    return said


def _raced(
    asked: Scouting, entries: Sequence[Entry], stand: Stand, watch: Watch
) -> tuple[Raced, Noise | None]:
    """All rounds; the files go with them."""
    few = len(leading(entries))
    course = efforts(asked.rounds, few, JOB, asked.budget, stand.policy)
    try:
        raced = race(entries, stand, course, asked.budget, asked.margin, watch)
    finally:
        stand.clear()
    return raced, stand.noise()


def _apart(device: Mapping[str, Any]) -> bool:
    """Whether a device is another machine than this one, by its memory and its kernel."""
    own = facts.describe()
    return any(device.get(name) != own[name] for name in ("ram_bytes", "kernel", "cpu"))


def seen(data: Data) -> tuple[int, int]:
    """How large the images of a data set are, and how many classes they are of.

    Args:
        data: its size is taken as it is, where it has one; else the shorter side of most images.

    Raises:
        DataError: there are none, or they cannot be used.
    """
    from edgekd.loading import open_splits

    splits = open_splits(data)
    if data.size:
        return data.size, len(splits.labels)
    sides = []
    for index in range(0, len(splits.train), -(-len(splits.train) // LOOKED_AT)):
        with splits.train.image(index) as image:
            sides.append(min(image.size))
    return int(statistics.median_low(sides)), len(splits.labels)


def sketching(classes: int, target: Target) -> Sketcher:
    """Writes candidates' files with random weights, as a target takes them.

    The files of a candidate's precisions lie side by side, and int8 is written from the float one.
    """

    def write(entry: Entry, folder: Path) -> Path:
        from edgekd.export.sketch import quantised, sketch

        candidate: Candidate = entry.candidate
        name, size = candidate.name, candidate.size
        plain = folder.parent / candidate.key / "model.onnx"
        if entry.precision == "int8" and plain.is_file():
            return quantised(plain, size, folder, target)
        return sketch(name, size, classes, folder, target, entry.precision).file

    return write


def _say_what_is_left_out(budget: Budget | None, watch: Watch) -> None:
    worth = budget.about(ACCURACY) if budget is not None else ()
    if worth:
        named = ", ".join(clause.text for clause in worth)
        watch.say(f"{named} takes a training to know; a scout ranks by published accuracies")


def _say_if_busy(said: Mapping[str, Any], watch: Watch) -> None:
    """A line where the same file took another time in another job."""
    anchor, margin = said["anchor"], said["margin"]
    if anchor["spread"] is not None and anchor["spread"] > margin:
        ms = sorted(anchor["medians"])
        watch.say(
            f"the device was busy: {anchor['name']} took from {ms[0]:.3g} to {ms[-1]:.3g} ms in "
            f"{len(ms)} jobs, which is more than the margin of {margin:.0%}; {said['noisy']} "
            "figures are noisy. Ask again when it is quiet: those are timed once more."
        )


def _check_meter(asked: Scouting, policy: Policy, meters: Sequence[Mapping[str, Any]]) -> None:
    """Refuse, before minutes are spent, a bound on energy where nothing measures it.

    As the agent chooses a meter: that of a graphics card counts where the card does the work.

    Args:
        asked: its budget says whether energy is bounded.
        policy: says what computes.
        meters: those that answer there, as its survey says.

    Raises:
        UsageError: none of them sees what computes.
    """
    named = {clause.metric for clause in asked.budget.clauses} if asked.budget is not None else ()
    if "j_per_inf" not in named:
        return
    on_gpu = not policy.provider.startswith("CPU")
    if any(on_gpu or not meter["name"].startswith("nvml") for meter in meters):
        return
    what = "its GPU" if on_gpu else "its CPU"
    raise UsageError(
        f"the budget bounds j_per_inf, and {asked.device} has no meter that can be read of {what}, "
        f"which computes (edgekd device doctor {asked.device} says which there are). Energy is "
        "measured and never estimated: leave the clause out, or name a --device with a meter."
    )


def _said(
    asked: Scouting, raced: Raced, noise: Noise | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole, as JSON holds it."""
    measured = [each.record for each in raced.standings if each.record is not None]
    if not measured:
        reasons = next((each.failed for each in raced.standings if each.failed), "")
        raise DeviceError(f"{asked.device}: no candidate could be measured. The first: {reasons}")
    runtime = measured[0]["runtime"]
    return {
        "kind": "scout",
        **records.head(),
        "device": asked.device,
        "facts": facts_of(facts),
        "runtime": {"name": runtime["name"], "version": runtime["version"]},
        "budget": str(asked.budget) if asked.budget is not None else None,
        "space": list(asked.spaces),
        "sizes": list(asked.sizes),
        "classes": asked.classes,
        "margin": asked.margin,
        "rounds": rounds_of(raced),
        "anchor": anchor_of(noise),
        "noisy": sum(not steady(each) for each in measured),
        "candidates": rows(raced, asked.budget, asked.margin),
    }
