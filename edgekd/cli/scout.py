"""Rank students by what they cost on a device, before any training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._options import as_json, data_options, output
from edgekd.cli._policies import said, timing_options
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.budget import Budget


DIGITS = 10
"""Of a number that is surely no size."""


class Share(click.ParamType[float]):
    """``10%`` or ``0.1``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """As a share."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", str(value))
        share = float(found[1]) / (100 if found[2] else 1) if found else 1.0
        if share >= 1:
            self.fail(f"{value!r} is no share; expected one such as 10% or 0.1", param, ctx)
        return share


class Listed(click.ParamType[tuple[str, ...]]):
    """``a,b``; given once."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, in order."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; expected some with commas between", param, ctx)
        return names


class Sizes(click.ParamType[tuple[int, ...]]):
    """``224,160``, within the bounds of ``--size``."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Pixels, in order."""
        from edgekd.scouting.reading import SIDE

        fits, wanted = SIDE
        names = Listed().convert(value, param, ctx)
        for text in names:
            if not (text.isascii() and text.isdigit() and len(text) < DIGITS and fits(int(text))):
                self.fail(
                    f"{text!r} is no size in pixels; expected {wanted}, such as 224,160", param, ctx
                )
        return tuple(int(text) for text in names)


class Bounds(click.ParamType["Budget"]):
    """A budget; read as the command line is, before anything heavy is loaded."""

    name = "clauses"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Budget:
        """Its clauses.

        Raises:
            UsageError: see :meth:`edgekd.budget.Budget.parse`.
        """
        from edgekd.budget import Budget

        return Budget.parse(value)


@click.command(short_help="Rank students on a device, before any training.")
@click.option(
    "--device",
    default="local",
    metavar="NAME",
    help="Where to time them: local (the default), a name of edgekd device list, ssh://user@host.",
)
@click.option(
    "--budget", type=Bounds(), metavar="CLAUSES", help='Such as "p95<=30ms, peak_mb<=300".'
)
@click.option(
    "--students",
    type=Listed(),
    metavar="SPACE",
    help="cifar, timm, a list of your own, or networks: resnet20,wrn_16_2. By the data's size "
    "unless told.",
)
@click.option("--sizes", type=Sizes(), metavar="PIXELS", help="Input sizes, such as 224,160.")
@click.option("--classes", type=click.IntRange(2, 1_000_000), help="Of the data; 10 unless told.")
@data_options
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8", "all"]),
    default="fp32",
    show_default=True,
    help="What the students are timed in.",
)
@click.option(
    "--margin",
    type=Share(),
    default="10%",
    show_default=True,
    help="How far below a bound a figure has to be to fit.",
)
@timing_options
@click.option("--restart", is_flag=True, help="Time anew what was timed on this device before.")
@output
@as_json
def scout(output: Path | None, as_json: bool, budget: Budget | None, **flags: Any) -> None:
    """Rank students by their measured latency, with random weights: no data and no teacher needed.

    The bad ones are timed briefly, the good ones well. What is measured is kept: a scout that was
    cut off goes on, and the same one again is done at once.
    """
    from edgekd.cli._scouts import print_scout
    from edgekd.cli._screen import Screen
    from edgekd.flow.scouts import Scouting
    from edgekd.flow.scouts import scout as rank

    size, classes = _shape(output, flags)
    asked = Scouting(
        device=flags["device"],
        budget=budget,
        space=flags["students"] or (),
        sizes=flags["sizes"] or (),
        size=size,
        classes=classes,
        precisions=("fp32", "int8") if flags["precision"] == "all" else (flags["precision"],),
        said=said(flags),
        margin=flags["margin"],
        restart=flags["restart"],
    )
    with Screen() as screen:
        found = rank(asked, output, screen)
    paths = _reported(output)
    if as_json:
        print_json(found)
    else:
        print_scout(found, output, paths, flags["data"])


def _shape(output: Path | None, flags: dict[str, Any]) -> tuple[int, int]:
    """Side of the images and number of classes, by what was said, the data, or CIFAR-10's."""
    from edgekd.cli._options import data_of

    if flags["data"] is None:
        if flags["limit"] is not None:
            raise click.UsageError("--limit is of the --data, and none was given. Leave it out.")
        return flags["size"] or 32, flags["classes"] or 10
    if flags["classes"] is not None:
        raise click.UsageError("--data says how many classes there are. Leave --classes out.")
    from edgekd.flow.scouts import seen
    from edgekd.loading import check_apart

    data = data_of(flags, {})
    if output is not None:
        check_apart(output, data.source)
    return seen(data)


def _reported(output: Path | None) -> dict[str, Path]:
    """The report of the folder, where there is one."""
    from edgekd.report import write

    return {} if output is None else write(output)
