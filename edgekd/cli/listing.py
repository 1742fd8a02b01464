"""List what there is."""

from __future__ import annotations

import click

from edgekd import plugins
from edgekd.cli._options import as_json, print_json

KINDS = ("method", "model", "dataset", "device", "runtime", "recipe")


@click.command("list", short_help="List methods, models, data sets, devices, recipes.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("part", required=False)
@as_json
def listing(kind: str, part: str | None, as_json: bool) -> None:
    """List methods, models, data sets, devices, runtimes or recipes; PART filters the names."""
    found = {name: text for name, text in _found(kind).items() if (part or "") in name}
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(f"No {kind} has {part!r} in its name.", err=True)
    width = max(map(len, found), default=0)
    for name, text in found.items():
        click.echo(f"{name:<{width}}  {text}".rstrip())


def _found(kind: str) -> dict[str, str]:
    if kind == "model":
        from edgekd.models.zoo import names

        return dict.fromkeys(names(), "")
    if kind == "recipe":
        from edgekd.profiles import profile_folders

        files = [file for folder in profile_folders("recipes") for file in folder.glob("*.toml")]
        return {file.stem: _first_line(file.read_text("utf-8")) for file in sorted(files)}
    return plugins.summaries(kind)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removeprefix("#").strip()
