"""Write what a device needs to run an artifact without edgekd."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.cli._options import Named, as_json
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.deploy import Bundle


@click.command(short_help="Write a folder that runs an artifact without edgekd.")
@click.argument("artifact", type=Named())
@click.option(
    "-o",
    "--output",
    type=Named(),
    help="Folder, or NAME.tar.gz; ARTIFACT-deploy by default.",
)
@click.option("--device", help="Whose measurement says runtime and threads, if there are several.")
@as_json
def deploy(artifact: Path, output: Path | None, device: str | None, as_json: bool) -> None:
    """Write ARTIFACT's model with all that a device needs to run it.

    Beside the model: labels, infer.py, requirements, a systemd unit and the model card.
    infer.py needs numpy and the runtime. It prepares pictures as edgekd does, to the bit (those of
    a .npy are taken as they are), and runs the model on the threads it was measured with.
    """
    from edgekd.cli._screen import Screen
    from edgekd.flow.deploying import deploy as write

    with Screen() as screen:
        made, measured = write(artifact, output, device, screen)
    if as_json:
        found = None if measured is None else asdict(measured)
        print_json({"path": str(made.path), "files": made.files, "measured": found})
        return
    _print(made, None if measured is None else measured.found)


def _print(made: Bundle, found: str | None) -> None:
    """What there is, how it will run, and how to try it."""
    from rich.console import Console

    from edgekd.cli._tables import Grid, print_line

    console = Console()
    table = Grid("file", "bytes")
    for name, size in made.files.items():
        table.add_row(name, f"{size:,}")
    table.print(console)
    if found is not None:
        print_line(console, f"Runs as it was measured: {found}.")
    print_line(console, f"Written: {made.path}")
    unpack, place = "", made.path
    if not place.is_dir():
        unpack, place = f"tar xzf {shlex.quote(str(place))} && ", Path(made.name)
    program = shlex.quote(str(place / "infer.py"))
    print_line(console, f"Try it: {unpack}python3 {program} PICTURE_OR_FOLDER --top 3")
