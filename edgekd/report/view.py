"""What a run folder holds, as the report sees it: plain, frozen, and safe to share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("teacher", "baseline", "attempt", "student")
"""In the order in which the report lists them; the student, the result, comes last. An attempt is a
student that was trained for a budget and not taken."""
EXPORTED = ("onnx", "tensorrt")
"""Kinds of artifacts that are files for a runtime."""


@dataclass(frozen=True)
class ArtifactView:
    """One artifact's manifest; ``path`` is relative to the run folder."""

    path: str
    sha256: str
    manifest: Mapping[str, Any]
    standing: str = ""
    """Its role in this folder, where that is not the one in its manifest."""
    called: str = ""
    """What tells it from others of its network: an attempt's key, or a method and a seed."""

    @property
    def kind(self) -> str:
        return str(self.manifest.get("kind"))

    @property
    def role(self) -> str:
        return self.standing or str(self.manifest.get("role") or "")

    @property
    def name(self) -> str:
        return str(dig(self.manifest, "model", "name") or self.path)

    @property
    def parent(self) -> str:
        return str(dig(self.manifest, "parent", "sha256") or "")

    @property
    def export(self) -> Mapping[str, Any]:
        """What its export found; empty where it is none."""
        found = self.manifest.get("export")
        return found if isinstance(found, Mapping) else {}

    @property
    def precision(self) -> str:
        """The precision that was found in its file, or was asked for in those of old."""
        found = self.export.get("precision")
        if isinstance(found, Mapping):
            found = found.get("found") or found.get("asked")
        return found if isinstance(found, str) else ""

    @property
    def lowered(self) -> bool:
        """Whether its file computes with less than the network was trained with."""
        return self.kind in EXPORTED and self.precision not in ("", "fp32")

    @property
    def model_files(self) -> Mapping[str, Any]:
        """The files that a runtime opens; beside an engine lies the graph it was built from."""
        files = self.manifest.get("files")
        found = files if isinstance(files, Mapping) else {}
        return {
            name: entry
            for name, entry in found.items()
            if (name == "model.plan" if self.kind == "tensorrt" else name.startswith("model."))
        }

    @property
    def hashes(self) -> frozenset[str]:
        """Every hash by which a measurement may name this artifact."""
        entries = self.model_files.values()
        return frozenset({self.sha256, *(str(dig(entry, "sha256")) for entry in entries)})


@dataclass(frozen=True)
class LossPoint:
    """The loss terms at one moment; ``epoch`` counts from 0, with the fraction that was done."""

    epoch: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class EpochPoint:
    """What the validation split said after ``epoch`` epochs."""

    epoch: float
    validation: Mapping[str, float]


@dataclass(frozen=True)
class Training:
    """The curves of one training; ``name`` is a role, or the folder it was found in."""

    name: str
    path: str
    losses: tuple[LossPoint, ...]
    epochs: tuple[EpochPoint, ...]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and how many trials it rests on."""

    value: float
    lo: float | None = None
    hi: float | None = None
    n: int | None = None
    source: str = ""
    """Where it was found: a split, or the device."""


@dataclass(frozen=True)
class Percentile:
    """A latency percentile in ms, or the reason why there is none."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """One line of the results: a network as it was exported and measured, as far as it was."""

    role: str
    network: str
    precision: str = ""
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    accuracy: Estimate | None = None
    latency: Mapping[str, Percentile] = field(default_factory=dict)
    """``median`` (its interval is blind to no drift) and ``p50`` to ``p99``, in ms."""
    peak_rss_bytes: int | None = None
    device: str = ""
    """What a person would call it: its name, board and processor."""
    place: str = ""
    """The name by which devices are told apart."""
    runtime: str = ""
    clock: str = ""
    """What the latency is the time of: ``inference``, ``end_to_end`` or ``compute``."""
    model: str = ""
    """The hash of the file that was measured."""
    state: str = ""
    """The measurement's verdict: ``stable``, ``noisy`` ..."""
    called: str = ""
    """What tells it from others of its network: an attempt's key, or a method and a seed."""

    @property
    def median(self) -> Percentile | None:
        """The typical latency, with the interval over the blocks where there is one."""
        return self.latency.get("median") or self.latency.get("p50")

    @property
    def median_ms(self) -> float | None:
        return self.median.value if self.median else None


@dataclass(frozen=True)
class Answered:
    """What a network answered for the test images."""

    role: str
    name: str
    path: str
    n: int
    counts: tuple[tuple[int, ...], ...]
    """Images by true class, then by answer; empty where the classes are too many to look at."""


@dataclass(frozen=True)
class ClassChange:
    """The accuracy of two networks on the images of one class, paired image by image."""

    against: str
    """The role of the network that is changed from; to the student."""
    index: int
    label: str
    n: int
    before: float
    after: float
    delta: float
    lo: float
    hi: float


@dataclass(frozen=True)
class RunView:
    """Everything the report says; nothing in it names a person, a machine or a folder outside."""

    artifacts: tuple[ArtifactView, ...]
    records: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Mapping[str, Any], ...]
    trainings: tuple[Training, ...]
    run: Mapping[str, Any]
    recipe: str
    results: tuple[Result, ...]
    rejected: tuple[str, ...] = ()
    """Files that failed their proof and must not be used, relative to the run folder."""
    failures: tuple[Mapping[str, Any], ...] = ()
    """Devices that gave no answer, and why."""
    scout: Mapping[str, Any] = field(default_factory=dict)
    """What ``edgekd scout`` found before any training; empty where it was not asked."""
    compare: Mapping[str, Any] = field(default_factory=dict)
    """What ``edgekd compare`` found of methods side by side."""
    answered: tuple[Answered, ...] = ()
    changes: tuple[ClassChange, ...] = ()

    @property
    def exports(self) -> tuple[ArtifactView, ...]:
        """The artifacts that are files for a runtime."""
        return tuple(artifact for artifact in self.artifacts if artifact.kind in EXPORTED)

    @property
    def budget(self) -> Mapping[str, Any]:
        """What became of the run's budget; empty where it had none."""
        found = self.run.get("budget")
        return found if isinstance(found, Mapping) else {}

    def result(self, role: str) -> Result | None:
        """The measured line of a role if there is one, else its first."""
        lines = [result for result in self.results if result.role == role]
        return next((line for line in lines if line.latency), lines[0] if lines else None)


def role_rank(role: str) -> int:
    """Where a role stands in the report; what has none comes last."""
    return ROLES.index(role) if role in ROLES else len(ROLES)


def dig(value: Any, *keys: str) -> Any:
    """The value under nested keys, or None where any of them is missing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested tables and lists of tables, under its dotted key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{prefix}{key}.")
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{prefix}{index + 1}.")
    elif value is not None:
        yield prefix.rstrip("."), value


def number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def listed(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def count(value: Any) -> int | None:
    """The value as a whole number, or None where it is not one."""
    found = number(value)
    return None if found is None else round(found)
