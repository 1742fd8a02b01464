"""What ``profile.json`` and the proofs beside artifacts hold, read and made safe to share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError
from edgekd.hiding import nickname
from edgekd.report.addresses import Addresses, addresses_in
from edgekd.report.pictures import checked_png
from edgekd.report.privacy import (
    shareable,
    shareable_command,
    shareable_message,
    whole,
    without_machine,
)
from edgekd.report.view import count, dig

SHOWN = 24
"""Pictures of disagreements, at most."""
LABELS = ("truth", "reference", "found")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Records of one model each, comparisons of two, and devices that gave no answer."""

    records: tuple[Entry, ...]
    comparisons: tuple[Entry, ...]
    failures: tuple[Entry, ...]
    addresses: Addresses


def measured_from(
    file: Path,
    content: Any,
    others: Iterable[Entry],
    proofs: Iterable[Any],
    places: Iterable[str] = (),
) -> Measured:
    """Sort what was found, and take out what must not be shared.

    Args:
        file: where the content is from.
        content: a list of entries, one entry, or None where there is no file.
        others: entries of other files.
        proofs: records kept beside artifacts; what the files have of the same model and device
            comes before them.
        places: devices that other files name.

    Raises:
        UsageError: it is no list of entries.
    """
    entries = content if isinstance(content, list) else [] if content is None else [content]
    if not all(isinstance(entry, dict) and entry for entry in entries):
        raise UsageError(
            f"{file} is not a list of measurements, but has something else or an empty table in "
            "it. Run edgekd profile again."
        )
    entries = [*entries, *others]
    known = {_subject(entry) for entry in entries}
    kept = [proof for proof in proofs if isinstance(proof, dict) and _subject(proof) not in known]
    entries = [*entries, *kept]
    named = [{"device": {"profile": place}} for place in places]
    addresses = addresses_in([*entries, *named])
    clean = [_clean(entry, addresses) for entry in entries]
    return Measured(
        tuple(e for e in clean if "comparison" not in e and "failure" not in e),
        tuple(e for e in clean if "comparison" in e),
        tuple(e for e in clean if "failure" in e and "comparison" not in e),
        addresses,
    )


def _subject(entry: Entry) -> tuple[str, str]:
    """Proofs, which go where artifacts go, have nicknames in place of addresses."""
    return str(dig(entry, "artifact", "sha256")), nickname(str(dig(entry, "device", "profile")))


def _clean(entry: Entry, addresses: Addresses) -> Entry:
    """An entry as it may be shared; names and texts that only look private stay what they are."""
    shown = _disagreements(dig(entry, "accuracy", "disagreements"))
    accuracy = entry.get("accuracy")
    if isinstance(accuracy, Mapping):
        rest = {key: item for key, item in accuracy.items() if key != "disagreements"}
        entry = {**entry, "accuracy": rest}
    clean: dict[str, Any] = without_machine(shareable(addresses.hide(entry)))
    if "command" in entry:
        clean["command"] = addresses.hide(shareable_command(entry["command"]))
    if shown and isinstance(clean.get("accuracy"), dict):
        clean["accuracy"]["disagreements"] = shown
    for section, key in (("device", "profile"), ("comparison", "device"), ("failure", "device")):
        given = dig(entry, section, key)
        if isinstance(given, str):
            clean[section][key] = addresses.name(given)
    message = dig(entry, "failure", "message")
    if isinstance(message, str):
        clean["failure"]["message"] = shareable_message(addresses.hide(message))
    return clean


def _disagreements(found: Any) -> dict[str, Any]:
    """Counts, labels and checked pictures; of an image's path only its name."""
    n, listed = count(dig(found, "n")), dig(found, "shown")
    if n is None:
        return {}
    shown = []
    for one in (listed if isinstance(listed, list) else [])[:SHOWN]:
        name = str(dig(one, "name") or "").replace("\\", "/").rstrip("/")
        said = {key: dig(one, key) for key in LABELS}
        shown.append(
            {
                "index": count(dig(one, "index")),
                "name": whole(name.rpartition("/")[2]),
                **{
                    key: None if value is None else whole(str(value)) for key, value in said.items()
                },
                "png": checked_png(dig(one, "png")),
            }
        )
    return {"n": n, "shown": shown}
