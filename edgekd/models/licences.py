"""Licences: under what terms the weights were published that a network began with, or learned from.

What nobody states is not guessed: a :class:`Licence` without a name says whose terms are not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from torch import nn

UNSTATED = frozenset({"", "none", "unknown", "other"})
"""What catalogues write where they do not know."""


@dataclass(frozen=True)
class Licence:
    """What is said of the terms of some published weights."""

    name: str | None
    """``apache-2.0``, a link to the text, or None: not stated."""
    of: str
    """The weights."""
    source: str
    """Who says so, or who does not."""
    url: str = ""
    """Where the weights' makers are to be found."""


Licences = tuple[Licence, ...] | None
"""All that a network's weights came from; empty: they began at random. None: nobody said."""


def of_published(model: nn.Module, name: str) -> Licences:
    """What timm or torchvision says of the weights that it has just fetched.

    Args:
        model: with the entry of its weights as ``pretrained_cfg``.
        name: as it was asked for, such as ``hf-hub:ORG/NAME``.
    """
    entry: Any = getattr(model, "pretrained_cfg", None)
    table: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    if name.startswith("torchvision/"):
        of, source = str(table.get("weights") or name), f"torchvision {version('torchvision')}"
    elif ":" in name:  # a hub's own entry need not have been read by timm
        hub, _, rest = name.partition(":")
        of = PurePath(rest).name if hub == "local-dir" else rest
        source = "the configuration that came with them"
    else:
        tag = table.get("tag")
        of = str(table.get("hf_hub_id") or (f"{name}.{tag}" if tag else name))
        source = f"timm {version('timm')}"
    said = str(table.get("license") or "").strip()
    return (
        Licence(
            None if said.lower() in UNSTATED else said,
            of,
            source,
            str(table.get("origin_url") or ""),
        ),
    )


def of_file(path: str) -> Licences:
    """A file of weights does not say under what terms it may be used."""
    return (Licence(None, PurePath(path).name, "a file of weights says nothing of it"),)


def of_manifest(manifest: Mapping[str, Any]) -> Licences:
    """What an artifact says of its own weights' origin, and of its teacher's.

    Older artifacts, and such of networks that were handed over without a word, say nothing.
    """
    own, parent = _read(manifest.get("licence")), manifest.get("parent")
    return merged(own, _read(parent.get("licence"))) if parent else own


def merged(first: Licences, second: Licences) -> Licences:
    """Both, each entry once; where nobody said anything of one of them, that is an entry, too."""
    if first is None and second is None:
        return None
    silent = (_SILENT,) if first is None or second is None else ()
    return tuple(dict.fromkeys((first or ()) + (second or ()) + silent))


def to_list(licences: Licences) -> list[dict[str, Any]] | None:
    """For a manifest."""
    return None if licences is None else [asdict(licence) for licence in licences]


_SILENT = Licence(None, "other weights it came from", "nobody said")


def _read(listed: Any) -> Licences:
    """What :func:`to_list` wrote; of anything else nothing is known."""
    if not isinstance(listed, list):
        return None
    return tuple(_entry(entry) for entry in listed if isinstance(entry, Mapping))


def _entry(entry: Mapping[str, Any]) -> Licence:
    name = entry.get("name")
    of, source, url = (str(entry.get(key) or "") for key in ("of", "source", "url"))
    return Licence(None if name is None else str(name), of, source, url)
