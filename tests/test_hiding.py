"""What is made to be shared says nothing of whose machine it was made on, and where things lay."""

from __future__ import annotations

import getpass
import json
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd import hiding
from edgekd.artifact import Artifact
from edgekd.devices.local import Local
from edgekd.devices.ssh import over_ssh
from edgekd.errors import DataError, UsageError, WeightsError
from edgekd.files import cache_folder
from edgekd.flow.exporting import export_network, recipe_of
from edgekd.flow.targeting import target_of
from edgekd.hiding import hidden, is_hidden, nickname, shown, unmarked
from edgekd.loading.splits import find
from edgekd.models import build
from edgekd.recipe import Export, Network, recipe_from
from tests.cli.conftest import Command, edgekd
from tests.sshd import CLIENT, Server, needs_sshd, serving

__all__ = ["edgekd"]
SECRETS = ("SECRETFOLDER", "SECRETUSER", "SECRETHOST", "SECRETKEY")
OWN = ("profile.json", "profile.samples.jsonl", "run.json", "recipe.toml")
"""At the top of a run's folder: what was asked for and measured, in full, for who did it."""


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another process, with a cache of its own."""
    monkeypatch.setattr(hiding, "_known", {})
    monkeypatch.setattr(hiding, "_keys", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/mnt/disk/photos", "…/photos"),
        ("/mnt/my disk/photos/", "…/photos"),
        ("~/photos", "…/photos"),
        ("~ada/photos", "…/photos"),
        ("/home/ada", "…"),
        ("/", "…"),
        ("wds//mnt/shards", "wds/…/shards"),
        ("local-dir:/mnt/net", "local-dir:…/net"),
        ("file:///home/ada/photos", "file://…/photos"),
        ("File://pi.lan/home/ada", "File://pi.lan…"),
        ("git+file:///home/ada/net", "git+file://…/net"),
        ("ssh://ada@pi.lan:22/usr/bin/python3", "…/ssh"),
        ("ada@pi.lan", "…/ssh"),
        ("adb://0123456789", "…/adb"),
        ("/mnt/caf\udce9", None),
    ],
)
def test_a_place_becomes_a_mark_and_is_found_again(
    text: str, left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hidden({"a": [text]})["a"][0]
    assert is_hidden(made)
    assert left is None or unmarked(made) == left
    assert shown({"a": [made]}) == {"a": [text]}
    assert hidden(made) == made
    if left is not None:  # what is no text is known to this process alone
        monkeypatch.setattr(hiding, "_known", {})
        assert shown(made) == text


@pytest.mark.parametrize(
    "text",
    ["digits", "hf/owner/name", "torchvision/CIFAR10", "./photos", "../photos", "photos/cats",
     "https://example.org/x", "s3://bucket/x", "cosine", "", "1/2", "pi5"],
)  # fmt: skip
def test_what_is_the_same_on_any_machine_stays(text: str) -> None:
    assert hidden(text) == shown(text) == text
    assert not is_hidden(text)


def test_a_machine_that_does_not_know_a_place_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hidden("/mnt/disk/photos")
    monkeypatch.setattr(hiding, "_known", {})
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    assert shown(made) == made
    with pytest.raises(DataError, match=r"not known on this machine.* --data"):
        find(made)
    for network in (Network("resnet8", made), Network(f"local-dir:{made}")):
        with pytest.raises(WeightsError, match=r"not known on this machine.* --teacher"):
            build(network, ["cat", "dog"])
    with pytest.raises(UsageError, match=r"the device is not known on this machine.* --device"):
        target_of(made)
    assert is_hidden(hidden("/mnt/disk/other"))  # nor can it be written there


def test_a_recipe_is_what_it_stands_for() -> None:
    recipe = recipe_from({"data": {"source": "/mnt/disk/photos"}})
    text = recipe.to_toml(hidden)
    assert "/mnt" not in text
    assert recipe_from(hidden(recipe.to_dict())) == recipe


@pytest.mark.parametrize(
    ("device", "called"),
    [
        ("local", "local"),
        ("pi5", "pi5"),
        ("ssh://ada@pi.lan", "ssh-"),
        ("ada@pi.lan", "ssh-"),
        ("adb://0123", "adb-"),
    ],
)
def test_nicknames(device: str, called: str) -> None:
    made = nickname(device)
    assert made.startswith(called[:4])
    assert "ada" not in made
    assert "0123" not in made
    assert nickname(made) == made


@pytest.mark.parametrize("host", ["rig7.corp.example", "192.168.1.7", "fe80::1"])
def test_a_host_that_was_given_for_a_device(host: str) -> None:
    """By the name that ssh knows it by; anything else that looks like one is no place."""
    made = hidden({"profile": {"device": host}, "name": "resnet50.a1_in1k"})
    assert host not in str(made)
    assert shown(made) == {"profile": {"device": host}, "name": "resnet50.a1_in1k"}
    assert nickname(host).startswith("ssh-")
    assert nickname(nickname(host)) == nickname(host)


def test_slashes_that_say_nothing_hide_nothing() -> None:
    assert "ada" not in hidden("//home/ada/photos")
    assert shown(hidden("//home/ada/photos")) == "/home/ada/photos"


def test_marks_are_of_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not have the key finds nothing by trying addresses."""
    key = cache_folder("places") / hiding.KEY

    def made() -> tuple[str, str]:
        hiding._keys.clear()  # as another process
        return nickname("pi@192.168.1.77"), hidden("/home/ada/photos")

    first = made()
    assert made() == first
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == hiding.KEY_BYTES
    key.write_bytes(b"")  # of somebody who was killed as he made it
    second = made()
    assert made() == second
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    third = made()
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    monkeypatch.setattr(hiding, "MACHINE", tmp_path / "number")
    fourth = made()
    assert nickname("pi@192.168.1.77") == fourth[0]  # as long as the process lives
    for marks in zip(first, second, third, fourth, made(), strict=True):
        assert len(set(marks)) == 5
    (tmp_path / "number").write_text("0123456789abcdef" * 2)
    assert made() == made()  # a machine with a number needs no file of its own


