"""Names of devices that do not say where they are: an address becomes ``ssh device``.

Whoever has several gets them numbered. A name that was given to a device (``edgekd device add``)
stays as it is; what cannot be told from an address does not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekd.report.privacy import DATA_KEYS, whole
from edgekd.report.view import dig

SHORTEST = 3
"""Characters of a host's name that is looked for in texts; shorter ones are in many words."""

_ADDRESS = re.compile(r"(?:\w+://)?(?:[^@/\s]+@)?(\[[^\]]+\]|[^:/\s]+)(?::\d+)?(?:/.*)?")


@dataclass(frozen=True)
class Addresses:
    """The addresses in a run's files; ``names`` has what the report calls each."""

    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, given: Any) -> str:
        """What a device is called in the report."""
        return self.names.get(str(given), whole(str(given)))

    def hide(self, value: Any) -> Any:
        """A copy of a JSON value without the addresses and their hosts, keys included."""
        if isinstance(value, Mapping):
            return {
                self._text(str(key)): item if key in DATA_KEYS else self.hide(item)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for address, name in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"{re.escape(address)}(?!\w|[.:-]\w)", name, text)
        for host in filter(None, map(_host, self.names)):
            text = re.sub(rf"(?<![\w.@-]){re.escape(host)}(?![\w-]|\.\w)", "…", text)
        return text


def addresses_in(entries: Iterable[Mapping[str, Any]]) -> Addresses:
    """The addresses that records, comparisons and failures name their devices by."""
    found: dict[str, None] = {}
    for entry in entries:
        for keys in (("device", "profile"), ("comparison", "device"), ("failure", "device")):
            name = dig(entry, *keys)
            if isinstance(name, str) and _is_address(name):
                found.setdefault(name)
    kinds = {address: _kind(address) for address in found}
    names, counts = {}, dict.fromkeys(kinds.values(), 0)
    for address, kind in kinds.items():
        counts[kind] += 1
        alone = list(kinds.values()).count(kind) == 1
        names[address] = kind if alone else f"{kind} {counts[kind]}"
    return Addresses(names)


def _is_address(name: str) -> bool:
    if re.search(r"://|[@:/\\]", name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _kind(address: str) -> str:
    if address.startswith("adb://"):
        return "adb device"
    return "ssh device" if address.startswith("ssh://") or "@" in address else "device"


def _host(address: str) -> str:
    """The host of an address, where it can be told from other words; else nothing."""
    found = _ADDRESS.fullmatch(address)
    host = found.group(1).strip("[]") if found else ""
    return host if len(host) >= SHORTEST and host != "localhost" else ""
