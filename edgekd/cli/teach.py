"""Train or fine-tune a teacher."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgekd.cli._options import from_recipe, recipe_of, show_recipe, train_options
from edgekd.cli._printing import echo, print_json


@click.command(short_help="Train or fine-tune a teacher.")
@click.option(
    "--teacher", metavar="NAME", required=True, help="NAME, or NAME:WEIGHTS to fine-tune."
)
@from_recipe
@train_options
def teach(
    recipe: str | None,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Train or fine-tune a teacher on the labels, in the loop that distils as well."""
    made = recipe_of(flags, "teach", recipe)
    if print_recipe:
        show_recipe(made, as_json=as_json)
        return
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import print_networks
    from edgekd.flow.training import teach as train

    out = output or Path("runs/teacher")
    with Screen() as screen:
        artifact = train(made, out, screen, restart=restart)
    if as_json:
        print_json({"path": str(out), "sha256": artifact.sha256, **artifact.manifest["metrics"]})
    else:
        print_networks([artifact])
        size = f" --size {made.data.size}" if made.data.size else ""
        size += f" --limit {made.data.limit}" if made.data.limit else ""
        data = f"--data {shlex.quote(made.data.source)}{size}"
        echo(f"Next: edgekd distill --teacher {out} --student NAME {data}")
