"""Nothing runs what a file or a device says: looked for in the source, and tried."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAYLOAD = ROOT / "edgekd" / "deploy" / "payload"
TOOLS = [file for file in sorted((ROOT / "tools").iterdir()) if file.is_file()]
SCRIPTS = [file for file in TOOLS if "python" in file.read_text("utf-8").partition("\n")[0]]
FILES = [*(ROOT / "edgekd").rglob("*.py"), *(ROOT / "tools").rglob("*.py"), *SCRIPTS]
SOURCES = {file.relative_to(ROOT).as_posix(): file for file in sorted(FILES)}
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "builtins.eval",
    "builtins.exec",
    "os.system",
    "os.popen",
    "os.execl",
    "os.execlp",
    "os.spawnl",
    "os.spawnlp",
    "pty.spawn",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
    "shutil.unpack_archive",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "torch.serialization.add_safe_globals",
    "torch.serialization.safe_globals",
    "torch.ops.load_library",
    "ssl._create_unverified_context",
    "markupsafe.Markup",
    "jinja2.Markup",
}
"""Calls that run what a text or a file says, or could."""
DEMANDED = {
    "torch.load": ("weights_only", "True"),
    "numpy.load": ("allow_pickle", "False"),
    "jinja2.Environment": ("autoescape", "True"),
}
"""Calls, and what they have to be told."""
UNSAID = {"shell", "trust_remote_code"}
"""What no call may be told but that it is false."""
UNTRUE = {"verify", "check_hostname", "verify_mode"}
"""What no call may be told that it is false."""
METHODS = {"extractall", "extract", "register_custom_ops_library", "unsafe_load"}
MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "telnetlib", "imp", "code"}
OF_SSH = {"StrictHostKeyChecking": "yes"}
"""What a table of options may say of them, and nothing else."""
TEXTS = re.compile(
    r"StrictHostKeyChecking[= ](?!yes)|UserKnownHostsFile[= ]/dev/null|CERT_NONE|GIT_SSH_COMMAND"
)
NETWORK = {"socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib", "smtplib"}
NETWORK |= {"huggingface_hub", "datasets", "xmlrpc", "socketserver", "websockets", "paramiko"}
FETCHING = {"create_reader", "get_model_weights", "load_dataset", "urlopen", "urlretrieve"}
TOLD_TO_FETCH = {"download", "pretrained"}
PROGRAMS = {"ssh", "adb", "pip", "uv", "git", "curl", "wget", "scp", "rsync"}
REACHING = {
    "edgekd/claims.py": "this machine's own name, for who finds a folder in use",
    "edgekd/data/hf.py": "data sets of a hub, by name (--data hf/NAME)",
    "edgekd/data/torchvision.py": "data sets of torchvision, by name",
    "edgekd/devices/__init__.py": "this machine's own name, for who waits for a device",
    "edgekd/devices/_hosts.py": "ssh -G reads the user's configuration; nothing is connected",
    "edgekd/devices/adb.py": "boards over adb",
    "edgekd/devices/ssh.py": "boards over ssh",
    "edgekd/flow/wheels.py": "wheels for a board (edgekd device doctor --venv)",
    "edgekd/models/zoo.py": "published weights, by name (NAME:pretrained, hf-hub:ORG/NAME)",
    "tools/audit": "advisories",
}
"""The only files that reach for a network, or run a program that does, and why."""
LOADING = {
    "edgekd/__init__.py": "names of its own table",
    "edgekd/plugins.py": "names of files in its own folders",
    "edgekd/agent/runtimes/__init__.py": "names of files beside it",
    "edgekd/agent/meters/__init__.py": "names of files beside it",
}
"""The only files that import by a name that is not written there."""


@functools.cache
def parsed(source: str) -> tuple[ast.Module, dict[str, str]]:
    """A file, and what the names it imports stand for: ``np`` is ``numpy``."""
    tree = ast.parse(source)
    stands_for: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                stands_for[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                stands_for[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return tree, stands_for


@functools.cache
def calls(source: str) -> list[tuple[str, ast.Call]]:
    """Each call with the whole name of what is called: ``np.load`` is ``numpy.load``."""
    tree, stands_for = parsed(source)
    return [
        (named(node.func, stands_for), node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def named(node: ast.expr, stands_for: Mapping[str, str]) -> str:
    """``numpy.load`` of ``np.load``; of what is no name its last part alone: ``.load``."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value, stands_for)}.{node.attr}"
    return stands_for.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def unsafe(source: str) -> list[str]:
    """What in a file could run what a text or a file says."""
    found = [name for name in imported(source) if name.partition(".")[0] in MODULES]
    for name, call in calls(source):
        told = {one.arg: ast.unparse(one.value) for one in call.keywords}
        if name in FORBIDDEN or name.rpartition(".")[2] in METHODS:
            found.append(name)
        if name in DEMANDED and told.get(DEMANDED[name][0]) != DEMANDED[name][1]:
            found.append(f"{name} without {'='.join(DEMANDED[name])}")
        if name.startswith("subprocess.") and call.args and is_text(call.args[0]):
            found.append(f"{name} of one text")
        found += [f"{name}({key})" for key in UNSAID & set(told) if told[key] != "False"]
        found += [f"{name}({key})" for key in UNTRUE & set(told) if told[key] in ("False", "None")]
    tree, stands_for = parsed(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and named(node, stands_for).startswith("pickle."):
            found += [f"pickle.{node.attr}"] if node.attr != "UnpicklingError" else []
        if isinstance(node, ast.Constant) and TEXTS.search(str(node.value)):
            found.append(str(node.value))
        found += careless(node) if isinstance(node, ast.Dict) else []
    return found + [name for name in imported(source) if name.startswith("pickle.")]


def careless(table: ast.Dict) -> list[str]:
    """Options of ssh in a table that would have it talk to anybody."""
    pairs = [
        (getattr(key, "value", None), getattr(value, "value", None))
        for key, value in zip(table.keys, table.values, strict=True)
    ]
    return [f"{key}={value}" for key, value in pairs if key in OF_SSH and value != OF_SSH[key]]


def is_text(node: ast.expr) -> bool:
    """Whether it is a text, where words apart were expected: a command to be split by somebody."""
    adds = isinstance(node, ast.BinOp) and (is_text(node.left) or is_text(node.right))
    return adds or isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", 0), str)


def imported(source: str) -> list[str]:
    """Every module a file imports, and what it takes of it."""
    return list(parsed(source)[1].values())


def loaded_by_name(source: str) -> list[str]:
    """Imports of modules whose names are not written there."""
    return [
        ast.unparse(call)
        for name, call in calls(source)
        if name == "importlib.import_module" and not isinstance(call.args[0], ast.Constant)
    ]


def reaching(source: str) -> list[str]:
    """What in a file reaches for a network."""
    found = [
        name
        for name in imported(source)
        if name.partition(".")[0] in NETWORK and not name.startswith("urllib.parse")
    ]
    for name, call in calls(source):
        found += sorted(FETCHING & {name.rpartition(".")[2]})
        found += [str(one.arg) for one in call.keywords if one.arg in TOLD_TO_FETCH]
    for node in ast.walk(parsed(source)[0]):
        if isinstance(node, ast.List | ast.Tuple):
            words = {one.value for one in node.elts if isinstance(one, ast.Constant)}
            found += sorted(PROGRAMS & {word for word in words if isinstance(word, str)})
    return found


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: file.read_text("utf-8") for name, file in SOURCES.items()}


