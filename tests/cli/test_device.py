"""``edgekd device``: over a real sshd, from adding a device to forgetting it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgekd.boards import Board, Connect, own_file, read_board
from edgekd.devices import ssh
from edgekd.devices.ssh import over_ssh
from edgekd.flow import examining, furnishing, wheels
from edgekd.flow.checkup import Check
from edgekd.flow.examining import Examined
from edgekd.flow.furnishing import Equipped
from edgekd.flow.wheels import There
from tests.cli.conftest import Command
from tests.sshd import Server, needs_sshd, serving

WHEELS = {"numpy": "1.0", "onnxruntime": "2.0", "pillow": "3.0"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """It knows my key, and I know its."""
    running.know(running.public("host"))
    running.use("mine", monkeypatch)
    return running


@pytest.fixture(autouse=True)
def _own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package, as on a board that is fresh from its box."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin/python"


def fake_wheels(there: There, folder: Path, *, tensorrt: bool = False) -> list[Path]:
    """In place of a download: packages that say their version, and nothing else."""
    assert there.bits in (32, 64)
    assert not tensorrt
    for name, version in WHEELS.items():
        module = "PIL" if name == "pillow" else name
        source = f"__version__ = '{version}'\ndef get_available_providers(): return ['CPU']\n"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{module}/__init__.py", source)
            info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            archive.writestr(f"{name}-{version}.dist-info/METADATA", info)
    return sorted(folder.glob("*.whl"))


def said_by(python: str, code: str) -> str:
    asked = [python, "-c", code]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


@needs_sshd
def test_a_device_from_adding_to_forgetting(server: Server, edgekd: Command) -> None:
    there = server.home / ssh.FOLDER
    answer = edgekd("device", "add", "mypi", server.address, "--python", sys.executable)
    assert answer.code == 0, answer.err
    kind = read_board("mypi").based_on
    assert kind
    assert f"mypi: {kind} (" in answer.out
    assert "edgekd device doctor mypi" in answer.out
    assert there.is_dir()

    answer = edgekd("device", "list", "--json")
    (row,) = json.loads(answer.out)
    assert (row["name"], row["address"], row["kind"]) == ("mypi", server.address, kind)
    assert server.address in edgekd("device", "list").out
    assert "mypi" in edgekd("list", "device").out

    answer = edgekd("device", "add", "mypi", server.address)
    assert (answer.code, "--replace" in answer.err) == (2, True)

    answer = edgekd("device", "doctor", "mypi")
    assert answer.code == 0, answer.out + answer.err
    lines = answer.out.splitlines()
    assert any(line.startswith("ok       runtime      onnxruntime ") for line in lines)
    assert not any(line.startswith("PROBLEM") for line in lines)

    answer = edgekd("device", "remove", "mypi", "--clean")
    assert answer.code == 0, answer.err
    assert not there.exists()
    assert edgekd("device", "remove", "mypi").code == 2
    assert json.loads(edgekd("device", "list", "--json").out) == []


@needs_sshd
def test_a_bare_device_is_furnished_without_internet(
    server: Server, bare: Path, edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "download", fake_wheels)
    assert edgekd("device", "add", "it", server.address, "--python", bare).code == 0
    answer = edgekd("device", "doctor", "it")
    assert answer.code == 1
    problems = [line for line in answer.out.splitlines() if line.startswith("PROBLEM")]
    assert [line.split()[1] for line in problems] == ["numpy", "runtime"]
    assert f"{bare} -m pip install" in " ".join(answer.out.split())
    assert "edgekd device doctor it --venv" in answer.out

    answer = edgekd("device", "doctor", "it", "--venv")
    assert answer.code == 0, answer.out + answer.err
    assert "onnxruntime 2.0" in answer.out
    python = read_board("it").connect.python
    assert python.startswith(str(server.home / ssh.FOLDER / "venv-"))
    assert said_by(python, "import numpy; print(numpy.__version__)") == "1.0\n"

    answer = edgekd("device", "doctor", "it", "--json")
    found = json.loads(answer.out)
    assert (answer.code, found["ok"], found["name"]) == (0, True, "it")
    assert found["survey"]["executable"] == python
    assert {"name", "found", "ok", "optional", "advice"} == set(found["checks"][0])

    environment = Path(python).parents[1]
    over_ssh(server.address).clear(environments=False)  # as edgekd profile --clean does
    assert [path.name for path in environment.parent.glob("[!.]*")] == [environment.name]
    assert said_by(python, "import numpy; print(numpy.__version__)") == "1.0\n"

    assert edgekd("device", "doctor", "it", "--clean", "--venv").code == 2
    answer = edgekd("device", "doctor", "it", "--clean")  # the environment goes as well
    assert (answer.code, answer.err) == (0, "")
    (line,) = answer.out.splitlines()
    assert line == f"it is clean: what edgekd kept there is gone; its Python is {bare}."
    assert not environment.parent.exists()  # and nothing was put back to look at it
    assert read_board("it").connect == Connect(server.address, str(bare))
    cleaned = json.loads(edgekd("device", "doctor", "it", "--clean", "--json").out)
    assert cleaned == {"name": "it", "cleaned": True, "python": str(bare)}


@needs_sshd
def test_an_address_is_examined_and_furnished_too(
    server: Server, bare: Path, edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "download", fake_wheels)
    where = f"{server.address}{bare}"
    assert edgekd("device", "doctor", where).code == 1
    answer = edgekd("device", "doctor", where, "--venv")
    assert answer.code == 0, answer.out + answer.err
    assert f"edgekd device add NAME {server.address} --python {server.home}" in answer.out
    assert not own_file("x").parent.exists()


@needs_sshd
def test_a_device_that_cannot_be_used_is_a_problem(server: Server, edgekd: Command) -> None:
    answer = edgekd("device", "doctor", f"{server.address}/no/python", "--json")
    assert answer.code == 1
    (check,) = json.loads(answer.out)["checks"]
    assert check["name"] == "connection"
    assert f"say where its Python is: {server.address}/path/of/python" in check["advice"]
    arguments = ("--python", "/no/python", "--offline", "--profile", "none")
    assert edgekd("device", "add", "it", server.address, *arguments).code == 0
    (check,) = json.loads(edgekd("device", "doctor", "it", "--json").out)["checks"]
    assert "edgekd device add it ADDRESS --python PATH --replace" in check["advice"]


@needs_sshd
def test_a_kind_that_does_not_fit_is_taken_and_doubted(server: Server, edgekd: Command) -> None:
    where = (server.address, "--python", sys.executable)
    answer = edgekd("device", "add", "it", *where, "--profile", "raspberry-pi-5")
    assert answer.code == 0, answer.err
    assert read_board("it").based_on == "raspberry-pi-5"
    assert "rather than raspberry-pi-5" in answer.err


@pytest.mark.parametrize(("agreed", "asked"), [(True, 1), (False, 1), (None, 0)])
def test_an_environment_is_offered_to_a_person(
    agreed: bool | None, asked: int, edgekd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = [Check("numpy", "none", False, False, "python3 -m pip install numpy")]
    lacking = Examined("it", Board("it"), missing, {"device": {}})
    mended = Examined("it", Board("it"), [Check("numpy", "2.0")], {"device": {}})
    questions: list[str] = []

    def confirm(text: str, **more: object) -> bool:
        questions.append(text)
        return bool(agreed)

    monkeypatch.setattr(examining, "examine", lambda name: lacking)
    monkeypatch.setattr(furnishing, "equip", lambda found, watch: Equipped(mended, "made"))
    monkeypatch.setattr(click, "confirm", confirm)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: agreed is not None, raising=False)
    answer = edgekd("device", "doctor", "it")
    assert len(questions) == asked
    assert answer.code == (0 if agreed else 1)
    assert ("made" in answer.out) is bool(agreed)
    assert ("--venv" in answer.out) is (agreed is None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "../it", "me@it", "--offline", "--profile", "none"], "cannot be called"),
        (["add", 65 * "a", "me@it", "--offline", "--profile", "none"], "64 at most, such as pi5"),
        (["add", "it", "me@it", "--offline"], "--profile KIND"),
        (["add", "it", "nowhere-at-all"], "there is no device 'nowhere-at-all'"),
        (["add", "it", "localhost"], "A machine of that name: ssh://localhost"),
        (["add", "it", "me@it", "--python", "\udcff"], "is no text in UTF-8"),
        (["remove", "\udcff"], "there is no device '\\udcff' of yours"),
        (["doctor", "\udcff"], "there is no device '\\udcff'"),
        (["remove", "it"], "there is no device 'it' of yours"),
        (["remove", "../../it"], "there is no device '../../it' of yours"),
        (["doctor", "rk3588"], "rk3588 is a kind of board"),
        (["doctor", "local", "--venv"], "needs no environment"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str, edgekd: Command) -> None:
    answer = edgekd("device", *arguments)
    assert answer.code == 2
    assert says in answer.err


def test_files_are_written_for_a_device_of_ones_own(
    edgekd: Command, taught: Path, tmp_path: Path
) -> None:
    arguments = ("me@orin", "--offline", "--profile", "jetson-orin-jp5")
    assert edgekd("device", "add", "orin", *arguments).code == 0
    answer = edgekd("export", taught, "--opset", "18", "--device", "orin", "-o", tmp_path / "out")
    assert answer.code == 2
    assert "opset 18 was asked for; the runtime of orin reads 9 to 17" in answer.err


@pytest.mark.slow
@needs_sshd
def test_a_bare_device_is_furnished_from_pypi(server: Server, bare: Path, edgekd: Command) -> None:
    """The real thing: wheels of PyPI for this machine, sent to it over ssh."""
    assert edgekd("device", "add", "it", server.address, "--python", bare).code == 0
    answer = edgekd("device", "doctor", "it", "--venv")
    assert answer.code == 0, answer.out + answer.err
    python = read_board("it").connect.python
    code = "import onnxruntime, numpy, PIL; print(onnxruntime.get_available_providers())"
    assert "CPUExecutionProvider" in said_by(python, code)
    assert edgekd("device", "doctor", "it", "--venv").code == 0  # found again, not made again
    assert read_board("it").connect.python == python
