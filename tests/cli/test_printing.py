"""Nothing that others called something is obeyed by the terminal, by whatever way it gets there."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from edgekd.cli import _printing
from edgekd.cli._printing import echo, print_json, spell_out
from edgekd.cli._screen import Screen
from edgekd.cli._tables import Grid, print_line
from edgekd.plain import one_line, plain
from tests.bad_input.devices import HOSTILE
from tests.bad_input.table import unprintable

CLI = Path(_printing.__file__).parent
WAYS = {
    "_printing.py": {"click.echo", "error.show"},  # into a text
    "_tables.py": {"console.print", "print"},
    "__init__.py": {"click.echo"},  # of one_screen() texts
}
"""What prints, and which files may: all others go through them."""
PRINTS = {"click.echo", "click.secho", "print", "rich.print", "error.show", "console.print"}
PRINTS |= {"sys.stdout.write", "sys.stderr.write", "self._console.print", "Console().print"}


def printing(tree: ast.Module) -> set[str]:
    """Calls that write to a terminal."""
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call for call in calls if call in PRINTS}


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: str(file.name))
def test_there_is_one_way_to_the_terminal(file: Path) -> None:
    assert printing(ast.parse(file.read_text("utf-8"))) <= WAYS.get(file.name, set())


def test_nothing_else_prints() -> None:
    others = [file for file in CLI.parent.rglob("*.py") if not {"cli", "agent"} & set(file.parts)]
    found = {f.name for f in others if printing(ast.parse(f.read_text("utf-8")))}
    assert found <= {"infer.py", "__main__.py"}  # on a device; and what no words of others are in


def test_an_injected_print_is_caught() -> None:
    source = "click.echo(x)\nprint(x)\nconsole.print(x)\ntable.print(console)\necho(x)"
    assert printing(ast.parse(source)) == {"click.echo", "print", "console.print"}


def test_every_way_spells_out(capsys: pytest.CaptureFixture[str]) -> None:
    table = Grid("a", HOSTILE, fold=True)
    table.add_row("[red]x[/red] :smile: [/]", HOSTILE)
    table.print(Console(width=300))
    print_line(Console(width=300), f"[b]{HOSTILE}")
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    print_json({HOSTILE: HOSTILE, "\x7f": 1})
    with Screen() as screen:
        screen.say(f"{HOSTILE}\nedgekd: all is well")
        screen.progress(HOSTILE, 1, 1, HOSTILE)
    said = capsys.readouterr()
    assert not unprintable(said.out + said.err)
    assert said.out.count("\\x1b]52;c;cm0gLXJm\\x07") == 4
    assert "[red]x[/red] :smile: [/]" in said.out
    assert "\\x07 edgekd: all is well" in said.err
    given = said.out[said.out.index("{") :]
    assert json.loads(given) == {HOSTILE: HOSTILE, "\x7f": 1}


def test_bars_spell_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    with Screen() as screen:
        screen.progress(f"distill {HOSTILE}", 1, 2, f"[red]{HOSTILE}")
    assert "[red]\\x1b]0;owned" in heard.getvalue()
    for obeyed in ("\x1b]", "\x07", "\x9b", "\u202e", "\x1b[2J"):
        assert obeyed not in heard.getvalue()


def test_what_an_encoding_lacks_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, "iso8859-1"))
    spell_out()
    echo("55 °C 猫 \udce9")
    sys.stdout.flush()
    assert buffer.getvalue() == b"55 \xb0C \\u732b \\udce9\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größer 猫 🐈\u200d⬛", "größer 猫 🐈\u200d⬛"),
        ("a\nb", "a\nb"),
        ("a\tb\r", "a\\tb\\r"),
        ("\x1b[2J\x9b", "\\x1b[2J\\x9b"),
        ("\u202egnp", "\\u202egnp"),
        ("\u2028\u00ad\ufeff", "\\u2028\\xad\\ufeff"),
        ("caf\udce9", "caf\\udce9"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_one_line() -> None:
    assert one_line("a\nb\r\nc  d") == "a b c  d"
    assert one_line("x" * 20, 10) == "x" * 9 + "…"
    assert one_line("x" * 10, 10) == "x" * 10
