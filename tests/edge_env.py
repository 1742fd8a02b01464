"""A Python as on a board: numpy, ONNX Runtime and nothing else, taken from the running one."""

from __future__ import annotations

import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.sshd import Server, serving

DISTRIBUTIONS = ("numpy", "onnxruntime")
"""All that the agent needs on a device; ``import onnxruntime`` takes nothing else with it."""


@dataclass(frozen=True)
class Edge:
    """A machine behind a real sshd, whose Python has the runtime and none of edgekd's needs."""

    server: Server
    python: Path

    @property
    def name(self) -> str:
        """What records call it."""
        return self.server.address

    @property
    def address(self) -> str:
        """What ``--device`` takes."""
        return f"{self.server.address}{self.python}"

    def files(self) -> list[str]:
        """All files in its home folder."""
        home = self.server.home
        return sorted(str(f.relative_to(home)) for f in home.rglob("*") if not f.is_dir())

    def processes(self) -> list[str]:
        """What runs in its home folder or below."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "cwd").resolve(strict=True).is_relative_to(self.server.home.resolve()):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it ended meanwhile
                continue
        return found


def make_environment(folder: Path) -> Path:
    """Make a virtual environment of :data:`DISTRIBUTIONS` alone, in 0.1 s: they are only linked.

    Returns:
        Its Python.
    """
    venv.create(folder, symlinks=True)
    place = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", place))
    for name in DISTRIBUTIONS:
        found = distribution(name)
        tops = {file.parts[0] for file in found.files or () if ".." not in file.parts}
        for top in tops:
            (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def edge_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of such an environment."""
    return make_environment(tmp_path_factory.mktemp("edge") / "venv")


@pytest.fixture(scope="module")
def edge(edge_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Such a machine for a file of tests; it knows my key, and I know its."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(tmp_path_factory.mktemp("sshd")) as server,
    ):
        server.know(server.public("host"))
        server.use("mine", patch)
        yield Edge(server, edge_python)
