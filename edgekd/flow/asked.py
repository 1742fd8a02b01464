"""What decided a training, beside what is asked of it now: where the two differ, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgekd.flow.identity import CARELESS
from edgekd.structure import shown

DECIDING = {
    "teacher": ("data", "teacher", "teach"),
    "student": ("data", "teacher", "student", "peer", "method", "train"),
    "baseline": ("data", "student", "method"),  # its epochs are counted, not asked for
}
"""Sections of a recipe that a training reads, by what it makes."""
MOST = 3
"""Differences that a message names."""


def changed(role: str, made: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Where the recipe of an artifact is another than the one at hand, for a message.

    Args:
        role: what the training makes.
        made: the artifact's recipe, which may be of an earlier edgekd and know fewer keys.
        asked: the one at hand, in the same form.

    Returns:
        Such as `` Then train.epochs was 6, now it is 12.``; empty where no key tells.
    """
    found = [
        f"{key} was {shown(then)}, now it is {shown(now)}"
        for section in DECIDING.get(role, ())
        for key, then, now in _apart(section, made.get(section), asked.get(section))
    ]
    more = f"; {len(found) - MOST} more" if len(found) > MOST else ""
    return f" Then {'; '.join(found[:MOST])}{more}." if found else ""


def _apart(key: str, then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        whole = key.startswith("method")  # a term that is not in one of them is a difference
        names = {*then, *now} if whole else {*then} & {*now}
        for name in sorted(names - CARELESS):
            yield from _apart(f"{key}.{name}", then.get(name), now.get(name))
    elif then != now:
        yield key, then, now
