"""Names of any making stay names: no path leaves its folder, no argument becomes a command."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekd.boards import read_board
from edgekd.devices import _hosts
from edgekd.devices._posix import Posix, settle
from edgekd.devices.local import Local
from edgekd.devices.ssh import _Link
from edgekd.errors import DeviceError, RecipeError, UnknownNameError, UsageError
from edgekd.flow.boarding import quoted
from edgekd.recipe import Recipe
from edgekd.scouting.reading import read_space
from tests.properties.spoiling import NAMES

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
PARTS = st.lists(st.sampled_from(["..", ".", "a", "", "~", "-x", "a b"]), max_size=5).map("/".join)
PATHS = NAMES.map(lambda name: name.replace("\0", "0")) | WORDS | PARTS | PARTS.map("/{}".format)


class _Nowhere:
    """A link that runs nothing."""

    def command(self, *argv: str) -> list[str]:
        return list(argv)


@given(PATHS)
def test_a_remote_path_lies_in_the_folder_or_is_refused(remote: str) -> None:
    device = Posix(_Nowhere(), "board", "python3", "edgekd-agent")  # type: ignore[arg-type]
    try:
        found = device._inside(remote)
    except DeviceError:
        return
    assert found.startswith("./")
    assert ".." not in PurePosixPath(found).parts


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    return Local("local", "", "", str(tmp_path_factory.mktemp("device") / "folder"))


@given(remote=PATHS)
def test_so_does_one_on_this_machine(local: Local, remote: str) -> None:
    try:
        found = local._inside(remote)
    except DeviceError:
        return
    assert found.is_relative_to(local.folder.resolve())


@given(PATHS, st.sampled_from(["", "/data/local/tmp/"]))
def test_a_folder_of_a_profile_is_no_option_and_does_not_climb(folder: str, start: str) -> None:
    try:
        found = settle(folder, start)
    except UsageError:
        return
    assert not found.startswith(("-", "~"))
    assert ".." not in PurePosixPath(found).parts
    assert ":" not in found


@given(WORDS | st.from_regex(_hosts._ADDRESS, fullmatch=True))
@example("ssh://-oProxyCommand=id@host")
@example("user@-oProxyCommand=id")
def test_an_address_is_read_or_refused_and_never_an_option(text: str) -> None:
    try:
        host = _hosts.parse(text)
    except UsageError:
        return
    assert not host.host.startswith("-")
    assert not (host.user or "").startswith("-")
    before, mark, last = host.arguments[:-2], *host.arguments[-2:]
    assert (mark, last) == ("--", host.host)
    assert set(before[::2]) <= {"-p", "-l"}


@given(st.text())
@example('"\n[connect]\naddress = "elsewhere"\n#')
def test_a_text_in_a_profile_that_is_written_stays_that_text(text: str) -> None:
    assert tomllib.loads(f"python = {quoted(text)}") == {"python": text}


@pytest.mark.parametrize("load", [Recipe.load, read_board, read_space])
@given(name=NAMES | WORDS | PARTS)
@example(name="x" * 5000)
@example(name="x" * 5000 + ".toml")
@example(name="a\0b.toml")
@example(name="\udce9/x")
def test_a_name_of_a_profile_is_found_or_said_to_be_unknown(
    load: Callable[[str], object], name: str
) -> None:
    with pytest.raises((RecipeError, UnknownNameError)):
        load(name)


@given(st.lists(WORDS, min_size=1, max_size=3))
@example(["$(touch owned)", "; touch owned", "`touch owned`"])
@example(["'\"", "-n", "\n touch owned"])
@settings(max_examples=25)
def test_what_is_said_over_ssh_is_no_more_than_words(words: list[str]) -> None:
    link = _Link(_hosts.parse("ssh://user@board"), "board")
    *_, said = link.command("printf", r"%s\0", *words)
    done = subprocess.run(["sh", "-c", said], capture_output=True, check=True, text=False)
    assert done.stdout.decode().split("\0")[:-1] == words
    assert not Path("owned").exists()
