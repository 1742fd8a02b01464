"""Keeping: measurements of candidates, kept as they come, so that none is ever made twice.

They lie in ``$XDG_CACHE_HOME/edgekd/scouts/KEY/``, where the key is a hash of all that a latency
depends on but the network: the device, its CPUs and governor, the runtime, what writes the files,
edgekd itself, and the policy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgekd import __version__
from edgekd.devices import AGENT
from edgekd.errors import UsageError, reason
from edgekd.files import cache_folder, read_json, write_json
from edgekd.profiling import Policy
from edgekd.scouting.efforts import Effort
from edgekd.scouting.ranking import Entry
from edgekd.scouting.releases import release

FACTS = (
    "soc",
    "cpu",
    "gpu",
    "ram_bytes",
    "machine",
    "power_mode",
    "governor",
    "physical_cores",
    "affinity",
    "core_max_khz",
    "cpu_limit",
)
"""What of a device decides how fast it is."""
WRITERS = ("torch", "onnx", "onnxscript", "onnxruntime", "timm", "torchvision")
CARELESS = {"energy", "energy_s", "idle_s", "wait_s", "timeout_s"}
"""Fields of a policy that change no latency; whether a meter was read is kept beside the record."""
VERSION = 2
TRIES = 3
"""So often an entry is timed in as many scouts, if it cannot be timed steadily."""
REFUSED = "refused"


@dataclass(frozen=True)
class Kept:
    """A measurement, and the job that it was made in."""

    record: Mapping[str, Any]
    job: str
    """The same for all that were timed in turn."""
    anchor: str
    """Key of the entry that every job holds."""
    anchor_ms: float | None
    """The anchor's median in that job; None where it was alone."""
    runs: int = 0
    """How thoroughly; see :class:`edgekd.scouting.efforts.Effort`."""
    tries: int = 1
    """How often it was timed; the best one is kept."""

    @property
    def settled(self) -> bool:
        """Whether timing it once more promises nothing."""
        return self.steady or self.tries >= TRIES

    @property
    def steady(self) -> bool:
        return bool(self.record["verdict"]["state"] == "stable")

    def better(self, other: Kept) -> bool:
        """Whether this one is to be trusted more than another: steady, or else the narrower one."""
        return (not self.steady, self._width) <= (not other.steady, other._width)

    @property
    def _width(self) -> float:
        """Of the median's interval, as a share of it."""
        median = self.record["timing"]["median"]
        if median["lo"] is None or median["hi"] is None:
            return math.inf
        return float((median["hi"] - median["lo"]) / median["value"])


def environment(
    device: str, facts: Mapping[str, Any], packages: Mapping[str, str], policy: Policy
) -> dict[str, Any]:
    """All that a latency depends on but the network.

    Args:
        device: its name; two boards of a kind are cooled differently.
        facts: what the agent sees there.
        packages: releases there.
        policy: of the scouting.
    """
    decided = {name: value for name, value in asdict(policy).items() if name not in CARELESS}
    return {
        "version": VERSION,
        "edgekd": __version__,
        "agent": AGENT,
        "device": device,
        "facts": {name: facts.get(name) for name in FACTS},
        "packages": dict(sorted(packages.items())),
        "writers": {name: release(name) for name in WRITERS},
        "policy": decided,
    }


class Store:
    """The measurements of one environment.

    Args:
        around: as :func:`environment` gives it.
        classes: outputs of the candidates' heads.
    """

    def __init__(self, around: Mapping[str, Any], classes: int) -> None:
        text = json.dumps(around, sort_keys=True)
        self.folder = cache_folder("scouts") / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._around, self._classes = around, classes
        self._refused: dict[str, str] = {}
        self.unkept = ""
        """Why nothing is kept, where the user's cache cannot be written."""

    def find(self, entry: Entry, effort: Effort) -> Kept | None:
        """The most thorough measurement that is thorough enough; a damaged file is none."""
        found = []
        for file in sorted(self.folder.glob(f"{self._name(entry)}.*.json")):
            with suppress(ValueError, KeyError, TypeError, OSError):
                said = read_json(file)
                if not self._of(entry, said) or said["runs"] < effort.runs:
                    continue
                if effort.energy and not said["energy"]:
                    continue
                kept = Kept(**{each.name: said[each.name] for each in fields(Kept)})
                _ = kept.better(kept), kept.record["timing"]["mean"]  # refuses what is no record
                found.append(kept)
        return max(found, key=lambda kept: kept.runs, default=None)

    def keep(self, entry: Entry, effort: Effort, kept: Kept) -> None:
        """Write a measurement down; what it was measured in lies beside it, for who looks."""
        name = f"{effort.runs}{'e' * effort.energy}"
        self._write(entry, name, {**vars(kept), "runs": effort.runs, "energy": effort.energy})

    def refuse(self, entry: Entry, why: str) -> None:
        """Write down that an entry's file could not be written: the same releases refuse it again.

        The device's own releases are in the key, too, so that it is tried again after an update.
        """
        self._refused[self._name(entry)] = why
        self._write(entry, REFUSED, {"why": why})

    def refused(self, entry: Entry) -> str | None:
        """Why an entry's file could not be written; None where nothing is known of that."""
        with suppress(ValueError, KeyError, TypeError, OSError):
            file = self.folder / f"{self._name(entry)}.{REFUSED}.json"
            said = read_json(file)
            return str(said["why"]) if self._of(entry, said) else None
        return self._refused.get(self._name(entry))

    def forget(self, entries: Sequence[Entry]) -> None:
        """Delete what is kept of some, to measure them anew."""
        for entry in entries:
            for file in self.folder.glob(f"{self._name(entry)}.*.json"):
                file.unlink(missing_ok=True)

    def _write(self, entry: Entry, name: str, said: Mapping[str, Any]) -> None:
        about = {
            "name": entry.candidate.name,
            "size": entry.candidate.size,
            "macs": entry.candidate.macs,
            "precision": entry.precision,
        }
        beside = self.folder / "environment.json"
        try:
            if not beside.is_file():
                write_json(beside, self._around)
            write_json(self.folder / f"{self._name(entry)}.{name}.json", {"entry": about, **said})
        except UsageError as error:  # with advice for a place that was chosen, which this is not
            why = error.__cause__
            cause = reason(why) if isinstance(why, OSError) else str(error)
            self.unkept = f"cannot write {self.folder}: {cause}."

    @staticmethod
    def _of(entry: Entry, said: Mapping[str, Any]) -> bool:
        """Whether it is of this network, and not of another one that was called so."""
        found = said["entry"]["name"], said["entry"]["macs"]
        return found == (entry.candidate.name, entry.candidate.macs)

    def _name(self, entry: Entry) -> str:
        return f"{entry.candidate.key}-{self._classes}c-{entry.precision}"
