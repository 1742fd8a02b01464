"""Recipes that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bad_input.table import Case, Cases, Place

SYNTAX = "[data]\nsource = 'digits'\n[train]\nepochs = = 3\n"
UNKNOWN_KEY = "[data]\nsource = 'digits'\n\n[train]\nlr = 0.1\nepoch = 3\n"
WRONG_TYPE = "[data]\nsource = 'digits'\n[train]\nepochs = 'ten'\n"
OUT_OF_RANGE = "[train]\nbatch_size = 0\n"


def given(content: str | bytes) -> Case:
    """A run of a recipe's file with this content."""

    def case(place: Place) -> list[str | Path]:
        file = place.tmp / "mine.toml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["run", file, "-o", place.out]

    return case


def folder(place: Place) -> list[str | Path]:
    (place.tmp / "mine.toml").mkdir()
    return ["run", place.tmp / "mine.toml", "-o", place.out]


def pipe(place: Place) -> list[str | Path]:
    os.mkfifo(place.tmp / "mine.toml")
    return ["run", place.tmp / "mine.toml", "-o", place.out]


def circle(place: Place) -> list[str | Path]:
    (place.tmp / "mine.toml").symlink_to(place.tmp / "mine.toml")
    return ["run", place.tmp / "mine.toml", "-o", place.out]


def endless(place: Place) -> list[str | Path]:
    (place.tmp / "mine.toml").symlink_to("/dev/zero")
    return ["distill", "--recipe", place.tmp / "mine.toml", "-o", place.out]


def one_of_many(place: Place) -> list[str | Path]:
    own = place.home / ".config" / "edgekd" / "recipes"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text("[train]\nepochs = 0\n")
    return ["run", "mine", "-o", place.out]


