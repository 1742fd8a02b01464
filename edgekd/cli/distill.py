"""Distil a student from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from edgekd.recipe import Recipe

MISSING = {
    "teacher": "Give NAME:WEIGHTS, or a folder that edgekd teach made; or a --peer.",
    "student": "Give the name of a smaller network; edgekd list model has them.",
}


@click.command(short_help="Distil a student from a teacher.")
@click.option("--teacher", metavar="NAME", help="NAME:WEIGHTS, or an artifact's folder.")
@click.option("--student", metavar="NAME", help="NAME[:WEIGHTS]; see edgekd list model.")
@click.option("--peer", metavar="NAME", help="Learn beside this network, each the other's teacher.")
@click.option("--method", metavar="SUM", help=METHOD_HELP)
@click.option("--recipe", metavar="NAME", help="A recipe's name or .toml file to start from.")
@click.option(
    "--baseline",
    is_flag=False,
    flag_value="cost",
    type=click.Choice(["cost", "epochs", "none"]),
    default="none",
    help="Train the student alone too, at the cost of distilling it or for as many epochs.",
)
@data_options
@train_options
@output
@restart
@as_json
def distill(
    recipe: str | None,
    baseline: str,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Distil a student from a teacher.

    A training that was cut off goes on where it was when the same command is given again.
    """
    made = recipe_of(flags, source=recipe)
    if print_recipe:
        show_recipe(made, as_json=as_json)
        return
    if flags["peer"] and flags["teacher"]:
        raise click.UsageError("--teacher and --peer: a student learns from one of them.")
    if recipe is None:
        _check_named(made, flags)
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import gain_sentence, print_networks
    from edgekd.flow.baseline import compare_alone
    from edgekd.flow.training import distill as train

    out = output or Path("runs/student")
    gain = None
    with Screen() as screen:
        artifacts = [train(made, out, screen, restart=restart)]
        if baseline != "none":
            alone, gain = compare_alone(
                made, artifacts[0], out / "baseline", baseline, screen, restart=restart
            )
            artifacts.insert(0, alone)
    student = artifacts[-1]
    if as_json:
        found = {"path": str(out), "sha256": student.sha256, **student.manifest["metrics"]}
        print_json(found | {"gain": gain})
        return
    print_networks(artifacts)
    if gain is not None:
        click.echo(gain_sentence(gain))
    click.echo(f"Next: edgekd export {out} --onnx")


def _check_named(made: Recipe, flags: Mapping[str, object]) -> None:
    """The default names are examples: nobody means them who named none."""
    for role, advice in MISSING.items():
        if role == "teacher" and flags["peer"]:
            continue
        if not flags[role] and not getattr(made, role).weights:
            raise click.UsageError(f"--{role} is missing. {advice}")
