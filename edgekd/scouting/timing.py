"""Timing: entries on a device, a few in each job and the same anchor in all of them."""

from __future__ import annotations

import random
import secrets
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgekd.devices import Device, Event, address, discard
from edgekd.errors import DeviceError, LinkError
from edgekd.profiling import Policy, profile
from edgekd.scouting.efforts import FIRST_RUNS, Effort
from edgekd.scouting.keeping import Kept, Store
from edgekd.scouting.ranking import Entry
from edgekd.scouting.writing import Files, UnwrittenError
from edgekd.watching import Watch

JOB = 8
"""Entries timed in turn, beside the anchor."""
SEED = 0
ANCHORS = 3
"""So many that fail one after the other are the device's fault, not theirs."""

Tell = Callable[[int, str], None]
"""Told how many entries are done, and what is being done."""


@dataclass(frozen=True)
class Outcome:
    """What timing an entry came to: a record, or why there is none."""

    record: Mapping[str, Any] | None
    failed: str | None = None
    cached: bool = False


@dataclass(frozen=True)
class Noise:
    """How much the anchor's median differed from job to job, where only its neighbours did."""

    name: str
    medians: tuple[float, ...]
    """In ms, one a job."""

    @property
    def spread(self) -> float | None:
        """The largest distance from their median, as a share of it; None with a single job."""
        if len(self.medians) < 2:
            return None
        middle = statistics.median(self.medians)
        return max(abs(ms - middle) for ms in self.medians) / middle


