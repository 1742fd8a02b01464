"""List what there is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgekd import plugins
from edgekd.cli._options import as_json
from edgekd.cli._printing import echo, print_json
from edgekd.errors import reason
from edgekd.files import contents
from edgekd.structure import cut, shown

LONGEST = 200
"""Letters of what a file of the user's says of itself."""
KINDS = ("method", "model", "dataset", "device", "runtime", "recipe")


@click.command("list", short_help="List methods, models, data sets, devices, recipes.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("part", required=False)
@as_json
def listing(kind: str, part: str | None, as_json: bool) -> None:
    """List methods, models, data sets, devices, runtimes or recipes; PART filters the names."""
    if kind == "method":
        _list_methods(part or "", as_json=as_json)
        return
    found = {name: text for name, text in _found(kind).items() if (part or "") in name}
    if as_json:
        print_json(found)
        return
    if not found:
        echo(f"No {kind} has {shown(part)} in its name.", err=True)
    width = max(map(len, found), default=0)
    for name, text in found.items():
        echo(f"{name:<{width}}  {text}".rstrip())


def _list_methods(part: str, *, as_json: bool) -> None:
    from edgekd.catalogue import methods

    found = {name: entry for name, entry in methods().items() if part in name}
    if as_json:
        print_json({name: asdict(entry) for name, entry in found.items()})
        return
    if not found:
        echo(f"No method has {shown(part)} in its name.", err=True)
        return
    indent = " " * 20
    for name, entry in found.items():
        cost = "" if entry.cost is None else f"{entry.cost:.2f}x kd"
        echo(f"{name:<9} {cost:<9} {entry.summary}")
        text = f"needs {', '.join(entry.needs)}; suits {entry.suits}"
        echo(click.wrap_text(text, 100, indent, indent))
    echo("Costs are seconds of a training step, teacher included, beside one of ce + kd.")


def _found(kind: str) -> dict[str, str]:
    if kind == "model":
        from edgekd.models.zoo import names

        return dict.fromkeys(names(), "")
    if kind == "recipe":
        return _profiles("recipes")
    reached = plugins.summaries(kind)
    return reached | _profiles("devices") if kind == "device" else reached


def _profiles(kind: str) -> dict[str, str]:
    """Names of TOML files, and the comment each begins with; the user's own come first."""
    from edgekd.profiles import profile_folders

    files = [f for folder in reversed(profile_folders(kind)) for f in sorted(folder.glob("*.toml"))]
    return {file.stem: _first_line(file) for file in files}


def _first_line(file: Path) -> str:
    try:
        text = contents(file).decode("utf-8-sig")
    except OSError as error:
        return f"{file} cannot be read: {reason(error)}"
    except ValueError:
        return f"{file} cannot be read: it is not UTF-8 text"
    return cut(text.partition("\n")[0].removeprefix("#").strip(), LONGEST)
