"""Run the whole mission."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._options import METHOD_HELP, recipe_of, show_recipe, train_options, views
from edgekd.cli._printing import print_json
from edgekd.cli.scout import Bounds, Listed, Share, Sizes

if TYPE_CHECKING:
    from edgekd.budget import Budget
    from edgekd.recipe import Recipe

DEMO = "digits"


@click.command(short_help="Do the whole mission: teach, distil, export, profile, report.")
@click.argument("recipe", required=False)
@click.option(
    "--teacher",
    metavar="NAME",
    help="NAME[:WEIGHTS], or an artifact's folder; trained here without.",
)
@click.option(
    "--student",
    metavar="NAME",
    help="NAME[:WEIGHTS]; see edgekd list model. With --budget: NAME, the only one tried.",
)
@click.option("--method", metavar="SUM", help=METHOD_HELP)
@views
@click.option("--device", metavar="NAME", help="Where it will run, and is measured; local.")
@click.option(
    "--budget",
    type=Bounds(),
    metavar="CLAUSES",
    help='Pick the student that keeps it there: "p95<=30ms, top1_drop<=1%, peak_mb<=300".',
)
@click.option(
    "--students",
    type=Listed(),
    metavar="SPACE",
    help="With --budget, where to look: cifar, timm, or networks, with commas.",
)
@click.option(
    "--sizes",
    type=Sizes(),
    metavar="PIXELS",
    help="With --budget, input sizes such as 224,160; as the space says unless told.",
)
@click.option(
    "--attempts", type=click.IntRange(min=1), help="With --budget: students tried; 6 unless told."
)
@click.option(
    "--margin",
    type=Share(),
    metavar="SHARE",
    help="With --budget: room that the first choice leaves below each bound; 10% unless told.",
)
@click.option(
    "--baseline",
    type=click.Choice(["cost", "epochs", "none"]),
    default="cost",
    show_default=True,
    help="Train the student alone too: at the cost of distilling it, or for as many epochs.",
)
@train_options
def run(
    recipe: str | None,
    baseline: str,
    budget: Budget | None,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Teach, distil, export, profile and report, as RECIPE (a name or a .toml file) and flags say.

    Without arguments: scikit-learn's digits, in a minute or two. With --data and no RECIPE, name
    the --teacher and the --student too. A run that was cut off goes on where it was when the same
    command is given again.

    With --budget the student is found: candidates are timed on the device before any is trained,
    the most accurate that fits is distilled, exported in the precision that pays, and measured;
    where the budget does not hold, the next precision, a smaller student or a longer training is
    tried. Exit code 1: none was found, with the best there is and the cheapest way out.
    """
    made = _recipe(recipe, budget, flags)
    if print_recipe:
        show_recipe(made, as_json=as_json)
        return 0
    from edgekd.cli._screen import Screen
    from edgekd.flow.running import Run

    out = output or Path("runs") / Path(str(_own(recipe, flags) or recipe or DEMO)).stem
    command = shlex.join(["edgekd", *sys.argv[1:]])
    stages = _stages(budget, flags)
    with Screen() as screen:
        summary = stages(
            Run(made, out, screen, baseline=baseline, restart=restart, command=command)
        )
    if as_json:
        print_json(summary)
    else:
        _print(out, summary)
    return int(budget is not None and summary["budget"]["state"] != "holds")


def _own(recipe: str | None, flags: dict[str, Any]) -> Any:
    """The data, where no recipe names another."""
    return flags["data"] if recipe is None else None


def _recipe(source: str | None, budget: Budget | None, flags: dict[str, Any]) -> Recipe:
    own = _own(source, flags)
    if budget is None:
        looking = ("students", "sizes", "attempts", "margin")
        given = [name for name in looking if flags[name] is not None]
        if given:
            raise click.UsageError(f"--{given[0]} says how to look for what keeps a --budget.")
    if own is not None and not (flags["teacher"] and (flags["student"] or budget is not None)):
        both = "a --teacher" if budget is not None else "a --teacher and a --student"
        raise click.UsageError(f"--data without a RECIPE needs {both}.")
    if budget is not None and flags["student"]:
        _check_begins_anew(flags["student"])
    if flags["student"] and flags["students"]:
        raise click.UsageError("--student is the only network tried, --students many. Give one.")
    first = [] if budget is None else ["export.precision=auto"]  # a --set comes after, and wins
    if flags["device"]:
        from edgekd.recipe import toml_of

        first.append(f"profile.device={toml_of(flags['device'])}")
    settings = (*first, *(flags["settings"] or ()))
    return recipe_of({**flags, "settings": settings}, source=source if source or own else DEMO)


def _check_begins_anew(student: str) -> None:
    """Refuse weights for a student that is looked for, which would not be used."""
    from edgekd.recipe import Network

    named = Network.parse(student)
    if not named.weights:
        return
    anew = "a student that is tried for a --budget begins with random weights, as often as it takes"
    if not named.name:
        raise click.UsageError(
            f"--student {student} is a trained network, and {anew}. Name a network (edgekd list "
            "model). To see whether this one keeps the budget: edgekd export, then edgekd profile."
        )
    raise click.UsageError(
        f"--student {student} names weights, and {anew}. Give --student {named.name}; or, to begin "
        "with those weights, leave --budget out."
    )


def _stages(budget: Budget | None, flags: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """The run with a student that is told, or the search for one; imported before it is shown."""
    if budget is None:
        from edgekd.flow.running import run as run_all

        return run_all
    from edgekd.flow.mission.accomplishing import Mission, accomplish

    space = (flags["student"],) if flags["student"] else flags["students"] or ()
    told = {name: flags[name] for name in ("attempts", "margin") if flags[name] is not None}
    return lambda task: accomplish(Mission(task, budget, space, flags["sizes"] or (), **told))


def _print(out: Path, summary: dict[str, Any]) -> None:
    if "budget" in summary:
        from edgekd.cli._rulings import print_mission

        print_mission(out, summary)
        return
    from edgekd.cli._tables import print_run

    print_run(out, summary)
