"""A plug-in is a file: listed without importing it, loaded by its name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd import plugins
from edgekd.errors import UnknownNameError

SHELVED = [(kind, name) for kind in plugins.SHELVES for name in plugins.summaries(kind)]
LISTING = """
import json, sys
from edgekd import plugins
before = set(sys.modules)
for kind in plugins.SHELVES:
    assert plugins.summaries(kind), kind
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def tree(kind: str, name: str) -> ast.Module:
    folder = Path(plugins.__file__).parent / plugins.SHELVES[kind]
    return ast.parse((folder / f"{name}.py").read_text("utf-8"))


def public(module: ast.Module) -> list[str]:
    """What its ``__all__`` says, without importing it."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_listing_imports_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, check=True, timeout=60
    )
    imported = json.loads(done.stdout)
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize("kind", plugins.SHELVES)
def test_a_shelf_is_sorted_and_leaves_private_files_out(kind: str) -> None:
    names = list(plugins.summaries(kind))
    assert names
    assert names == sorted(names)
    assert not [name for name in names if name.startswith("_")]


def test_the_first_methods_data_sets_and_devices_are_there() -> None:
    assert {"ce", "kd", "fitnet", "at"} <= set(plugins.summaries("method"))
    assert {"digits", "folder", "torchvision", "hf", "wds"} <= set(plugins.summaries("dataset"))
    assert "local" in plugins.summaries("device")
    assert "ort" in plugins.summaries("runtime")
    assert "onnx" in plugins.summaries("format")


@pytest.mark.parametrize(("kind", "name"), SHELVED)
def test_a_summary_is_one_sentence_on_one_line(kind: str, name: str) -> None:
    text = ast.get_docstring(tree(kind, name)) or ""
    first, _, rest = text.partition("\n")
    assert first == plugins.summaries(kind)[name]
    assert first.endswith(".")
    assert not rest or rest.startswith("\n")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in SHELVED if k != "verb"])
def test_a_shelf_file_has_exactly_one_public_name(kind: str, name: str) -> None:
    (only,) = public(tree(kind, name))
    defined = {
        node.name
        for node in tree(kind, name).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    assert only in defined


def test_loading_gives_the_one_public_object() -> None:
    from edgekd.data.digits import digits

    assert plugins.load("dataset", "digits") is digits


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("method", "fitnets", r"no method 'fitnets'. Did you mean fitnet\?"),
        ("method", "zebra", r"no method 'zebra'. There are: afd, at, ce, crd"),
        ("dataset", "digitz", r"no dataset 'digitz'. Did you mean digits\?"),
        ("method", "_term", r"no method '_term'"),
        ("method", "../data/digits", r"no method '../data/digits'"),
        ("method", "", r"no method ''"),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(
    kind: str, name: str, message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message) as refused:
        plugins.load(kind, name)
    assert refused.value.exit_code == 2
