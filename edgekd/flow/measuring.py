"""Measure models on devices: latency on real images, accuracy on the test images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.claims import claim_name
from edgekd.devices import Device, reach
from edgekd.errors import UsageError
from edgekd.files import check_folder, check_ordinary, read_json, write_json, write_text
from edgekd.flow.findings import Proofs
from edgekd.flow.gallery import Gallery, SplitName
from edgekd.flow.grouping import groups_of, model_file
from edgekd.flow.references import find_references
from edgekd.flow.side_by_side import side_by_side
from edgekd.flow.sitting import Order, Outcome, Seat, inputs_of
from edgekd.profiling import Policy
from edgekd.recipe import Data
from edgekd.schema import RECORD
from edgekd.scratch import temporary
from edgekd.watching import Silent, Watch

__all__ = ["Truth", "check_earlier", "measure", "model_file", "observe"]

OWN = {RECORD.key, "timing", "failure"}
"""Keys of a record, of which each has one, whatever release it is of."""
SAMPLES = ".samples.jsonl"
LONGEST_ROW = 4096


@dataclass(frozen=True)
class Truth:
    """What accuracy is measured on."""

    data: Data
    reference: Sequence[int] | None = None
    """Classes the float network behind the first model chose for the same images."""
    split: SplitName = "test"
    """``validation`` where something is chosen by what is found."""


def measure(
    models: Sequence[Path],
    policy: Policy | Mapping[str, Policy],
    device: str | Sequence[str] = "local",
    truth: Truth | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    *,
    proofs: Proofs = Proofs.OPTIONAL,
    clean: bool = False,
) -> list[dict[str, Any]]:
    """Profile artifacts or plain ``.onnx`` files, interleaved, and keep what was measured.

    Engines run in TensorRT whatever the policy's runtime is, unless that is another one by name.

    Args:
        models: exported folders, or files. Those that run in the same runtime and take images made
            in the same way are timed in turn and compared; others one after the other.
        policy: how to measure, or how to on each device.
        device: how to reach it; see :func:`edgekd.devices.reach`. Several are measured side by
            side: what one of them fails with is a record then, and the others' results are kept.
        truth: the images to measure accuracy on; ``None`` measures none.
        out: ``profile.json`` is written here, and the raw samples beside it as JSON lines.
        watch: told the stages.
        proofs: keep what was found in each artifact's folder, for ``edgekd verify``.
        clean: remove what edgekd keeps on the devices afterwards, but for environments.

    Returns:
        The records of :func:`edgekd.profiling.profile`, device by device; accuracies paired with
        the float network's where it is found.

    Raises:
        UsageError: a model, a device or a policy that cannot be; before anything is measured.
        DeviceError: the only device failed.
    """
    if out is not None:
        check_ordinary(out)
        out = _behind(out)
        _check_file(out)
    with nullcontext() if out is None else claim_name(out, "profile"):
        outcomes = observe(models, policy, device, truth, watch, proofs=proofs, clean=clean)
        records = [record for outcome in outcomes for record in outcome.records]
        if out is not None:
            rows = (json.dumps(row) for outcome in outcomes for row in outcome.samples)
            # first what belongs to it: where profile.json is, nothing is missing
            write_text(out.with_suffix(SAMPLES), "".join(f"{row}\n" for row in rows))
            write_json(out, records)
    return records


def observe(
    models: Sequence[Path],
    policy: Policy | Mapping[str, Policy],
    device: str | Sequence[str] = "local",
    truth: Truth | None = None,
    watch: Watch | None = None,
    *,
    proofs: Proofs = Proofs.OPTIONAL,
    clean: bool = False,
) -> list[Outcome]:
    """Do what :func:`measure` does and write nothing but proofs.

    Returns:
        For each device its records, its raw samples, and what each model answered.
    """
    names = [device] if isinstance(device, str) else list(device)
    seats = [
        Seat(place, groups_of(models, policy if isinstance(policy, Policy) else policy[name]))
        for name, place in zip(names, _reached(names), strict=True)
    ]
    watch = watch or Silent()
    with temporary() as folder:
        gallery = _prepared(folder, truth, models, seats, watch)
        references = {}
        if truth is not None and gallery is not None:
            references = find_references(models, truth.reference, gallery, watch)
        order = Order(gallery, references, proofs, clean, alone=len(seats) == 1)
        return side_by_side(seats, order, watch)


def _check_file(out: Path) -> None:
    """Before half a minute is spent, refuse a place for the result where it cannot be written."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Expected a file, such as --output profile.json.")
    check_folder(out.parent)


def _behind(out: Path) -> Path:
    """The file itself: a link stays one, and the samples lie beside what it leads to."""
    return Path(os.path.realpath(out)) if out.is_symlink() else out


def check_earlier(out: Path) -> None:
    """Refuse to replace a file that is no earlier measurement; an empty one is nobody's.

    Raises:
        UsageError: it is another one.
    """
    out = _behind(out)
    samples = out.with_suffix(SAMPLES)
    if samples.is_file() and not _are_samples(samples):
        raise _foreign(samples)
    if not out.is_file() or out.stat().st_size == 0:
        return
    with suppress(OSError, ValueError):
        found = read_json(out)
        if isinstance(found, list) and all(isinstance(one, dict) and OWN & {*one} for one in found):
            return
    raise _foreign(out)


def _are_samples(file: Path) -> bool:
    with suppress(OSError, ValueError, RecursionError), file.open("rb") as content:
        first = content.readline(LONGEST_ROW)
        row = json.loads(first) if first else {"wall_ns": 0}  # an empty file is nobody's
        return isinstance(row, dict) and "wall_ns" in row
    return False


def _foreign(file: Path) -> UsageError:
    return UsageError(
        f"{file} is there already, and is no measurement of edgekd profile; it would be lost. "
        "Name another --output, or move it away."
    )


def _reached(names: Sequence[str]) -> list[Device]:
    """All devices, each of them once."""
    if not names:
        raise UsageError("no device to measure on. Give one, such as --device local.")
    places = [reach(name) for name in names]
    name, count = Counter(place.name for place in places).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"{name} was named {count} times; runs on one device would disturb one another. Name "
            "each device once."
        )
    return places


def _prepared(
    folder: Path,
    truth: Truth | None,
    models: Sequence[Path],
    seats: Sequence[Seat],
    watch: Watch,
) -> Gallery | None:
    """The images, decoded once for all devices, as each group of models takes them."""
    groups = [group for seat in seats for group in seat.groups]
    for assumed in {group.assumed for group in groups} - {""}:
        watch.say(assumed)
    if truth is None:
        return None
    for group in groups:
        if not group.models[0].is_dir():
            raise UsageError(
                f"{group.models[0]} does not say how its images are made; give the artifact's "
                "folder to measure its accuracy, or leave --data out."
            )
    folders = [path for path in models if path.is_dir()]
    gallery = Gallery(folder, truth.data, folders, truth.split)
    for group in groups:
        inputs_of(group, gallery)
    return gallery