@dataclass
class Stand:
    """Where entries are timed; it keeps what it measured, and sends each file once.

    Args:
        device: where.
        policy: of the scouting, before a round shortens it.
        files: of the entries.
        store: what was measured before.
        watch: told what the device says.
    """

    device: Device
    policy: Policy
    files: Files
    store: Store
    watch: Watch
    _broken: dict[str, str] = field(default_factory=dict)
    _medians: dict[str, float] = field(default_factory=dict)
    _anchors: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Job -> the anchor's key, and its median there."""
    _unsteady: dict[str, Kept] = field(default_factory=dict)
    """What an earlier scout kept of those that are timed once more."""
    _made: set[str] = field(default_factory=set)
    """Jobs of this scout."""
    _anchor: Entry | None = None
    _all: tuple[Entry, ...] = ()

    def time(self, entries: Sequence[Entry], effort: Effort, tell: Tell) -> dict[str, Outcome]:
        """Time entries as thoroughly as a round has to; what is kept is not timed again.

        But for what an earlier scout could not time steadily: that gets another try.

        Returns:
            Their outcomes, by key.

        Raises:
            DeviceError: the device cannot measure anything, or the link to it was lost.
        """
        self._all = self._all or tuple(entries)
        outcomes = self._recalled(entries, effort)
        pending = [each for each in entries if each.key not in outcomes]
        random.Random(SEED).shuffle(pending)
        if pending:
            anchor = self._settle(lambda note: tell(len(outcomes), note))
            pending = [each for each in pending if each.key not in self._broken]
            # with the anchor, every job has the same neighbour to begin with
            others = [each for each in pending if each != anchor]
            for first in range(0, max(len(others), 1), JOB):
                group, after = (others[k : k + JOB] for k in (first, first + JOB))
                extra = [anchor] if first == 0 and anchor in pending else []
                group = self._written(group, lambda note: tell(len(outcomes), note))
                self.files.begin(after)
                self._job(anchor, group, extra, effort, outcomes, tell)
        return outcomes | {
            each.key: self._of_broken(each) for each in entries if each.key in self._broken
        }

    def noise(self) -> Noise | None:
        """What the anchor of most jobs says; None where there was none."""
        if not self._anchors:
            return None
        name = statistics.mode(key for key, _ in self._anchors.values())
        return Noise(name, tuple(ms for key, ms in self._anchors.values() if key == name))

    def drop(self, entries: Sequence[Entry]) -> None:
        """Delete the files of entries, here and on the device; an SD card is small."""
        self._remove([each.key for each in entries if each != self._anchor])

    def clear(self) -> None:
        """Delete all files, and write no more."""
        self._remove(self.files.end())

    def _remove(self, keys: Sequence[str]) -> None:
        files = self.files.lying(keys)
        if files:
            discard(self.device, [address(file) for file in files])
        self.files.remove(keys)

    def _recalled(self, entries: Sequence[Entry], effort: Effort) -> dict[str, Outcome]:
        found = {}
        for each in entries:
            kept = self.store.find(each, effort)
            if kept is None:
                continue
            self._note(each, kept)
            if kept.settled or kept.job in self._made or kept.runs > effort.runs:
                found[each.key] = Outcome(kept.record, cached=True)
            else:
                self._unsteady[each.key] = kept
        return found

    def _of_broken(self, entry: Entry) -> Outcome:
        """Of one that cannot be run: what an earlier scout had of it, or why it cannot."""
        before = self._unsteady.get(entry.key)
        if before is not None:
            return Outcome(before.record, cached=True)
        return Outcome(None, self._broken[entry.key])

    def _note(self, entry: Entry, kept: Kept) -> None:
        self._medians[entry.key] = float(kept.record["timing"]["median"]["value"])
        if kept.anchor_ms is not None:
            self._anchors[kept.job] = (kept.anchor, kept.anchor_ms)

    def _settle(self, tell: Callable[[str], None]) -> Entry:
        """The anchor: of middling size, and one that the device was seen to run.

        Raises:
            DeviceError: three of them could not be run: it is not the networks that fail.
        """
        if self._anchor is not None:
            return self._anchor
        ordered = sorted(self._all, key=lambda each: each.candidate.macs)
        first, centre = self._all[0].precision, len(ordered) // 2
        middling = sorted(
            ordered, key=lambda each: (each.precision != first, abs(ordered.index(each) - centre))
        )
        tried: list[str] = []
        for each in middling:
            try:
                tell(f"trying {each.key}")
                self._profiled([each], Effort(FIRST_RUNS))
            except DeviceError as error:
                _check_link(error)
                tried.append(self._break(each, error))
                if len(tried) == ANCHORS:
                    raise
            except UnwrittenError as error:
                tried.append(self._break(each, error))
            else:
                self._anchor = each
                return each
        raise DeviceError(
            f"{self.device.name}: none of {len(tried)} candidates could be measured. "
            f"The last one: {tried[-1]}"
        )

    def _job(
        self,
        anchor: Entry,
        group: Sequence[Entry],
        extra: Sequence[Entry],
        effort: Effort,
        outcomes: dict[str, Outcome],
        tell: Tell,
    ) -> None:
        """Time a group beside the anchor; one that cannot be run is found by halving the group.

        Args:
            anchor: first in every job.
            group: the others.
            extra: the anchor once more, where its own record is wanted as well.
            effort: how thoroughly.
            outcomes: added to.
            tell: told.
        """
        if not group and not extra:
            return
        tell(len(outcomes), f"timing {len(group) + 1}")
        try:
            records = self._profiled([anchor, *group], effort)
        except DeviceError as error:
            _check_link(error)
            if not group:
                raise
            if len(group) == 1 and not extra:
                self._break(group[0], error)
                return
            half = len(group) // 2
            for part, more in ((group[:half], ()), (group[half:], ()), ([], extra)):
                self._job(anchor, part, more, effort, outcomes, tell)
            return
        job, (first, *others) = secrets.token_hex(8), records
        anchor_ms = float(first["timing"]["median"]["value"]) if group else None
        self._made.add(job)
        made = [*zip(group, others, strict=True), *((each, first) for each in extra)]
        for each, record in made:
            kept = Kept(record, job, anchor.key, anchor_ms, effort.runs)
            outcomes[each.key] = self._better(each, kept, effort)
        tell(len(outcomes), "")

    def _better(self, entry: Entry, kept: Kept, effort: Effort) -> Outcome:
        """Keep a measurement, or the one of an earlier scout where that is the better one."""
        before = self._unsteady.pop(entry.key, None)
        if before is not None:
            chosen = kept if kept.better(before) else before
            kept = replace(chosen, tries=before.tries + 1)
        self.store.keep(entry, effort, kept)
        self._note(entry, kept)
        return Outcome(kept.record, cached=before is not None and kept.record is before.record)

    def _profiled(self, entries: Sequence[Entry], effort: Effort) -> list[dict[str, Any]]:
        files = [self.files.file(each) for each in entries]
        known = [self._medians.get(each.key, 0.0) for each in entries]
        known = [ms or max(known) for ms in known]  # the anchor's own, which is timed twice
        policy = effort.policy(self.policy, [*known, known[0]])
        found = profile(files, self.device, policy, on_event=self._hear)
        return [record for record in found if "timing" in record]

    def _hear(self, event: Event) -> None:
        if event["event"] == "note":
            self.watch.say(str(event["text"]))

    def _written(self, group: Sequence[Entry], tell: Callable[[str], None]) -> list[Entry]:
        """Those of a group whose files could be written."""
        done = []
        for each in group:
            try:
                if not self.files.has(each):
                    tell(f"writing {each.key}")
                self.files.file(each)
            except UnwrittenError as error:
                self._break(each, error)
            else:
                done.append(each)
        return done

    def _break(self, entry: Entry, error: Exception) -> str:
        said = str(error).removeprefix(f"{self.device.name}: ")
        self._broken[entry.key] = said
        self.watch.say(f"{entry.key} is left out: {said}")
        return said


def _check_link(error: DeviceError) -> None:
    """Raise again what says nothing of a network: what was measured is kept for the next time.

    A link that is there while the agent was ended is another matter: too much memory ends it.
    """
    if isinstance(error, LinkError) and not error.beyond:
        raise error
