"""Take out of a value what must not be shared: absolute paths, logins, hosts, and broken text.

A report is made to be sent to others, so a path keeps only its last name (``…/teacher.pth``).
"""

from __future__ import annotations

import math
import platform
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from edgekd.hiding import unmarked

PRIVATE_KEYS = frozenset(
    {"host", "hostname", "node", "user", "username", "home", "cwd", "serial", "owner", "address"}
)
LISTS = frozenset({"names"})
"""Which images int8 was calibrated on: a long list of the user's own files. Its length and its hash
are enough for a report; the manifest has it."""
DATA_KEYS = frozenset({"labels", "layers", "nodes", "types", "float_layers"})
"""Their texts are names in the user's own data or graph, which may look like ``/conv1/Conv``."""

_HOME = re.compile(r"(?:/home/[^/]+|/Users/[^/]+|/root|~[^/]*|[A-Za-z]:\\Users\\[^\\]+)[/\\]*")
_ABSOLUTE = re.compile(r"(?:file://)?(?:/(?!/)|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)")
_WORD = r"[^\s\"'`<>|;,)\]]"
# Inside a sentence, where the slash of "images/s", of "1/2" or of "https://" starts no path.
_INSIDE = re.compile(
    rf"(?:file://|(?<![\w/.:~…<-])|(?<=:)(?!//))(?:~[\w.-]*)?/(?!/){_WORD}+"
    rf"|\b[A-Za-z]:\\{_WORD}+|\\\\[\w.-]+\\{_WORD}+"
)
_REMOTE = re.compile(r"\b(ssh|scp|sftp|rsync|adb)://[^\s\"'`<>|;,)\]]+")
_LOGIN = re.compile(r"(?<![\w/.+-])[\w.+-]+@[\w.-]+")
# What ssh says of a host ("connect to host pi.lan port 22"), and the commands that get there.
_HOST = re.compile(
    r"(\bhostname |\bhost (?=\S+ port \d)|\bssh-keygen -R |\bssh-copy-id )[^\s:,;)]+(?::\d+)?"
)
_COMMAND = re.compile(r"(?<=: )ssh (?:-[A-Za-z] ?\S+ )*(?:-- )?[^\s:,;)]+")
_PEER = re.compile(
    r"\b(to|by|from|with|at) (?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.%\w]+\])(?::\d+)?"
)
_SAID = re.compile(r"\s*\bssh said: .*", re.DOTALL)
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'([^'\n]*)'")


def shareable(value: Any) -> Any:
    """A copy of a JSON value without its private parts; what JSON cannot hold becomes null."""
    if isinstance(value, Mapping):
        return {
            whole(str(key)): _section(key, item)
            for key, item in value.items()
            if str(key).lower() not in PRIVATE_KEYS | LISTS
        }
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    return shareable_text(value) if isinstance(value, str) else _plain(value)


def _section(key: Any, value: Any) -> Any:
    if key in DATA_KEYS:
        return _plain(value)
    if key == "explanation" and isinstance(value, Mapping):
        return _explanation(value)
    return shareable(value)


def _explanation(found: Mapping[str, Any]) -> dict[str, Any]:
    """Where a file's error begins; its sentence names a node of the graph, which is no path."""
    listed = found.get("worst")
    spots = [*(listed if isinstance(listed, list) else []), found.get("first")]
    names = {
        str(spot[key])
        for spot in spots
        if isinstance(spot, Mapping)
        for key in ("node", "tensor")
        if spot.get(key)
    }
    kept = {key: _plain(found[key]) for key in ("worst", "first") if key in found}
    rest = {key: item for key, item in found.items() if key not in (*kept, "sentence")}
    said = found.get("sentence")
    sentence = {"sentence": _around(said, names)} if isinstance(said, str) else {}
    return {**shareable(rest), **kept, **sentence}


def _around(text: str, names: Iterable[str]) -> str:
    """:func:`shareable_text` of all but some names, which stay as they are."""
    longest = sorted(names, key=len, reverse=True)
    if not longest:
        return shareable_text(text)
    pieces = re.split(f"({'|'.join(map(re.escape, longest))})", text)
    return whole("".join(p if i % 2 else shareable_text(p) for i, p in enumerate(pieces)))


def shareable_text(text: str) -> str:
    """The text with each absolute path cut down to its last name."""
    text = unmarked(whole(text))
    if _ABSOLUTE.match(text) and not re.search(r"\s[/~\\]", text):
        return _last(text)
    return _INSIDE.sub(lambda found: _last(found.group()), text)


def shareable_message(text: str) -> str:
    """A sentence about a device that failed, without where it is: ssh names hosts as it likes.

    What ssh itself said is left out, as it may hold a banner of the host's.
    """
    text = _COMMAND.sub("ssh …", _SAID.sub("", whole(text)))
    text = _HOST.sub(r"\1…", _PEER.sub(r"\1 …", text))
    return str(without_machine(shareable_text(text)))


def shareable_command(command: Any) -> str:
    """A command line to repeat, from a text or a list of arguments, without logins and hosts.

    Empty where it is neither: proofs keep none, nor does a run that a program started.
    """
    if not isinstance(command, str | list | tuple):
        return ""
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
    except ValueError:  # a quote that does not close
        return str(without_machine(shareable_text(str(command))))
    if words and _ABSOLUTE.match(words[0]):
        words[0] = re.split(r"[/\\]", words[0])[-1]
    said = [str(without_machine(_argument(whole(word)))) for word in words]
    return " ".join(shlex.quote(w) if re.search(r"[\s\"'\\$&|;<>()*?#]", w) else w for w in said)


def _argument(word: str) -> str:
    """One argument; unlike in a sentence, a path in it goes on after a space."""
    found = _INSIDE.search(word)
    return word[: found.start()] + _last(word[found.start() :]) if found else word


def shareable_toml(text: str) -> str:
    """A recipe's text; quoted values are looked at whole, because a path may hold spaces."""

    def cut(found: re.Match[str]) -> str:
        inside = found.group(1) if found.group(1) is not None else found.group(2)
        mark = found.group()[0]
        return f"{mark}{without_machine(shareable_text(inside))}{mark}"

    return _INSIDE.sub(lambda found: _last(found.group()), _QUOTED.sub(cut, whole(text)))


def without_machine(value: Any) -> Any:
    """The value without ``user@host``, ``ssh://host`` and this machine's own name."""
    if isinstance(value, Mapping):
        return {key: without_machine(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_machine(item) for item in value]
    if not isinstance(value, str):
        return value
    text = _LOGIN.sub("…", _REMOTE.sub(r"\1://…", value))
    name = platform.node()
    if len(name) < 4 or name == "localhost":
        return text
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)


def whole(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _last(path: str) -> str:
    """``/home/ada`` and ``/root/`` name a person, so nothing is left of them but ``~``."""
    path = path.removeprefix("file://")
    if _HOME.fullmatch(path):
        return "~"
    names = [name for name in re.split(r"[/\\]", path) if name]
    return f"…/{names[-1]}" if names else path


def _plain(value: Any) -> Any:
    """A copy as JSON can hold it, with every text kept."""
    if isinstance(value, Mapping):
        return {whole(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return whole(value) if isinstance(value, str) else value
