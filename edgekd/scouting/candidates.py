"""Candidates: the networks that could be the student, each at each size it may take.

A *space* is a file, ``profiles/candidates/NAME.toml`` or ``~/.config/edgekd/candidates/NAME.toml``:
networks, sizes, and what was published of them. A network that is named itself takes what any file
says of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from edgekd.errors import RecipeError, UnknownNameError, UsageError, hint
from edgekd.scouting.priors import NONE, Line, Prior, line_through, published_prior, reduction
from edgekd.scouting.reading import Member, members_of, space_names
from edgekd.scouting.weighing import Weight, weigh

__all__ = ["Candidate", "read_candidates"]

log = logging.getLogger("edgekd.scouting")
MIXED = Prior(None, "none", "the candidates' published accuracies are of different data sets")


@dataclass(frozen=True)
class Candidate:
    """A network at one size of its input."""

    name: str
    """As ``edgekd.models.zoo.create`` takes it."""
    size: int
    """Side in pixels."""
    parameters: int
    macs: int
    """Multiply-accumulates of one image."""
    prior: Prior

    @property
    def key(self) -> str:
        """Safe as a folder's name: ``resnet8-32px``."""
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in self.name)
        return f"{safe}-{self.size}px"


@dataclass(frozen=True)
class Weighed:
    """A member, and how large it is."""

    member: Member
    parameters: int
    macs: int

    @property
    def whole_macs(self) -> float:
        """MACs at full size, near enough: they go with the number of pixels."""
        return max(1, self.macs) * (self.member.full / self.member.size) ** 2


def read_candidates(
    space: Sequence[str], sizes: Sequence[int], size: int, classes: int
) -> list[Candidate]:
    """The candidates of a space, each network at each size.

    A size that a network of a file cannot take is left out, with a line in the log.

    Args:
        space: names of files, such as ``cifar`` and ``timm``, and of networks.
        sizes: sides in pixels; empty takes what a file says, and ``size`` for a named network.
        size: the data's own.
        classes: outputs of the head.

    Raises:
        UnknownNameError: neither a file nor a network.
        RecipeError: a file cannot be read.
        UsageError: nothing was named; a named network, or all of a file, can take none of the
            sizes.
    """
    if not space:
        raise UsageError(
            f"no candidates are named; expected networks, or some of {', '.join(space_names())}."
        )
    found: dict[tuple[str, int], Weighed] = {}
    for name in space:
        for one in _all_weighed(members_of(name, sizes, size), classes):
            found.setdefault((one.member.name, one.member.size), one)
    priors = _priors(list(found.values()))
    return [
        Candidate(one.member.name, one.member.size, one.parameters, one.macs, prior)
        for one, prior in zip(found.values(), priors, strict=True)
    ]


def _all_weighed(members: Sequence[Member], classes: int) -> list[Weighed]:
    """Those members that can take their size; if none can, the first one's refusal is raised."""
    found, refusals = [], list[str]()
    for name, group in groupby(members, lambda member: member.name):
        alike = list(group)
        weights = _weights(name, [member.size for member in alike], classes, alike[0].space)
        for member, weight in zip(alike, weights, strict=True):
            if weight.refusal:
                log.warning("left out: %s", weight.refusal)
                refusals.append(weight.refusal)
            else:
                found.append(Weighed(member, weight.parameters, weight.macs))
    if not found:
        raise UsageError(refusals[0])
    return found


def _weights(name: str, sizes: list[int], classes: int, space: str) -> list[Weight]:
    try:
        return weigh(name, sizes, classes)
    except UnknownNameError as error:
        from edgekd.models import zoo

        if space:
            near = hint(name, zoo.names())
            raise RecipeError(
                f"the candidates {space!r} list {name!r}, which is no network.{near}", "networks"
            ) from error
        known = [*space_names(), *zoo.names()]
        raise UnknownNameError("network or file of candidates", name, known) from error


def _priors(found: Sequence[Weighed]) -> list[Prior]:
    """What is published; else the line through what is, of the same file where it has enough.

    Figures of different data sets put nothing in order: then nobody has a prior.
    """
    scales = {one.member.published.scale for one in found if one.member.published is not None}
    if len(scales) > 1:
        log.warning("no priors, the order is by multiply-accumulates: %s", MIXED.source)
        return [MIXED] * len(found)
    spaces = {one.member.space for one in found}
    everything = _line(found)
    lines = {s: _line([one for one in found if one.member.space == s]) for s in spaces}
    return [_prior(one, lines[one.member.space] or everything) for one in found]


def _line(found: Sequence[Weighed]) -> Line | None:
    points = {
        one.member.name: (one.whole_macs, one.member.published.top1)
        for one in found
        if one.member.published is not None
    }
    return line_through(list(points.values()))


def _prior(one: Weighed, line: Line | None) -> Prior:
    member = one.member
    if member.published is not None:
        return published_prior(member.published, member.size)
    return line.prior(one.whole_macs, reduction(member.size, member.full)) if line else NONE