CASES: Cases = {
    "recipe's syntax": (
        lambda p: ["run", p.recipe(SYNTAX), "-o", p.out],
        2,
        ["mine.toml", "not valid TOML", "line 4"],
    ),
    "recipe's unknown key": (
        lambda p: ["run", p.recipe(UNKNOWN_KEY), "-o", p.out],
        2,
        ["mine.toml, line 6", "unknown key 'train.epoch'", "Did you mean epochs"],
    ),
    "recipe's wrong type": (
        lambda p: ["run", p.recipe(WRONG_TYPE), "-o", p.out],
        2,
        ["mine.toml, line 4", "train.epochs is 'ten'", "expected a whole number"],
    ),
    "recipe out of range": (
        lambda p: ["run", p.recipe(OUT_OF_RANGE), "-o", p.out],
        2,
        ["mine.toml, line 2", "train.batch_size is 0", "expected at least 1"],
    ),
    "no such recipe": (
        lambda p: ["run", p.tmp / "none.toml", "-o", p.out],
        2,
        ["none.toml", "No such file"],
    ),
    "no such recipe's name": (
        lambda p: ["run", "digit", "-o", p.out],
        2,
        ["there is no recipe 'digit'", "Did you mean digits"],
    ),
    # ---- values ----
    "recipe with a text for a section": (
        given("train = 'long'\n"),
        2,
        ["mine.toml, line 1", "train is 'long'", "expected a table"],
    ),
    "recipe with a list for a section": (
        given("[[data]]\nsource = 'digits'\n"),
        2,
        ["mine.toml", "data is [{'source': 'digits'}]", "expected a table"],
    ),
    "recipe with an unknown section": (
        given("[trian]\nepochs = 3\n"),
        2,
        ["mine.toml, line 1", "unknown key 'trian'", "Did you mean train"],
    ),
    "recipe with a table for a number": (
        given("[train]\nepochs = {a = 1}\n"),
        2,
        ["mine.toml, line 2", "train.epochs is {'a': 1}", "expected a whole number"],
    ),
    "recipe with a truth for a number": (
        given("[train]\nepochs = true\n"),
        2,
        ["line 2", "train.epochs is True", "expected a whole number"],
    ),
    "recipe with a date": (
        given("[train]\nepochs = 1979-05-27\n"),
        2,
        ["line 2", "datetime.date", "expected a whole number"],
    ),
    "recipe with a date in a method": (
        given("[method]\nkd = {temperature = 1979-05-27}\n"),
        2,
        ["method.kd.temperature is datetime.date", "expected a number"],
    ),
    "recipe with infinity": (
        given("[train]\nlr = inf\n"),
        2,
        ["line 2", "train.lr is inf", "expected a number"],
    ),
    "recipe with nan": (
        given("[train]\nlr = nan\n"),
        2,
        ["line 2", "train.lr is nan", "expected a number"],
    ),
    "recipe with nan for a weight": (
        given("[method]\nkd = nan\n"),
        2,
        ["method.kd.weight is nan", "expected a number, or two for a ramp"],
    ),
    "recipe with a number of hundreds of digits": (
        given(f"[train]\nepochs = {'9' * 400}\n"),
        2,
        ["line 2", "train.epochs is beyond 2^63", "expected a smaller"],
    ),
    "recipe with a number of thousands of digits": (
        given(f"[train]\nepochs = {'9' * 9000}\n"),
        2,
        ["mine.toml", "not valid TOML", "digits"],
    ),
    "recipe with thousands of hexadecimal digits": (
        given(f"[train]\nlr = 0x{'f' * 9000}\n"),
        2,
        ["line 2", "train.lr is beyond 2^63"],
    ),
    "recipe with a number beyond a computer's": (
        given("[train]\nlr = 1e999\n"),
        2,
        ["line 2", "train.lr is inf", "expected a number"],
    ),
    "recipe with a size that no memory holds": (
        given("[data]\nsize = 1000000\n"),
        2,
        ["line 2", "data.size is 1000000", "8 to 8,192"],
    ),
    "recipe with a million processes": (
        given("[data]\nworkers = 1000000\n"),
        2,
        ["line 2", "data.workers is 1000000", "expected 0 to 1,024"],
    ),
    "recipe with a million threads": (
        given("[profile]\nthreads = 1000000\n"),
        2,
        ["line 2", "profile.threads is 1000000", "expected 0 to 1,024"],
    ),
    "recipe with three sizes": (
        given("[export]\nbatches = [1, 2, 3]\n"),
        2,
        ["line 2", "export.batches is [1, 2, 3]", "expected two whole numbers"],
    ),
    "recipe with a term of no weight": (
        given("[method]\nkd = [1, 2, 3]\n"),
        2,
        ["method.kd.weight is [1, 2, 3]", "expected a number, or two for a ramp"],
    ),
    "recipe with a NUL in a path": (
        given('[data]\nsource = "a/\\u0000b"\n'),
        2,
        ["there is no folder or tar a/", "one subfolder a class"],
    ),
    "recipe with escapes in a name": (
        given('[student]\nname = "\\u001b[31mred\\u009b"\n'),
        2,
        ["there is no model '\\x1b[31mred\\x9b'"],
    ),
    "recipe of my own": (one_of_many, 2, ["mine.toml, line 2", "train.epochs is 0"]),
    # ---- nesting and size ----
    "recipe with thousands of lists": (
        given(f"method = {'[' * 5000}{']' * 5000}\n"),
        2,
        ["mine.toml", "not valid TOML", "nested too deeply"],
    ),
    "recipe with thousands of tables": (
        given(f"{'.'.join(['a'] * 5000)} = 1\n"),
        2,
        ["mine.toml", "a.a.a.a", "more than 16 tables or lists"],
    ),
    "recipe with a deep option": (
        given(f"[method.kd]\ntemperature = {'[' * 40}{']' * 40}\n"),
        2,
        ["mine.toml", "method.kd.temperature", "more than 16 tables or lists"],
    ),
    "recipe of ten megabytes": (
        given("# nothing\n" * 1_000_000),
        2,
        ["mine.toml", "10,000,000 bytes", "at most 1,048,576"],
    ),
    "recipe with a long value": (
        given(f"[train]\noptimizer = '{'sgd ' * 50_000}'\n"),
        2,
        ["train.optimizer is 'sgd sgd", "in all)"],
    ),
    "recipe with a long key": (
        given(f"[train]\n{'epochs' * 10_000} = 3\n"),
        2,
        ["mine.toml, line 2", "unknown key 'train.epochsepochs"],
    ),
    "recipe with a long formula": (
        given(f"method = '{' + '.join(['kd'] * 5000)}'\n"),
        2,
        ["the method has", "at most 2,000", "Write for example"],
    ),
    # ---- files ----
    "recipe of bytes": (
        given(bytes(range(256)) * 100),
        2,
        ["mine.toml", "it is not UTF-8 text"],
    ),
    "recipe of zeros": (given(bytes(1000)), 2, ["mine.toml", "not valid TOML", "line 1"]),
    "recipe in UTF-16": (
        given("[train]\nepochs = 3\n".encode("utf-16")),
        2,
        ["mine.toml", "it is not UTF-8 text"],
    ),
    "recipe with a byte order mark": (
        given(b"\xef\xbb\xbf[train]\r\nepochs = 0\r\n"),
        2,
        ["mine.toml, line 2", "train.epochs is 0", "expected at least 1"],
    ),
    "recipe with a key twice": (
        given("[train]\nepochs = 3\nepochs = 4\n"),
        2,
        ["mine.toml", "not valid TOML", "line 3"],
    ),
    "recipe with a section twice": (
        given("[train]\nepochs = 3\n[train]\nlr = 4\n"),
        2,
        ["mine.toml", "not valid TOML", "line 3"],
    ),
    "recipe that is a folder": (folder, 2, ["cannot read the recipe", "mine.toml: it is a folder"]),
    "recipe that is a pipe": (pipe, 2, ["cannot read the recipe", "it is no plain file"]),
    "recipe in a circle": (circle, 2, ["cannot read the recipe", "levels of symbolic links"]),
    "recipe without end": (endless, 2, ["cannot read the recipe", "it is no plain file"]),
    "recipe of a long name": (
        lambda p: ["run", "r" * 5000, "-o", p.out],
        2,
        ["there is no recipe 'rrr"],
    ),
    "recipe at a long path": (
        lambda p: ["run", f"{p.tmp}/{'r' * 5000}.toml", "-o", p.out],
        2,
        ["cannot read the recipe", "File name too long"],
    ),
}