def test_the_whole_source_is_looked_at() -> None:
    assert len(SOURCES) > 300
    assert {"edgekd/models/weights.py", "edgekd/deploy/payload/infer.py", "tools/audit"} <= set(
        SOURCES
    )


def test_nothing_runs_what_a_text_or_a_file_says(texts: dict[str, str]) -> None:
    assert {name: found for name, text in texts.items() if (found := unsafe(text))} == {}


def test_modules_are_imported_by_name_in_few_places(texts: dict[str, str]) -> None:
    assert {name for name, text in texts.items() if loaded_by_name(text)} == set(LOADING)


def test_the_network_is_reached_for_in_few_places(texts: dict[str, str]) -> None:
    assert {name for name, text in texts.items() if reaching(text)} == set(REACHING)


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "from os import system as run\nrun('ls')",
        "import pickle\npickle.load(file)",
        "import pickle as p\np.Unpickler(file)",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import subprocess\nsubprocess.run(text, shell=asked)",
        "import subprocess\nsubprocess.run('ls ' + name)",
        "from subprocess import Popen\nPopen(f'ls {name}')",
        "import tempfile\ntempfile.mktemp()",
        "import tarfile\ntarfile.open(path).extractall(folder)",
        "import yaml",
        "import marshal",
        "import jinja2\njinja2.Environment(loader=loader)",
        "import torch\ntorch.hub.load('org/name', 'model')",
        "load('name', trust_remote_code=True)",
        "get(address, verify=False)",
        "options = ['-oStrictHostKeyChecking=no']",
        "options = '-o UserKnownHostsFile=/dev/null'",
        "options = {'StrictHostKeyChecking': 'no'}",
        "options = {'StrictHostKeyChecking': asked}",
        "def late():\n    from joblib import load",
    ],
)
def test_what_could_run_it_would_be_found(source: str) -> None:
    assert unsafe(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(text)\nmodel.eval()",
        "import torch\ntorch.load(path, weights_only=True)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "options = {'StrictHostKeyChecking': 'yes'}",
    ],
)
def test_what_could_not_is_left_alone(source: str) -> None:
    assert not unsafe(source)


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "from urllib.request import urlopen",
        "def late():\n    import requests",
        "create_model(name, pretrained=True)",
        "subprocess.run(['curl', address])",
        "import huggingface_hub as hub",
    ],
)
def test_what_reaches_for_a_network_would_be_found(source: str) -> None:
    assert reaching(source)
    assert not reaching("from urllib.parse import quote\nmodel = create_model(name)")


