"""A sitting: everything that one device does in a call."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd import records
from edgekd.devices import Device
from edgekd.errors import EdgeKDError
from edgekd.flow.findings import Found, Proofs, judge, prove
from edgekd.flow.gallery import Gallery, Shown
from edgekd.flow.grouping import Group
from edgekd.flow.hearing import Heard
from edgekd.flow.references import Reference
from edgekd.profiling import called, profile
from edgekd.shortage import is_shortage, shortage_of
from edgekd.watching import Watch


@dataclass(frozen=True)
class Order:
    """What is the same for all devices of a call."""

    gallery: Gallery | None = None
    """The test images; without them no accuracy is measured."""
    references: Mapping[Path, Reference] = field(default_factory=dict)
    proofs: Proofs = Proofs.OPTIONAL
    """Whether to keep what was found in the artifacts' folders."""
    clean: bool = False
    """Whether to leave nothing on the devices but environments: profiles name their Pythons."""
    alone: bool = True
    """Whether there is one device only: then what it fails with is raised."""


@dataclass(frozen=True)
class Seat:
    """A device, and what is to be measured on it."""

    device: Device
    groups: Sequence[Group]


@dataclass
class Outcome:
    """What a device left."""

    records: list[dict[str, Any]] = field(default_factory=list)
    """Measurements and comparisons, and a failure for each group that could not be measured."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """The rows of raw runs, in order."""
    found: list[Found] = field(default_factory=list)
    """What the models said, with their answers."""


def sit(seat: Seat, order: Order, watch: Watch, stop: threading.Event) -> Outcome:
    """Measure group after group; where there are other devices, a group that fails is noted.

    Raises:
        EdgeKDError: this is the only device, and it failed.
        KeyboardInterrupt: ``stop`` was set.
    """
    outcome = Outcome()
    found = outcome.found
    try:
        for group in seat.groups:
            heard = Heard(watch, group.policy, stop)
            try:
                found += _measure(seat.device, group, order, outcome, heard)
            except Exception as error:  # whatever it is: the other devices' results are kept
                if order.alone:
                    raise
                name, message = seat.device.name, _message(error)
                message = message.removeprefix(f"{name}: ")  # the record says it already
                outcome.records.append(records.failure(name, called(group.files), message))
                watch.say(f"failed: {message}")
    finally:
        if order.clean:
            _clear(seat.device, watch)
    _finish(seat.device, found, order, watch)
    return outcome


def inputs_of(group: Group, gallery: Gallery | None) -> tuple[dict[str, Any], Shown | None]:
    """The files that a group is shown, made where they were not yet; and the decoded images."""
    inputs: dict[str, Any] = {}
    shown = None
    if gallery is not None and group.input is not None:
        shown = gallery.shown(group.input)
        inputs |= {"images": shown.images, "targets": shown.targets}
    if group.policy.clock == "end_to_end":
        inputs["preprocess"] = group.taken
        if gallery is not None:
            inputs["encoded"] = gallery.encoded(group.policy.batch_size)
    return inputs, shown


def _measure(
    device: Device, group: Group, order: Order, outcome: Outcome, heard: Heard
) -> list[Found]:
    """One job of the agent's."""
    inputs, shown = inputs_of(group, order.gallery)
    made = profile(group.files, device, group.policy, on_event=heard, **inputs)
    heard.timed()
    rows = (row for event in heard.samples for row in records.sample_lines(event))
    if not order.alone:
        rows = ({"device": device.name, **row} for row in rows)
        for record in made:
            if "comparison" in record:
                record["comparison"] = {**record["comparison"], "device": device.name}
    outcome.records += made
    outcome.samples += rows
    return [
        Found(path, made[index], said["predictions"], said["answers"], shown)
        for index, path in enumerate(group.models)
        for said in [heard.found[index]]
    ]


def _finish(device: Device, found: Sequence[Found], order: Order, watch: Watch) -> None:
    """What is left to be done where all models were measured that can be."""
    if order.gallery is not None:
        for each in found:
            judge(each, found, order.references[each.path], order.gallery, watch)
    for each in found:
        prove(each, device.name, order.gallery, watch, order.proofs)


def _message(error: Exception) -> str:
    """What a person is told of a failure; of a fault of edgekd's own, where it is."""
    if is_shortage(error):
        return str(shortage_of(error))
    if isinstance(error, EdgeKDError | OSError):
        return str(error)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"edgekd itself is at fault: {error!r} in {Path(at.filename).name}, line {at.lineno}. "
        "Please report it; alone (--device), the device shows the whole of it."
    )


def _clear(device: Device, watch: Watch) -> None:
    """What was measured is kept, even if the device is gone by now."""
    try:
        device.clear(environments=False)
    except EdgeKDError as error:
        watch.say(f"what edgekd left on {device.name} could not be removed: {error}")
