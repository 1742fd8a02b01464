"""The architecture, as a test: imports point downwards, and each part loads only what it may."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "edgekd"
LAYERS = [  # lowest first; a part may import the parts of lower layers, and itself
    {"edgekd", "errors", "agent"},
    {
        "formula",
        "plugins",
        "files",
        "structure",
        "intervals",
        "plain",
        "preprocess",
        "watching",
        "budget",
        "world",
        "shortage",
    },
    {"strict", "catalogue", "claims", "hiding", "schema", "scratch"},
    {"targets", "sections", "profiles"},
    {"boards"},
    {"recipe", "artifact", "records", "features", "data", "devices"},
    {"loading", "models", "methods", "cards"},
    {"export", "trainer", "profiling", "report", "deploy"},
    {"scouting"},
    {"flow"},
    {"cli"},
    {"__main__"},
]
MAY_LOAD = {  # third-party packages a part may import at the top of a file
    "agent": {"numpy"},
    "features": {"torch"},
    "data": {"numpy", "torch", "PIL"},
    "loading": {"numpy", "torch", "PIL"},
    "models": {"torch", "timm", "safetensors"},
    "methods": {"torch"},
    "export": {"numpy", "torch", "onnx"},
    "trainer": {"numpy", "torch", "timm", "accelerate"},
    "deploy": {"folder", "numpy", "pictures"},  # its payload: programs that run beside one another
    "flow": {"numpy", "torch"},
    "cli": {"click", "rich"},
}
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
MODULES = {
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.rglob("*.py"))
}
BANNED_WORDS = re.compile(
    "(utils?|helpers?|common|misc|base|manager|handler|wrapper|v[2-9]|legacy|new)", re.IGNORECASE
)


def part(module: str) -> str:
    """The part of ``edgekd.methods.kd`` is ``methods``; that of ``edgekd`` is ``edgekd``."""
    return module.split(".")[1] if "." in module else module


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Modules named by the import statements among ``nodes``."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: from edgekd.x import y"
            origin = str(node.module)
            names = [f"{origin}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else origin for name in names}
    return found


def upward(module: str, tree: ast.Module) -> list[str]:
    """What a module imports that is not below its own part; type-checking imports count."""
    return [
        other
        for other in sorted(imported(ast.walk(tree)) & set(MODULES))
        if part(other) != part(module) and RANK[part(other)] >= RANK[part(module)]
    ]


def loaded(tree: ast.Module) -> set[str]:
    """Third-party packages a module's import loads; those for type checking are not loaded."""
    names = {name.split(".")[0] for name in imported(_executed(tree.body))}
    return names - sys.stdlib_module_names - {"edgekd"}


def long_functions(tree: ast.Module, most: int) -> list[str]:
    """Functions of more than ``most`` lines, docstring included."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > most
    ]


def banned_names(module: str, tree: ast.Module) -> list[str]:
    """File and class names with a word that says nothing."""
    named = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [
        name
        for name in [module.rpartition(".")[2], *named]
        if any(BANNED_WORDS.fullmatch(word) for word in _words(name))
    ]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of edgekd, parsed."""
    return {module: ast.parse(file.read_text("utf-8")) for module, file in MODULES.items()}


def test_every_part_has_a_layer_and_every_layer_its_parts() -> None:
    assert {part(module) for module in MODULES} == set(RANK)
    assert set(MAY_LOAD) <= set(RANK)
    assert len(MODULES) > 60  # the walk found the package


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str, trees: dict[str, ast.Module]) -> None:
    assert not upward(module, trees[module])


@pytest.mark.parametrize("module", MODULES)
def test_the_top_of_a_file_loads_only_what_its_part_may(
    module: str, trees: dict[str, ast.Module]
) -> None:
    assert loaded(trees[module]) <= MAY_LOAD.get(part(module), set())


@pytest.mark.parametrize("module", [m for m in MODULES if part(m) == "agent"])
def test_the_agent_reaches_for_nothing_outside_itself(
    module: str, trees: dict[str, ast.Module]
) -> None:
    own = {name for name in imported(ast.walk(trees[module])) if name.startswith("edgekd")}
    assert all(name.startswith("edgekd.agent") for name in own), own


def test_there_is_no_import_cycle(trees: dict[str, ast.Module]) -> None:
    graph = {m: imported(ast.walk(tree)) & set(MODULES) - {m} for m, tree in trees.items()}
    for module, others in graph.items():  # a verb is also what the package of the verbs lists
        if part(module) == "cli":
            others.discard("edgekd.cli")
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_at_most_300_lines(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("module", MODULES)
def test_a_function_is_at_most_60_lines(module: str, trees: dict[str, ast.Module]) -> None:
    assert not long_functions(trees[module], most=60)


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_a_thing_is(module: str, trees: dict[str, ast.Module]) -> None:
    assert not banned_names(module, trees[module])


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("from edgekd.trainer import Trainer", ["edgekd.trainer"]),
        ("def late():\n    import edgekd.cli.run", ["edgekd.cli.run"]),
        ("from edgekd.models import Backbone", ["edgekd.models"]),  # the same layer
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from edgekd import flow",
            ["edgekd.flow"],
        ),
        ("from edgekd.features import Features\nfrom edgekd.methods import Term", []),
    ],
)
def test_an_injected_upward_import_is_caught(source: str, caught: list[str]) -> None:
    assert upward("edgekd.methods.fake", ast.parse(source)) == caught


def test_an_injected_heavy_import_is_caught() -> None:
    seen = ast.parse("import torch\ntry:\n    import pandas\nexcept ImportError:\n    pass")
    assert loaded(seen) == {"torch", "pandas"}
    unseen = "if TYPE_CHECKING:\n    import torch\ndef late():\n    import onnx"
    assert loaded(ast.parse(unseen)) == set()


def test_injected_violations_of_size_and_name_are_caught() -> None:
    source = "def long():\n" + "    pass\n" * 60
    assert long_functions(ast.parse(source), most=60) == ["long"]
    assert long_functions(ast.parse(source), most=61) == []
    assert banned_names("edgekd.loading.utils", ast.parse("")) == ["utils"]
    named = ast.parse("class BaseTerm: ...\nclass Database: ...\nclass ResNetV2: ...")
    assert banned_names("edgekd.renewal", named) == ["BaseTerm", "ResNetV2"]


def _executed(body: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run on import: not those in functions, nor under ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _executed(node.orelse)
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from _executed(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from _executed(handler.body)


def _words(name: str) -> list[str]:
    """``ResNetV2`` and ``res_net_v2`` are the words res, net and v2."""
    return re.findall("[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*(?![a-z])", name)