def required(*names: str) -> set[str]:
    """What pyproject.toml declares: the dependencies, and those of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = list(project["dependencies"])
    for name in names:
        lines += project["optional-dependencies"][name]
    return {plain(re.split(r"[^\w.-]", line)[0]) for line in lines}


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


IMPORT = re.compile(
    r"^ *(?:from ([A-Za-z_]\w*)[\w.]* import |import ([A-Za-z_]\w*)[\w.]*(?: as \w+)?(?:,|  #|$))",
    re.MULTILINE,
)
"""A line that imports something: a hundred times faster found so than by reading the language."""
OPTIONAL = {"datasets", "cv2", "atheris"}
"""Used where they are there; who needs them is told how to install them."""
BROUGHT = {"psutil": "accelerate", "scipy": "scikit-learn", "markdown_it": "rich"}
"""By what is declared, which needs them itself."""


@pytest.mark.parametrize(
    ("part", "extras"),
    [("edgekd", ("openvino", "tensorrt")), ("tools", ("test",)), ("tests", ("openvino", "test"))],
)
def test_what_is_imported_is_declared(part: str, extras: tuple[str, ...]) -> None:
    known = importlib.metadata.packages_distributions()
    files = [*(ROOT / part).rglob("*.py"), *(SCRIPTS if part == "tools" else ())]
    own = {"edgekd", "tests", *(file.stem for file in (*files, *PAYLOAD.glob("*.py")))}
    found = {file: IMPORT.findall(file.read_text("utf-8")) for file in files}
    first = {a or b for names in found.values() for a, b in names}
    first -= own | set(sys.stdlib_module_names)
    assert {"numpy", "torch"} <= first  # the walk found something
    declared = required(*extras)
    undeclared = {
        name
        for name in first - OPTIONAL - set(BROUGHT)
        if not declared & {plain(one) for one in known.get(name, [name])}
    }
    assert not undeclared


@pytest.mark.parametrize(("name", "by"), BROUGHT.items())
def test_what_others_bring_they_bring(name: str, by: str) -> None:
    (distribution,) = importlib.metadata.packages_distributions()[name]
    needed = {
        plain(re.split(r"[^\w.-]", line)[0]) for line in importlib.metadata.requires(by) or ()
    }
    assert plain(distribution) in needed
    assert plain(by) in required()
