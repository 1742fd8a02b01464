"""Schema versions: newer files are refused, older ones read by a chain of readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import ArtifactError, UsageError
from edgekd.schema import ALL, Schema


def _second(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "size": [old["side"], old["side"]]}


def _third(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "width": old["size"][1]}


PICTURE = Schema(
    "picture", 3, "draw it again", ArtifactError, unsaid=1, readers={1: _second, 2: _third}
)
FILE = Path("picture.json")


@pytest.mark.parametrize(
    "table",
    [
        {"side": 8},  # the first ones said no version
        {"schema_version": 1, "side": 8},
        {"schema_version": 2, "side": 8, "size": [8, 8]},
        {"schema_version": 3, "side": 8, "size": [8, 8], "width": 8},
    ],
)
def test_each_version_is_read_as_if_it_were_written_today(table: dict[str, Any]) -> None:
    before = json.dumps(table)
    found = PICTURE.read(table, FILE)
    assert found == {**PICTURE.head, "side": 8, "size": [8, 8], "width": 8}
    assert json.dumps(table) == before


def test_a_newer_one_is_refused_and_says_what_to_do() -> None:
    for way in (PICTURE.read, PICTURE.shown):
        with pytest.raises(ArtifactError) as refused:
            way({"schema_version": 4}, FILE)
        assert str(refused.value) == (
            "picture.json has schema 4; this edgekd reads 1 to 3. Update edgekd, or draw it again."
        )


NONSENSE: tuple[Any, ...] = (0, -1, True, 1.0, "1", None, [], {}, "x" * 10_000, 10**100)


@pytest.mark.parametrize("version", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_in_a_line(version: Any) -> None:
    words = r"picture\.json has schema .+ [Dd]raw it again"
    with pytest.raises(ArtifactError, match=words) as refused:
        PICTURE.read({"schema_version": version, "side": 8}, FILE)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("table", [[], None, 3, "x"])
def test_what_is_no_table_is_refused(table: Any) -> None:
    with pytest.raises(ArtifactError, match="has schema None"):
        PICTURE.read(table, FILE)
    assert PICTURE.shown(table, FILE) == table


def test_an_older_one_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"not a whole picture of schema 1: 'side'\. Draw"):
        PICTURE.read({"schema_version": 1}, FILE)


def test_a_file_that_may_be_made_again_is_empty_unless_it_is_newer(tmp_path: Path) -> None:
    file = tmp_path / "picture.json"
    assert PICTURE.found(file) == {}
    for damaged in ("", "{", "[" * 100_000, "[]", '{"schema_version": true, "side": 1}', "\x00"):
        file.write_text(damaged)
        assert PICTURE.found(file) == {}
    file.write_text('{"side": 8}')
    assert PICTURE.found(file)["width"] == 8
    file.write_text('{"schema_version": 4}')
    with pytest.raises(ArtifactError, match="Update edgekd"):
        PICTURE.found(file)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\udcff"])
def test_a_file_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError, match=r"picture\.json cannot be read: .* Draw it again"):
        PICTURE.load(file)


def test_every_kind_has_its_own_name_and_a_reader_from_each_version_on() -> None:
    assert len({schema.kind for schema in ALL}) == len(ALL)
    for schema in ALL:
        assert set(schema.readers) == set(range(1, schema.version)), schema.kind
        assert issubclass(schema.error, ArtifactError | UsageError)
