"""Say what this machine has, and what is missing."""

from __future__ import annotations

import click

from edgekd.cli._options import as_json
from edgekd.cli._printing import echo, print_json


@click.command(short_help="Check this machine.")
@as_json
def doctor(as_json: bool) -> None:
    """Check this machine: Python, packages, processor, memory, disk, GPU; exit 1 if unusable."""
    from edgekd.flow.checkup import checkup

    found = checkup()
    if as_json:
        print_json([check.__dict__ for check in found])
    else:
        for check in found:
            mark = "ok     " if check.ok else "-      " if check.optional else "PROBLEM"
            echo(f"{mark}  {check.name:<14} {check.found}")
            if check.advice and not check.ok:
                echo(f"         {'':<14} {check.advice}")
    if any(not check.ok and not check.optional for check in found):
        raise click.exceptions.Exit(1)
