"""Add, list, examine and remove devices of your own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._options import as_json
from edgekd.cli._printing import echo, print_json

if TYPE_CHECKING:
    from edgekd.flow.examining import Examined

GUTTER = 9
NAMES = 12


@click.group(short_help="Add, list, examine and remove devices.")
def device() -> None:
    """Add, list, examine and remove devices: boards of yours that --device then knows by name."""


@device.command("add", short_help="Add a device by its address.")
@click.argument("name")
@click.argument("address")
@click.option("--profile", "kind", default="", help="Kind of board; none for no kind. Else asked.")
@click.option("--python", default="", help="The Python there that has numpy and the runtime.")
@click.option("--folder", default="", help="Where edgekd keeps its files there.")
@click.option("--offline", is_flag=True, help="Do not connect; takes --profile on trust.")
@click.option("--replace", is_flag=True, help="Overwrite a device of that name.")
@as_json
def add(
    name: str,
    address: str,
    kind: str,
    python: str,
    folder: str,
    offline: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Add a device: NAME is yours to choose, ADDRESS is ssh://user@host:port, user@host or a Host.

    The device is asked what it is, and the profile that describes such boards is taken.
    """
    from edgekd.boards import Connect
    from edgekd.flow.boarding import add as add_device

    connect = Connect(address, python, folder)
    added = add_device(name, connect, kind=kind, offline=offline, replace=replace)
    if as_json:
        file, kind = str(added.file), added.board.based_on
        print_json({"name": name, "kind": kind, "file": file, "survey": added.survey})
        return
    if added.survey is not None:
        found = added.survey["device"]
        echo(f"{found['soc'] or found['cpu']}, {found['os']}, Python {found['python']}")
    if kind not in ("", "none", added.likely) and added.likely:
        echo(f"It says of itself what fits {added.likely} rather than {kind}.", err=True)
    title = added.board.title or "of a kind that no profile describes"
    echo(f"{name}: {added.board.based_on or 'no profile'} ({title}), written to {added.file}")
    echo(f"See what it lacks: edgekd device doctor {name}")


@device.command("list", short_help="List your devices.")
@as_json
def list_(as_json: bool) -> None:
    """List your devices; edgekd list device has the kinds of boards as well."""
    from edgekd.flow.roster import rows

    found = rows()
    if as_json:
        print_json(found)
        return
    if not found:
        echo("No device of yours. Add one: edgekd device add NAME user@host", err=True)
    wide = {key: max((len(row[key]) for row in found), default=0) for key in ("name", "kind")}
    for row in found:
        said = row["problem"] or f"{row['address']} {row['python']}"
        echo(f"{row['name']:<{wide['name']}}  {row['kind']:<{wide['kind']}}  {said}".rstrip())


@device.command("remove", short_help="Forget a device.")
@click.argument("name")
@click.option("--clean", is_flag=True, help="Remove edgekd's files there as well.")
@as_json
def remove(name: str, clean: bool, as_json: bool) -> None:
    """Forget a device."""
    from edgekd.flow.roster import remove as remove_device

    gone = remove_device(name, clean=clean)
    if as_json:
        print_json({"name": name, "file": str(gone), "cleaned": clean})
        return
    echo(f"{name} is forgotten: {gone} is gone{', and its files there' if clean else ''}.")


@device.command("doctor", short_help="Check a device.")
@click.argument("name")
@click.option("--venv", is_flag=True, help="Make an environment with the runtime there.")
@click.option("--clean", is_flag=True, help="Remove edgekd's files there, environments as well.")
@as_json
def doctor(name: str, venv: bool, clean: bool, as_json: bool) -> None:
    """Check a device, NAME or an address: what it has, what it lacks, and what to do about it.

    Exit 1 if nothing can be measured there. With --clean nothing is checked.
    """
    from edgekd.flow.examining import examine

    if clean and venv:
        raise click.UsageError("--clean removes what --venv makes. Give one of the two.")
    if clean:
        _clear(name, as_json=as_json)
        return
    if not as_json:
        echo(f"Asking {name} what it has ...", err=True)  # a host that hangs takes a minute
    found = examine(name)
    if not as_json:
        _print(found)
    if found.survey and (venv or (found.lacking and not as_json and _agreed(name))):
        found = _furnish(found, quiet=as_json)
    if as_json:
        print_json(_told(found))
    if not found.ok:
        raise click.exceptions.Exit(1)


def _clear(name: str, *, as_json: bool) -> None:
    from edgekd.flow.roster import clear

    python = clear(name)
    if as_json:
        print_json({"name": name, "cleaned": True, "python": python or None})
        return
    use = f"; its Python is {python}" if python else ""
    echo(f"{name} is clean: what edgekd kept there is gone{use}.")


def _agreed(name: str) -> bool:
    """Ask, where somebody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        echo(f"An environment with all of it: edgekd device doctor {name} --venv")
        return False
    return click.confirm("Make a virtual environment with what it lacks there?", default=True)


def _furnish(found: Examined, *, quiet: bool) -> Examined:
    """Make the environment, and look again with its Python."""
    from edgekd.flow.furnishing import equip

    if quiet:
        return equip(found).examined
    made = equip(found, _Told())
    echo(made.words)
    _print(made.examined)
    return made.examined


class _Told:
    """Told what happens, on standard error."""

    def say(self, text: str) -> None:
        echo(text, err=True)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """There are no steps to count."""


def _print(found: Examined) -> None:
    for check in found.checks:
        mark = "ok" if check.ok else "-" if check.optional else "PROBLEM"
        _line(f"{mark:<{GUTTER}}{check.name:<{NAMES}} ", check.found)
        if check.advice and not check.ok:
            _line(" " * (GUTTER + NAMES + 1), check.advice)


def _line(head: str, text: str) -> None:
    """Wrapped, but for long words: commands and paths are copied."""
    import shutil
    import textwrap

    columns = max(shutil.get_terminal_size().columns, GUTTER + NAMES + 40)
    indent = " " * (GUTTER + NAMES + 1)
    wrapped = textwrap.fill(
        text,
        columns,
        initial_indent=head,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    echo(wrapped)


def _told(found: Examined) -> dict[str, Any]:
    return {
        "name": found.name,
        "profile": found.board.based_on or (found.board.name if found.board.title else None),
        "ok": found.ok,
        "checks": [check.__dict__ for check in found.checks],
        "survey": found.survey,
    }
