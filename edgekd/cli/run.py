"""Run the whole mission."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from edgekd.cli._options import (
    METHOD_HELP,
    as_json,
    data_options,
    output,
    print_json,
    recipe_of,
    restart,
    show_recipe,
    train_options,
)

DEMO = "digits"


@click.command(short_help="Do the whole mission: teach, distil, export, profile, report.")
@click.argument("recipe", required=False)
@click.option(
    "--teacher",
    metavar="NAME",
    help="NAME[:WEIGHTS], or an artifact's folder; trained here without.",
)
@click.option("--student", metavar="NAME", help="NAME[:WEIGHTS]; see edgekd list model.")
@click.option("--method", metavar="SUM", help=METHOD_HELP)
@click.option(
    "--baseline",
    type=click.Choice(["cost", "epochs", "none"]),
    default="cost",
    show_default=True,
    help="Train the student alone too: at the cost of distilling it, or for as many epochs.",
)
@data_options
@train_options
@output
@restart
@as_json
def run(
    recipe: str | None,
    baseline: str,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Teach, distil, export, profile and report, as RECIPE (a name or a .toml file) and flags say.

    Without arguments: scikit-learn's digits, in a minute or two. With --data and no RECIPE, name
    the --teacher and the --student too. A run that was cut off goes on where it was when the same
    command is given again.
    """
    own = flags["data"] if recipe is None else None
    if own is not None and not (flags["teacher"] and flags["student"]):
        raise click.UsageError("--data without a RECIPE needs a --teacher and a --student.")
    made = recipe_of(flags, source=recipe if recipe or own else DEMO)
    if print_recipe:
        show_recipe(made, as_json=as_json)
        return
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import print_run
    from edgekd.flow.running import Run
    from edgekd.flow.running import run as run_all

    out = output or Path("runs") / Path(str(own or recipe or DEMO)).stem
    command = shlex.join(["edgekd", *sys.argv[1:]])
    with Screen() as screen:
        task = Run(made, out, screen, baseline=baseline, restart=restart, command=command)
        summary = run_all(task)
    if as_json:
        print_json(summary)
    else:
        print_run(out, summary)
