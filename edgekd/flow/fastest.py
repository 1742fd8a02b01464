"""``--precision auto``: build what the device could run, time it there, keep what pays."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact, create
from edgekd.cards import write_card
from edgekd.cards.places import sentence
from edgekd.devices import reach
from edgekd.errors import DataError, DeviceError, GateError, UsageError
from edgekd.files import private_folder, sha256
from edgekd.flow.findings import Proofs
from edgekd.flow.measuring import measure
from edgekd.flow.ordering import Exporting
from edgekd.flow.policies import policy_for
from edgekd.flow.reasons import why_slow
from edgekd.flow.repairing import export_repaired
from edgekd.profiling import Policy
from edgekd.recipe import Export

FLOAT = "fp32"
SECONDS = 20.0
"""Of timing, at most; a measurement that knows enough ends sooner."""
AGREE = 0.05
"""What decides is measured twice; the second time, in a fresh process, may differ by so much."""


@dataclass
class Candidate:
    """One precision: a file or why there is none, and what was measured."""

    precision: str
    artifact: Artifact | None = None
    refused: str = ""
    ratio: Mapping[str, Any] | None = None
    """Its time over the fp32 file's."""
    said: str = ""
    """What the comparison dares to claim."""
    because: str = ""
    """What in the file explains it."""

    @property
    def claimed_faster(self) -> bool:
        return "faster" in self.said and self.ratio is not None

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        export = self.artifact.manifest["export"] if self.artifact else {}
        return {
            "precision": self.precision,
            "bytes": export.get("bytes"),
            "verdict": export.get("verdict"),
            "ratio": self.ratio,
            "said": self.said,
            "because": self.because,
            "refused": self.refused or None,
        }


@dataclass
class Contest:
    """All candidates and how they were timed."""

    job: Exporting
    candidates: list[Candidate] = field(default_factory=list)
    null: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def policy(self) -> Policy:
        target = self.job.target
        said = {"runtime": target.runtime, "max_seconds": SECONDS, "layers": True}
        return policy_for(target.name, said)

    def built(self) -> list[Candidate]:
        """Those there is a file of, fp32 first."""
        return [c for c in self.candidates if c.artifact is not None]


def export_fastest(job: Exporting, out: Path, options: Export) -> Artifact:
    """Build each precision of the target, time them in turn, and keep the fastest accurate one.

    fp32 is left only for what the timing claims to be faster, beyond the noise of a null pair, and
    what a second timing in a fresh process confirms.

    Raises:
        GateError: not even the fp32 file is the network.
    """
    reach(job.target.name)  # before anything is built for a device that cannot be asked
    tuned = out.with_name(f"{out.name}-tuned")
    with private_folder(out) as folder:
        contest = Contest(job)
        for precision in job.target.precisions:
            wanted = replace(options, precision=precision)
            contest.candidates.append(_build(contest, folder, wanted, tuned))
        chosen = _choose(contest)
        return _keep(contest, chosen, out, options)


def _build(contest: Contest, folder: Path, options: Export, tuned: Path) -> Candidate:
    """One precision; what cannot be had is refused, what is wrong with the input is an error."""
    name = options.precision
    try:
        return Candidate(name, export_repaired(contest.job, folder / name, options, tuned))
    except DataError:
        raise
    except (GateError, UsageError, DeviceError) as error:
        if name == FLOAT:
            raise
        # not where its file is kept, which goes with the others, nor where the device is
        why = sentence(error.bare if isinstance(error, GateError) else str(error))
        _note(contest, f"{name} is out: {why}")
        return Candidate(name, refused=why)


def _choose(contest: Contest) -> Candidate:
    """Time what was built; the first one is fp32."""
    built = contest.built()
    first = built[0]
    if len(built) == 1:
        _note(contest, f"{first.precision} stays: there is nothing to time it against.")
        return first
    _time(contest, built)
    faster = [c for c in built[1:] if c.claimed_faster]
    for slow in (c for c in built[1:] if c not in faster):
        _note(contest, f"{slow.precision} is out: {_pace(slow)}{slow.because}.")
    if not faster:
        _note(contest, f"{first.precision} stays.")
        return first
    best = min(faster, key=lambda c: _value(c.ratio))
    return best if _confirmed(contest, first, best) else first


def _time(contest: Contest, built: list[Candidate]) -> None:
    """All in turn, with the null pair; who is how much faster, and what explains it."""
    records = _measure(contest, built)
    compared = [r["comparison"] for r in records if "comparison" in r]
    layers = {r["artifact"]["sha256"]: r["layers"] for r in records if "timing" in r}
    for candidate, found in zip(built[1:], compared, strict=True):
        assert candidate.artifact is not None
        contest.null = found["null"]
        candidate.ratio, candidate.said = found["ratio"], found["sentence"]
        if not candidate.claimed_faster:
            times = layers.get(sha256(candidate.artifact.model_file))
            candidate.because = why_slow(candidate.artifact.manifest["export"], times)


def _confirmed(contest: Contest, first: Candidate, best: Candidate) -> bool:
    """Measure the winner again, in fresh processes."""
    (again,) = [r["comparison"] for r in _measure(contest, [first, best]) if "comparison" in r]
    before, after = _value(best.ratio), _value(again["ratio"])
    agree = abs(after / before - 1) <= AGREE
    if "faster" in again["sentence"]:
        words = "" if agree else ", which is not within 5 % but faster all the same"
        _note(
            contest,
            f"{best.precision} it is: {before:.2f}x of the time of {first.precision}, measured "
            f"again {after:.2f}x{words}.",
        )
        return True
    _note(
        contest,
        f"{best.precision} was {before:.2f}x and, measured again, {after:.2f}x of the time of "
        f"{first.precision}: not repeatable here, so {first.precision} stays.",
    )
    return False


def _measure(contest: Contest, candidates: list[Candidate]) -> list[dict[str, Any]]:
    folders = [c.artifact.path for c in candidates if c.artifact is not None]
    device, watch = contest.job.target.name, contest.job.watch
    return measure(folders, contest.policy, device, watch=watch, proofs=Proofs.NONE)


def _keep(contest: Contest, chosen: Candidate, out: Path, options: Export) -> Artifact:
    """Make the chosen candidate the artifact, with all that was found about the others."""
    assert chosen.artifact is not None
    found = chosen.artifact
    auto = {
        "chosen": chosen.precision,
        "reasons": contest.notes,
        "null": contest.null,
        "candidates": [candidate.to_dict() for candidate in contest.candidates],
    }
    section = {**found.manifest["export"], "asked": asdict(options), "auto": auto}
    kept = {k: v for k, v in found.manifest.items() if k not in ("files", "created")}
    with create(out, kept | {"export": section}) as folder:
        for name in found.manifest["files"]:
            shutil.copyfile(found.path / name, folder / name)
    write_card(out)
    return Artifact.open(out)


def _note(contest: Contest, text: str) -> None:
    contest.notes.append(text)
    contest.job.watch.say(text)


def _pace(candidate: Candidate) -> str:
    value = _value(candidate.ratio)
    if "slower" in candidate.said:
        return f"{value:.2f}x slower than fp32 here"
    return f"no faster than fp32 here ({value:.2f}x, {candidate.said})"


def _value(ratio: Mapping[str, Any] | None) -> float:
    return float(ratio["value"]) if ratio else 1.0
