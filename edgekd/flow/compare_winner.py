"""Whether one method of a comparison wins, and how often somebody looked before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.flow.compare_leads import Right, lead
from edgekd.intervals import Interval
from edgekd.schema import COMPARE

ERROR = 0.05
"""How often equal methods may have a winner at the first look; half as often at each later one."""

Figures = dict[str, Any]


def winner_of(
    methods: Sequence[Figures],
    right: Mapping[str, Right | None],
    looks: Sequence[int] = (1,),
) -> Figures:
    """The best method on validation images, where its lead over each other one is no luck.

    Each lead is paired by seed and by image; its interval is Bonferroni's, wider by how many it is
    compared with. With one seed there is no winner. Who adds seeds until somebody wins finds a
    winner among equals, too: each look at a result after the first may err half as often as the one
    before, so that all together err at most twice as often as one.

    Args:
        methods: as :func:`edgekd.flow.compare_figures.figures_of` has them.
        right: (S, N) of each method, where it was right on the validation images; None where that
            was not kept.
        looks: the number of seeds at each look, this one's last.
    """
    error = ERROR / 2 ** (len(looks) - 1)
    method, sentence = _winner([m for m in methods if not m["failed"]], right, error)
    failed = [m["method"] for m in methods if m["failed"]]
    if failed:
        sentence += f" {', '.join(failed)} did not finish and did not compete."
    if len(looks) > 1:
        sentence += (
            f" The number of seeds was changed after a look at the result ("
            f"{', then '.join(map(str, looks))}): an error of {100 * error:.2g} % is allowed this "
            f"time, in place of {100 * ERROR:.2g} %."
        )
    return {"method": method, "sentence": sentence, "basis": "validation", "error": error}


def looks_at(file: Path, seeds: Sequence[int], known: str) -> list[Figures]:
    """Which seeds a result was written for, in the order of writing; these ones last.

    The same seeds twice in a row, as where a command is given again, are one look.

    Args:
        file: what an earlier sitting wrote; need not be there.
        seeds: those of this one.
        known: the fingerprint of the student alone, of no seed in particular: looks at other
            students do not count.
    """
    found = [look for look in _written(file) if _seeds(look, known)]
    this = {"seeds": list(seeds), "fingerprint": known}
    return found if found and _seeds(found[-1], known) == list(seeds) else [*found, this]


def _written(file: Path) -> list[Any]:
    looks = COMPARE.found(file).get("looks")
    return looks if isinstance(looks, list) else []


def _seeds(look: Any, known: str) -> list[Any]:
    """Of a look at these very students, else none."""
    if not isinstance(look, dict) or look.get("fingerprint") != known:
        return []
    seeds = look.get("seeds")
    return seeds if isinstance(seeds, list) else []


def _winner(
    methods: Sequence[Figures], right: Mapping[str, Right | None], error: float
) -> tuple[str | None, str]:
    if len(methods) < 2:
        return None, "No winner: fewer than two methods finished."
    leader = max(methods, key=lambda method: method["validation"]["mean"])
    name, seeds = leader["method"], len(leader["runs"])
    best = f"{leader['validation']['mean']:.1%} on validation images"
    if seeds < 2:
        return None, (
            f"No winner: {name} has the most, {best}, but one seed does not tell how much seeds "
            "differ. Give --seeds 3 or more."
        )
    known = {m["method"]: found for m in methods if (found := right[m["method"]]) is not None}
    missing = [method["method"] for method in methods if method["method"] not in known]
    if missing:
        return None, (
            f"No winner: {name} has the most, {best}, but {', '.join(missing)} was trained by an "
            "edgekd that did not keep its answers to the single validation images, which tell how "
            "much images differ. Start again with --restart, which trains all anew."
        )
    others = [other for other in known if other != name]
    share = 1 - error / len(others)
    leads = {other: lead(known[name], known[other], share) for other in others}
    return _verdict(leader, best, leads)


def _verdict(leader: Figures, best: str, leads: Mapping[str, Interval]) -> tuple[str | None, str]:
    name, seeds = leader["method"], len(leader["runs"])
    images = leader["runs"][0]["n_validation"]
    close = [other for other, found in leads.items() if found.lo <= 0]
    if close:
        nearest = min(close, key=lambda other: leads[other].value)
        more = f" and {len(close) - 1} more" if len(close) > 1 else ""
        return None, (
            f"No winner: {name} leads with {best}, but {seeds} seeds on {images:,} images do not "
            f"tell it from {nearest} ({_points(leads[nearest])}){more}."
        )
    nearest = min(leads, key=lambda other: leads[other].lo)
    return name, (
        f"Winner: {name}, {best}: ahead of every other method with {seeds} seeds on {images:,} "
        f"images, of {nearest} by {_points(leads[nearest])}."
    )


def _points(found: Interval) -> str:
    return f"{100 * found.value:+.1f} points [{100 * found.lo:+.1f}, {100 * found.hi:+.1f}]"
