"""Places a deployed folder may be written to: only an earlier one, as it was made, is replaced."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgekd.deploy import settings
from edgekd.errors import UsageError
from edgekd.files import sha256, writing

SUMS = "SHA256SUMS"
ARCHIVES = (".tar.gz", ".tgz")
OTHERS = (".zip", ".tar", ".tar.xz", ".tar.bz2", ".tar.zst", ".7z")
LEFT = "__pycache__"  # what running it leaves
LONGEST = 1 << 20  # of config.json and SHA256SUMS, in bytes
DAMAGED = (OSError, tarfile.TarError, EOFError, zlib.error)


@dataclass(frozen=True)
class Found:
    """What lies where a deployment is to go."""

    names: frozenset[str]
    config: bytes
    sums: bytes
    hash_of: Callable[[str], str | None]
    """The sha256 of one of the names; None of what is no file."""


def folder_name(out: Path) -> str:
    """Of the folder, or of the one in the tarball."""
    name = out.name
    for ending in reversed(ARCHIVES):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def is_archive(out: Path) -> bool:
    """Whether it is to be a tarball, by the end of its name in letters of either case."""
    return out.name.lower().endswith(ARCHIVES)


def place_of(out: Path) -> Path:
    """Where it is written to: ``out``, or what that points to; nothing is lost there.

    Raises:
        UsageError: it holds something else than an earlier deployment, or one that was changed; or
            it has a name that a deployment cannot have.
    """
    place = _whole(out)
    with writing(place):
        _check_name(out, place)
        if place.is_dir():
            _check(place, _in_folder(place))
        elif place.exists():
            _check_file(place)
    return place


def _whole(out: Path) -> Path:
    """With a name of its own, which ``.`` has not, and no link that would be replaced itself."""
    if out.name not in ("", "..") and not out.is_symlink():
        return out
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{out} is a link that leads nowhere ({error}). Choose another name with --output."
        ) from error


def _check_name(out: Path, place: Path) -> None:
    if place.name.lower().endswith(OTHERS):
        raise UsageError(
            f"{out} would be an archive that deploy does not write; expected a folder, or a name "
            f"that ends in {' or '.join(ARCHIVES)}."
        )
    if folder_name(place) in ("", ".", ".."):
        raise UsageError(
            f"{out} leaves no name for the folder in it; expected one such as NAME{ARCHIVES[0]}. "
            "Choose another name with --output."
        )
    if place.is_dir() and is_archive(place):
        raise UsageError(f"{out} is a folder. Choose another name with --output.")
    if place.is_dir() and place.samefile("."):
        raise UsageError(
            f"{out} would be replaced while you are in it. Go elsewhere (cd ..), or choose another "
            "folder with --output."
        )


def _check_file(place: Path) -> None:
    found = _in_archive(place) if is_archive(place) else None
    if found is None:
        raise UsageError(
            f"{place} is a file, and no earlier deployment. Choose another name with --output."
        )
    _check(place, found)


def _check(place: Path, found: Found) -> None:
    """Refuse what is not all of an earlier deployment and nothing more."""
    if not found.names:
        return
    elsewhere = "Choose another place with --output."
    sums = _sums(found.sums)
    if not _is_ours(found.config) or not sums:
        raise UsageError(f"{place} is not empty and no earlier deployment. {elsewhere}")
    more = sorted(found.names - set(sums) - {SUMS})
    if more:
        raise UsageError(
            f"{place} also holds {', '.join(more[:5])}, which deploying again would remove. Move "
            "that, or choose another place with --output."
        )
    for name in sorted(found.names - {SUMS}):
        if found.hash_of(name) != sums[name]:
            raise UsageError(
                f"{place / name} was changed since it was deployed, which would be lost. "
                f"{elsewhere}"
            )


def _in_folder(place: Path) -> Found:
    names = frozenset(file.name for file in place.iterdir()) - {LEFT}

    def hash_of(name: str) -> str | None:
        return sha256(place / name) if (place / name).is_file() else None

    return Found(names, _read(place / settings.NAME), _read(place / SUMS), hash_of)


def _in_archive(file: Path) -> Found | None:
    """What a tarball holds, by names within its one folder; None where deploy made no such one."""
    hashes: dict[str, str | None] = {}
    read = {settings.NAME: b"", SUMS: b""}
    folders = set()
    try:
        with tarfile.open(file, "r:gz") as tar:
            for entry in tar:
                folder, mark, name = entry.name.partition("/")
                folders.add(folder)
                if entry.isdir() and not mark:  # one that was packed again has an entry for it
                    continue
                if len(folders) > 1 or not mark or name in hashes:
                    return None
                content = tar.extractfile(entry) if entry.isreg() else None
                hashes[name], head = _hashed(content) if content else (None, b"")
                if name in read:
                    read[name] = head
            while tar.fileobj and (more := tar.fileobj.read(LONGEST)):
                if any(more):  # after the end of the archive
                    return None
    except DAMAGED:
        return None
    return Found(frozenset(hashes), read[settings.NAME], read[SUMS], hashes.get) if hashes else None


def _hashed(content: IO[bytes]) -> tuple[str, bytes]:
    """The sha256 of all, and how it begins."""
    piece = head = content.read(LONGEST)
    found = hashlib.sha256()
    while piece:
        found.update(piece)
        piece = content.read(LONGEST)
    return found.hexdigest(), head


def _sums(content: bytes) -> dict[str, str]:
    """Name -> sha256; empty where that is no list of them."""
    try:
        lines = content.decode("utf-8").splitlines()
    except ValueError:
        return {}
    found = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in found}


def _read(file: Path) -> bytes:
    """Empty where there is no such file."""
    try:
        with file.open("rb") as content:
            return content.read(LONGEST)
    except OSError:
        return b""


def _is_ours(content: bytes) -> bool:
    """Whether this is a ``config.json`` of deploy's."""
    try:
        table: Any = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(table, dict) and table.get("kind") == settings.KIND
