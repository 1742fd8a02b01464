"""Places: a card goes where the artifact goes, so it never says where on whose machine things lay.

A path keeps its last name, and a home folder, whose last name is a person's, not even that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgekd.hiding import unmarked

PUBLIC = ("torchvision/", "hf/", "hf-hub:", "hf_hub:")
"""Names that are the same on any machine."""

_HOME = re.compile(r"(?:.*[/\\])?(?:home|Users)[/\\][^/\\]+[/\\]*|[/\\]root[/\\]*|~[^/\\]*[/\\]*")
_LOGIN = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w.-]+")
_REMOTE = re.compile(r"\b(ssh|scp|sftp|rsync|adb)://[^\s\"'`<>|;,)\]]+")
_HOST = re.compile(r"\b([A-Za-z][\w+.-]+)://[^/\s]*")
_LOCAL = re.compile(r"[/\\~.]|[A-Za-z]:[\\/]")


def named(text: str) -> str:
    """A source of images or of weights by its name alone: ``cifar10``, ``…/photos``."""
    text = unmarked(text)
    if text.startswith(PUBLIC):
        return text
    for shelf in ("wds/", "local-dir:"):
        if text.startswith(shelf):
            return shelf + named(text.removeprefix(shelf))
    text = _without_logins(_HOST.sub(r"\1:…", text.removeprefix("file://")))
    if _HOME.fullmatch(text):
        return "…"
    parts = [part for part in re.split(r"[/\\]", text) if part]
    if len(parts) < 2 and not _LOCAL.match(text):
        return text
    last = parts[-1] if parts else ""
    return f"…/{last}" if last not in ("", ".", "..", "~") else "…"


def without_places(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, as a manifest holds it, whose texts are names."""
    return {
        str(key): device_name(value)
        if key == "device" and isinstance(value, str)
        else _within(value)
        for key, value in recipe.items()
    }


def sentence(text: str) -> str:
    """A sentence about a device, whose paths are names and which names nobody's login."""
    text = _without_logins(_REMOTE.sub(r"\1:…", text))
    return re.sub(r"(?<![\w/.:~…])~?/[^\s\"'`<>|;,)\]]+", lambda f: named(f.group()), text)


def device_name(text: object) -> str:
    """The name a device was given; of an address no more than its kind: ``ssh``."""
    name = unmarked(str(text)).removeprefix("…/")  # a mark would be read as the address again
    kind, mark, _ = name.partition("://")
    if mark:
        return kind
    return "ssh" if "@" in name else name


def _without_logins(text: str) -> str:
    return _LOGIN.sub("…", text)


def _within(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_places(value)
    if isinstance(value, list):
        return [_within(item) for item in value]
    return named(value) if isinstance(value, str) else value
