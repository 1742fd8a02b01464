"""Run the whole mission."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgekd.cli._options import (
    as_json,
    data_options,
    output,
    print_json,
    recipe_of,
    restart,
    train_options,
)


@click.command()
@click.argument("recipe", default="digits")
@click.option("--teacher", help="NAME[:WEIGHTS], or an artifact's folder; trained here without.")
@click.option("--student", help="NAME[:WEIGHTS].")
@click.option("--method", help='Such as "ce + 0.9*kd + at".')
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
    recipe: str,
    baseline: str,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Teach, distil, export, profile and report, as RECIPE (a name or a .toml file) and flags say.

    Without arguments: scikit-learn's digits, in a minute or two. A run that was cut off goes on
    where it was when the same command is given again.
    """
    made = recipe_of(flags, source=recipe)
    if print_recipe:
        click.echo(made.to_toml())
        return
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import print_run
    from edgekd.flow.running import Run
    from edgekd.flow.running import run as run_all

    out = output or Path("runs") / Path(recipe).stem
    command = " ".join(["edgekd", *sys.argv[1:]])
    with Screen() as screen:
        task = Run(made, out, screen, baseline=baseline, restart=restart, command=command)
        summary = run_all(task)
    if as_json:
        print_json(summary)
    else:
        print_run(out, summary)
