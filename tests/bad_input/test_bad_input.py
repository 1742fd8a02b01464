"""Bad input: one screen that says what was found and what to do, a code, and nothing half-made."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bad_input import table
from tests.bad_input.checkpoints import trapped
from tests.bad_input.table import Cases, Place
from tests.cli.conftest import Command

NOT_TABLES = ("table", "conftest")
TABLES = {
    file.stem: importlib.import_module(f"tests.bad_input.{file.stem}")
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if file.stem not in NOT_TABLES and not file.stem.startswith("test_")
}
CASES: Cases = table.merged(TABLES, "CASES")  # type: ignore[assignment]
LEFT: dict[str, Any] = table.merged(TABLES, "LEFT")
TOUCHED: dict[str, Any] = table.merged(TABLES, "TOUCHED")
SLOW: dict[str, Any] = table.merged(TABLES, "SLOW")
MARKS = {
    True: [pytest.mark.slow, pytest.mark.timeout(300)],
    False: [pytest.mark.timeout(60)],  # a case that hangs, on a FIFO for instance, fails
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[name in SLOW]) for name in CASES])
def test_bad_input(
    name: str, edgekd: Command, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange, code, words = CASES[name]
    place = Place(tmp_path, taught)
    table.at_home(place, monkeypatch)
    arguments = arrange(place)
    laid_out = table.listing(place)
    with table.bounded_memory():
        answer = edgekd(*arguments)
    table.assert_clear(answer, code, words)
    assert table.left(place.out) == LEFT.get(name, [])
    assert table.changed(laid_out, table.listing(place), TOUCHED.get(name, ())) == []
    assert not (tmp_path / "canary").exists()


def test_the_tables_are_whole() -> None:
    assert len(CASES) >= 400
    assert CASES.keys() >= LEFT.keys() | TOUCHED.keys() | SLOW.keys()


def test_the_trap_would_have_sprung(tmp_path: Path, taught: Path) -> None:
    trapped("system", lambda t: {"state_dict": t})(Place(tmp_path, taught))
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_what_a_command_writes_elsewhere_is_found_out(tmp_path: Path, taught: Path) -> None:
    place = Place(tmp_path, taught)
    (tmp_path / "mine").write_text("mine")
    before = table.listing(place)
    (tmp_path / "mine").write_text("yours")
    (tmp_path / "more").mkdir()
    (place.out / "deep").mkdir(parents=True)
    (place.out / "made").symlink_to("nowhere")
    assert table.left(place.out) == ["deep", "made"]
    changed = table.changed(before, table.listing(place))
    assert [Path(path).name for path in changed] == ["mine", "more"]
    assert not table.changed(before, table.listing(place), ["mine", "mo*"])


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_what_is_in_the_place_of_the_output_is_found_out(
    make: Callable[[Path], None], tmp_path: Path, taught: Path
) -> None:
    place = Place(tmp_path, taught)
    before = table.listing(place)
    make(place.out)
    made = table.listing(place)
    place.out.unlink()
    for one, other in ((before, made), (made, table.listing(place))):
        assert table.changed(one, other) == [str(place.out)]


@pytest.mark.parametrize("bad", ["\x1b[2J", "\r", "\x9b", "\u202e", "\x00", "\u200b"])
def test_what_a_terminal_obeys_is_found_out(bad: str) -> None:
    assert table.unprintable(f"a{bad}b\n") == [repr(bad[0])]
