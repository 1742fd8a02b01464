"""Reading: what a file of candidates says, and which networks at which sizes that comes to.

A file holds ``title``; ``source`` of its accuracies; ``sizes`` in pixels, of which each network
takes those below its own beside its own, or ``shares`` of the data's size, down to ``least``
pixels; and ``networks``, see :class:`Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.errors import RecipeError, UsageError
from edgekd.profiles import find_profile, profile_folders, read_profile
from edgekd.scouting.priors import Published
from edgekd.sections import MOST_PIXELS
from edgekd.strict import Rule, between, check_ranges, freeze

KIND = "candidates"
SIDE: Rule = between(8, MOST_PIXELS)
"""Pixels of an input, as a recipe's ``data.size`` may be."""
OWN_SIDE: Rule = (lambda size: size == 0 or SIDE[0](size), f"0, or {SIDE[1]}")
PERCENT: Rule = (lambda value: 0 <= value <= 100, "a percentage")


@dataclass(frozen=True)
class Network:
    """A network as a file lists it."""

    name: str
    size: int = 0
    """Side in pixels that it was made for, and that ``top1`` was measured at; 0 is the data's."""
    top1: float = 0.0
    """Published, in percent; 0 where nothing is."""
    tag: str = ""
    """The weights it was measured with."""
    fixed: bool = False
    """Whether it takes its own size only."""

    def __post_init__(self) -> None:
        check_ranges(self, name=(bool, "a name"), size=OWN_SIDE, top1=PERCENT)


@dataclass(frozen=True)
class Space:
    """A file of candidates."""

    name: str
    networks: tuple[Network, ...]
    title: str = ""
    source: str = ""
    sizes: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    least: int = 8
    """Pixels below which no share of the data's size is taken."""

    def sizes_of(self, network: Network, asked: Sequence[int], size: int) -> list[int]:
        """Sizes that a network is tried at, largest first.

        Args:
            network: one of this space.
            asked: sizes to take instead of the file's; empty takes those.
            size: the data's own.
        """
        own = network.size or size
        if network.fixed:
            return [own] if not asked or own in asked else []
        if asked:
            return sorted(set(asked), reverse=True)
        shares = [round(share * size) for share in self.shares]
        found = [side for side in (*self.sizes, *shares) if self.least <= side < own]
        return sorted({own, *found}, reverse=True)


@dataclass(frozen=True)
class Member:
    """A network at one size, not yet weighed."""

    name: str
    size: int
    full: int
    """Side in pixels from which on nothing of its accuracy is lost."""
    published: Published | None
    space: str
    """The file it is from; empty where it was named."""


def members_of(space: str, sizes: Sequence[int], size: int) -> list[Member]:
    """What a file, or one network, comes to.

    Args:
        space: a file's name, else a network's.
        sizes: sides in pixels; empty takes what the file says, and ``size`` for a network.
        size: the data's own.

    Raises:
        RecipeError: a file cannot be read.
        UsageError: a size that no input has; a file whose networks take none of the sizes.
    """
    fits, wanted = SIDE
    for side in (*sizes, size):
        if not fits(side):
            raise UsageError(f"images of {side:,} pixels; expected {wanted}. Give --size.")
    if space not in space_names():
        return [_named(space, side, size) for side in sorted(set(sizes or [size]), reverse=True)]
    file = read_space(space)
    found = [
        _member(file, network, side, size)
        for network in file.networks
        for side in file.sizes_of(network, sizes, size)
    ]
    if not found:
        raise UsageError(
            f"no network of the candidates {space!r} takes {', '.join(map(str, sizes))} pixels. "
            "Leave out --sizes."
        )
    return found


def space_names() -> list[str]:
    """Names of all files of candidates, the user's own among them."""
    folders = profile_folders(KIND)
    return sorted({file.stem for folder in folders for file in folder.glob("*.toml")})


def read_space(name: str) -> Space:
    """A file of candidates, by name.

    Raises:
        UnknownNameError: there is none.
        RecipeError: it cannot be read, or says what it should not.
    """
    path = find_profile(KIND, name)
    table = read_profile(path, "the candidates in")
    try:
        return _space(path, table)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}", error.key) from error


def _space(path: Path, table: Mapping[str, Any]) -> Space:
    rest = dict(table)
    listed = _listed(rest, "networks", dict, "tables such as { name = 'resnet20' }")
    if not listed:
        raise RecipeError("it lists no networks; expected at least one.", "networks")
    sizes = _listed(rest, "sizes", int, f"whole numbers of pixels, {SIDE[1]}", SIDE[0])
    shares = _listed(rest, "shares", float, "shares of the data's size")
    networks = tuple(freeze(Network, entry, "networks") for entry in listed)
    names = [network.name for network in networks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"networks has {twice[0]} twice. Leave one out.", "networks")
    made = freeze(_Rest, rest)
    check_ranges(made, least=SIDE)
    return Space(path.stem, networks, made.title, made.source, sizes, shares, made.least)


@dataclass(frozen=True)
class _Rest:
    """What a file says beside its lists."""

    title: str = ""
    source: str = ""
    least: int = 8


def _listed(
    rest: dict[str, Any],
    key: str,
    kind: type,
    wanted: str,
    fits: Callable[[Any], bool] = lambda entry: 0 < entry < 1e5,
) -> tuple[Any, ...]:
    """Take a list out of a table, and hold its entries to a kind."""
    found = rest.pop(key, [])
    kinds = (int, float) if kind is float else kind
    entries: list[Any] = found if isinstance(found, list) else [None]
    for entry in entries:
        good = isinstance(entry, kinds) and not isinstance(entry, bool)
        if not good or (kind is not dict and not fits(entry)):
            raise RecipeError(f"{key} is {found!r}; expected a list of {wanted}.", key)
    return tuple(entries)


def _member(file: Space, network: Network, side: int, size: int) -> Member:
    full = network.size or size
    published = None
    if network.top1:
        text = f"{network.name}.{network.tag}" if network.tag else network.name
        place = f" at {network.size} px" if network.size else ""
        scale = file.source or file.name
        source = f"{text}, {network.top1:g} %{place}: {scale}"
        published = Published(network.top1 / 100, full, source, scale)
    return Member(network.name, side, full, published, file.name)


def _named(name: str, side: int, size: int) -> Member:
    """A network that was named: what any file says of it is taken, the user's own first."""
    for file in _spaces():
        for network in file.networks:
            if network.name == name:
                return replace(_member(file, network, side, size), space="")
    return Member(name, side, size, None, "")


def _spaces() -> Iterator[Space]:
    own = profile_folders(KIND)[0]
    names = sorted(space_names(), key=lambda name: not (own / f"{name}.toml").is_file())
    return map(read_space, names)
