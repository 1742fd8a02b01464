"""Write a run's report."""

from __future__ import annotations

from pathlib import Path

import click

from edgekd.cli._options import Named, as_json, output
from edgekd.cli._printing import echo, print_json


@click.command(short_help="Write a run's report: HTML, Markdown, JSON.")
@click.argument("folder", type=Named())
@output
@as_json
def report(folder: Path, output: Path | None, as_json: bool) -> None:
    """Write report.html, report.md and report.json for a run's FOLDER."""
    from edgekd.report import write

    paths = {kind: str(path) for kind, path in write(folder, output).items()}
    if as_json:
        print_json(paths)
    else:
        for path in paths.values():
            echo(path)
