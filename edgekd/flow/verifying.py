"""Verify: measure an artifact again as its proof says, and say whether it still holds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekd.artifact import MANIFEST, read_manifest
from edgekd.devices import reach
from edgekd.errors import DataError, UsageError
from edgekd.flow.judging import DOUBTED, REGRESSIONS, Judgement, judge, settled
from edgekd.flow.measuring import Truth, measure, model_file
from edgekd.flow.proving import Proof, read
from edgekd.profiling import Policy
from edgekd.recipe import recipe_from
from edgekd.scratch import temporary
from edgekd.structure import shown
from edgekd.watching import Silent, Watch

APART = {"layers": False, "sweep": False, "sustained_s": 0.0, "energy": False}
"""Fields of a policy whose measurements are made beside the timing, and not repeated."""


@dataclass(frozen=True)
class Verification:
    """What was found, and the two records it was found from."""

    device: str
    judgement: Judgement
    tries: int
    """Measurements that were made: a change of speed has to show twice."""
    old: Mapping[str, Any]
    now: Mapping[str, Any]

    @property
    def regression(self) -> bool:
        return self.judgement.verdict in REGRESSIONS

    def passed(self, *, gate: bool) -> bool:
        """Whether to go on; a gate does not let through what could not be told.

        Nor does anything let through what was slower once and could not be measured again.
        """
        if self.regression or self.judgement.unconfirmed:
            return False
        return not (gate and self.judgement.verdict == "cannot tell")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self.judgement)
        for figure, plain in zip(self.judgement.figures, found["figures"], strict=True):
            plain["change"] = figure.change
        return {
            "device": self.device,
            "verdict": self.judgement.verdict,
            "regression": self.regression,
            "sentence": self.judgement.sentence,
            "tries": self.tries,
            **{name: found[name] for name in ("figures", "answers", "accuracy", "conditions")},
            "unconfirmed": self.judgement.unconfirmed,
            "old": dict(self.old),
            "now": dict(self.now),
        }


def verify(
    path: Path,
    device: str = "local",
    *,
    max_seconds: float | None = None,
    data: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Verification:
    """Repeat the proof that an artifact holds for a device; the proof stays as it is.

    Args:
        path: the artifact's folder.
        device: how to reach it; see :func:`edgekd.devices.reach`.
        max_seconds: end a timing then, in place of the proof's own limit.
        data: fields of the recipe's data table to replace, such as a folder that was moved.
        watch: told the stages.

    Raises:
        UsageError: there is no proof for the device, or it cannot be repeated as it was made.
        DataError: the test images are not those of the proof.
        DeviceError: the device or the runtime on it refused.
    """
    if path.is_dir():
        model_file(path)  # of a network it says that it has to be exported first
    proof = read(path, reach(device).name)
    policy = _policy(proof.record, max_seconds)
    truth, targets = _truth(proof, data or {})
    watch = watch or Silent()
    now = _again(path, proof, policy, device, truth, watch)
    judgement, tries = judge(proof, now, targets), 1
    if judgement.verdict in DOUBTED:
        watch.say(f"{judgement.verdict} than the proof: measuring once more, in another process")
        now = _again(path, proof, policy, device, truth, watch)
        judgement, tries = settled(judgement, judge(proof, now, targets)), 2
    return Verification(proof.device, judgement, tries, proof.record, now.record)


def _policy(record: Mapping[str, Any], max_seconds: float | None) -> Policy:
    """How it was measured, and the threads it came to."""
    asked = dict(record["evidence"]["asked"])
    unknown = sorted(set(asked) - set(Policy.__dataclass_fields__))
    if unknown:
        raise UsageError(
            f"the proof was measured by edgekd {record['edgekd_version']} with {unknown[0]}, which "
            "this edgekd does not know. Update edgekd, or run edgekd profile again."
        )
    odd = [name for name, value in asked.items() if not _fits(value, name)]
    if odd:
        raise UsageError(
            f"the proof says that it was measured with {odd[0]} = {shown(asked[odd[0]])}, which it "
            "cannot have been. Remove it, and run edgekd profile on that device again."
        )
    if asked.get("image_size") is not None:
        asked["image_size"] = tuple(asked["image_size"])
    asked |= {**APART, "threads": record["policy"]["threads"]}
    return Policy(**(asked if max_seconds is None else asked | {"max_seconds": max_seconds}))


def _fits(value: Any, name: str) -> bool:
    """Whether a value is of the kind that a field of a policy has."""
    if name == "image_size":
        sides = value if isinstance(value, list) else []
        return value is None or (len(sides) == 2 and all(type(side) is int for side in sides))
    usual = getattr(Policy, name)
    kinds = (int, float) if isinstance(usual, float) else type(usual)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(usual, bool)


def _truth(proof: Proof, given: Mapping[str, Any]) -> tuple[Truth | None, list[int] | None]:
    """Where the images of the proof are, and their true classes."""
    if proof.data is None or proof.predictions is None:
        if given:
            raise UsageError(
                "the proof was made without images, so there are no predictions to compare. Leave "
                "--data out, or run edgekd profile with it first."
            )
        return None, None
    from edgekd.loading import open_splits

    data = recipe_from({"data": {**proof.data, **given}}).data
    targets = [int(target) for target in open_splits(data).test.targets]
    if len(targets) != len(proof.predictions):
        raise DataError(
            f"the data changed: {data.source} has {len(targets):,} test images, and the proof is "
            f"of {len(proof.predictions):,}. {_SAME_DATA}"
        )
    return Truth(data, reference=proof.predictions), targets


_SAME_DATA = "Give the same images with --data, or run edgekd profile again."


def _again(
    path: Path, proof: Proof, policy: Policy, device: str, truth: Truth | None, watch: Watch
) -> Proof:
    """Measure a double of the artifact, so that its own proof is not replaced.

    What was timed in turn with another model, whose traces it found in the caches, is timed in turn
    with itself.
    """
    count = 2 if proof.record["policy"]["order"] == "interleaved" else 1
    with temporary() as folder:
        doubles = [folder / str(index) / path.resolve().name for index in range(count)]
        for double in doubles:
            _double(path, double)
        measure(doubles, policy, device, truth, None, watch)
        try:
            now = read(doubles[0], proof.device)
        except UsageError as error:  # it is the double's, which nobody has heard of
            raise UsageError(
                f"{path} was measured, and what was found could not be kept in {folder.parent} to "
                "be compared. Free some space there, or set TMPDIR to a folder in another place."
            ) from error
    _check_input(proof, now)
    return now


def _double(path: Path, double: Path) -> None:
    """The same artifact at another place, without its proofs."""
    double.mkdir(parents=True)
    for name in (MANIFEST, *read_manifest(path)["files"]):
        try:
            (double / name).symlink_to((path / name).resolve())
        except OSError:  # a system that keeps links from its users
            shutil.copyfile(path / name, double / name)


def _check_input(proof: Proof, now: Proof) -> None:
    """Other inputs have other answers, and it would be nobody's fault."""
    if proof.images_sha256 != now.images_sha256:
        raise DataError(
            f"the data changed: the test images have sha256 {str(now.images_sha256)[:12]}, those "
            f"of the proof {str(proof.images_sha256)[:12]}. {_SAME_DATA}"
        )
    then, found = proof.record["policy"]["input"], now.record["policy"]["input"]
    if then != found:
        raise UsageError(
            f"the proof was timed on {then!r}, and what can be timed now is {found!r}. See that "
            "the same is there (the photographs come with scikit-learn), or run edgekd profile "
            "again."
        )
