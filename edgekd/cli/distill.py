"""Distil a student from a teacher."""

from __future__ import annotations

from pathlib import Path

import click

from edgekd.cli._options import (
    METHOD_HELP,
    check_named,
    from_recipe,
    pair_options,
    recipe_of,
    show_recipe,
    train_options,
)
from edgekd.cli._printing import echo, print_json


@click.command(short_help="Distil a student from a teacher.")
@pair_options
@click.option("--peer", metavar="NAME", help="Learn beside this network, each the other's teacher.")
@click.option("--method", metavar="SUM", help=METHOD_HELP)
@from_recipe
@click.option(
    "--baseline",
    is_flag=False,
    flag_value="cost",
    type=click.Choice(["cost", "epochs", "none"]),
    default="none",
    help="Train the student alone too, at the cost of distilling it or for as many epochs.",
)
@train_options
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
        check_named(made, flags, ["student"] if flags["peer"] else ["teacher", "student"])
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import gain_sentence, print_networks
    from edgekd.flow.baseline import compare_alone
    from edgekd.flow.launch import claimed
    from edgekd.flow.training import distill as train

    out = output or Path("runs/student")
    gain = None
    with Screen() as screen, claimed(out, "distill"):
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
        echo(gain_sentence(gain))
    echo(f"Next: edgekd export {out} --onnx")