def test_one_key_of_many_that_begin_together() -> None:
    program = "from edgekd.hiding import nickname; print(nickname('pi@pi.lan'))"
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    (name,) = {process.communicate(timeout=60)[0] for process in running}
    assert name.startswith("ssh-")


def test_an_export_of_an_older_network_hides_its_recipe(taught: Path, tmp_path: Path) -> None:
    network = Artifact.open(taught)
    recipe = recipe_of(network).to_dict()
    recipe["profile"]["device"] = "SECRETUSER@SECRETHOST"
    recipe["teacher"]["weights"] = "/home/SECRETUSER/net"
    older = replace(network, manifest={**network.manifest, "recipe": recipe})
    made = export_network(older, tmp_path / "onnx", Export(samples=16))
    written = "".join(file.read_text() for file in made.path.glob("*.[jm][sd]*"))
    assert "place:" in written
    assert "SECRET" not in written
    assert recipe_of(made).to_dict() == recipe


def test_what_is_private_is_for_its_owner_alone(tmp_path: Path) -> None:
    hidden("/mnt/disk/photos")
    local = Local()
    for folder in (cache_folder("places"), local.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_sshd
def test_sockets_are_private_too() -> None:
    link = over_ssh("ssh://ada@127.0.0.1").link
    folder = Path(link.private)  # type: ignore[attr-defined]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# ---- a whole mission ----


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A device at SECRETUSER@SECRETHOST; the login there is whoever runs the tests."""
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        server.know(server.public("host"))
        server.use("mine", monkeypatch)
        config = server.folder / "config-mine"
        host = f"Host SECRETHOST\n HostName 127.0.0.1\n Port {server.port}\n"
        config.write_text(host + config.read_text())
        wrapper = server.folder / "bin-mine" / "ssh"
        wrapper.write_text(
            f"#!{sys.executable}\nimport os, sys\nargv = sys.argv[1:]\n"
            "at = argv.index('-l') if '-l' in argv else len(argv)\n"
            f"argv[at:at + 2] = ['-l', {getpass.getuser()!r}] if at < len(argv) else []\n"
            f"os.execv({CLIENT!r}, [{CLIENT!r}, '-F', {str(config)!r}, *argv])\n"
        )
        yield server


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, on the machine of a user who has a key."""
    folder = tmp_path / "SECRETFOLDER"
    home = folder / "home" / "SECRETUSER"
    (home / "temporary").mkdir(parents=True)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home))
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, "SECRETUSER")
    monkeypatch.setenv("HF_TOKEN", "SECRETKEY")
    monkeypatch.setattr(tempfile, "tempdir", str(home / "temporary"))
    monkeypatch.chdir(folder)
    draw = np.random.default_rng(0)
    for level, label in ((0, "cat"), (120, "dog")):
        place = folder / "photos" / label
        place.mkdir(parents=True)
        for number in range(60):
            pixels = draw.integers(level, level + 100, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def leaks(folder: Path) -> list[str]:
    """Files that are made to be shared, and hold what nobody else should know."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    shared = [f for f in files if f.parent != folder or f.name not in OWN]
    shared = [f for f in shared if "training" not in f.parts]
    assert len(shared) > 10
    return [
        f"{file.relative_to(folder)}: {word}"
        for file in shared
        for word in SECRETS
        if word in str(file.relative_to(folder)) or word.encode() in file.read_bytes()
    ]


@pytest.mark.slow
@needs_sshd
@pytest.mark.usefixtures("server")
def test_nothing_secret_is_shared(secret: Path, edgekd: Command) -> None:
    device, run = f"ssh://SECRETUSER@SECRETHOST{sys.executable}", secret / "run"
    data = ["--data", str(secret / "photos"), "--size", "8", "--precision", "fp32"]
    teach: list[str | Path] = ["--teacher", "resnet8x4", "--epochs", "6", "-o", run / "teacher"]
    student: list[str | Path] = [
        "--teacher",
        run / "teacher",
        "--student",
        "resnet8",
        "--epochs",
        "2",
    ]
    commands: list[list[str | Path]] = [
        ["teach", *teach, *data],
        ["distill", *student, "-o", run / "student", *data],
        ["export", run / "student", "-o", run / "onnx", "--precision", "int8", "--max-drop", "90%"],
        ["profile", run / "onnx", *data[:2], "--device", device, "--max-seconds", "1",
         "-o", run / "profile.json"],
        ["report", run],
        ["deploy", run / "onnx", "-o", run / "deployed"],
        ["verify", run / "onnx", "--device", device, "--max-seconds", "1"],
    ]  # fmt: skip
    for command in commands:
        answer = edgekd(*command)
        known = command[0] == "verify"  # which a busy machine may find slower
        assert answer.code == 0 or (known and "proof" in answer.out + answer.err), answer
    assert leaks(run) == []
    (proof,) = (run / "onnx" / "proof").iterdir()
    assert json.loads(proof.read_text())["device"].startswith("ssh-")
    assert "ssh device" in (run / "report.md").read_text()
    assert "ssh-" not in (run / "report.md").read_text()  # one device, by one name


@pytest.mark.usefixtures("secret")
def test_what_leaks_is_found(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}").write_text("SECRETKEY" * (number == 3))
    shared = [found for found in leaks(tmp_path) if "SECRETFOLDER" not in found]
    assert shared == ["3: SECRETKEY"]
