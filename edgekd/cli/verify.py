"""Repeat the proof of an artifact on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.cli._options import DATA, Named, as_json, source_options
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.flow.differences import Figure
    from edgekd.flow.verifying import Verification


@click.command(short_help="Repeat an artifact's proof on a device.")
@click.argument("artifact", type=Named())
@click.option("--device", default="local", show_default=True, help="Where the proof is from.")
@click.option("--gate", is_flag=True, help="Exit 1 too where it cannot be told, for use in CI.")
@click.option("--max-seconds", type=float, help="End a timing then, not at the proof's own limit.")
@source_options
@as_json
def verify(
    artifact: Path,
    device: str,
    gate: bool,
    max_seconds: float | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Measure ARTIFACT again as edgekd profile did on the device, and compare.

    It says same, faster, slower, different answers, or cannot tell; exit 1 for slower, for
    different answers, and for slower once and then too noisy to confirm. --data is for images that
    lie elsewhere now.
    """
    from edgekd.cli._screen import Screen
    from edgekd.flow.verifying import verify as measure_again

    given = {key: flags[key] for key in DATA if flags.get(key) is not None}
    data = {DATA[key][0].removeprefix("data."): value for key, value in given.items()}
    with Screen() as screen:
        found = measure_again(artifact, device, max_seconds=max_seconds, data=data, watch=screen)
    passed = found.passed(gate=gate)
    if as_json:
        print_json({**found.to_dict(), "passed": passed})
    else:
        _print(found)
    if not passed:
        raise click.exceptions.Exit(1)


def _print(found: Verification) -> None:
    """What was, what is, and one sentence."""
    from rich.console import Console

    from edgekd.cli._tables import Grid, print_line

    console = Console()
    table = Grid("", "proof", "now", "change")
    for figure in found.judgement.figures:
        change = "" if figure.change is None else f"{figure.change:+.1%} "
        old, now = _number(figure, figure.old), _number(figure, figure.now)
        table.add_row(figure.name, old, now, f"{change}{figure.word}")
    said = found.judgement.answers
    for name, of, other in (
        ("predictions", said.images, said.different),
        ("timed inputs", said.feeds, said.other_classes),
    ):
        if of:
            table.add_row(name, f"{of:,}", f"{of - other:,} same class", f"{other:,} other")
    table.add_row("verdict", *(str(r["verdict"]["state"]) for r in (found.old, found.now)), "")
    table.print(console)
    print_line(console, f"{found.judgement.sentence}")


def _number(figure: Figure, value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value / 1e6:.0f} MB" if figure.unit == "B" else f"{value:.4g} {figure.unit}"
