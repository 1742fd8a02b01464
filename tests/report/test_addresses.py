"""Where a device is is nobody's business: its address becomes a kind, its host disappears."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.report import collect
from edgekd.report.addresses import addresses_in
from edgekd.report.privacy import shareable_message
from tests.report.fleet import ATTIC, LAB, PHONE


def named(*devices: str) -> list[str]:
    found = addresses_in([{"device": {"profile": device}} for device in devices])
    return [found.name(device) for device in devices]


def test_a_registered_name_stays_and_an_address_becomes_a_kind() -> None:
    assert named("pi5", "local", "lab_pi-2.b") == ["pi5", "local", "lab_pi-2.b"]
    assert named("ada@pi.lan") == ["ssh device"]
    assert named("ssh://nano", "pi5", "adb://X:5555") == ["ssh device", "pi5", "adb device"]
    assert named("10.0.0.5", "fe80::1") == ["device 1", "device 2"]


def test_several_are_numbered_in_their_order_and_once() -> None:
    assert named(LAB, ATTIC, LAB, PHONE) == [
        "ssh device 1",
        "ssh device 2",
        "ssh device 1",
        "adb device",
    ]


def test_every_kind_of_entry_names_its_device() -> None:
    entries: list[dict[str, Any]] = [{"comparison": {"device": LAB}}, {"device": None}]
    entries.append({"failure": {"device": ATTIC}})
    assert set(addresses_in(entries).names) == {LAB, ATTIC}


def test_hosts_are_found_in_texts_but_not_within_words_and_labels() -> None:
    found = addresses_in([{"device": {"profile": name}} for name in (LAB, "ssh://nano")])
    assert found.hide({LAB: [f"{LAB}: gone", "to 10.0.0.7, port 22", "10.0.0.77", 7, None]}) == {
        "ssh device 1": ["ssh device 1: gone", "to …, port 22", "10.0.0.77", 7, None]
    }
    assert found.hide("nano and nanodet, jetson-nano, nano.") == "… and nanodet, jetson-nano, …."
    assert found.hide({"labels": ["nano"], "layers": [{"name": "nano"}]}) == {
        "labels": ["nano"],
        "layers": [{"name": "nano"}],
    }


def test_an_address_that_begins_another_is_not_taken_for_it() -> None:
    found = addresses_in([{"device": {"profile": name}} for name in ("a@h1.lan", "a@h1.lan.org")])
    assert found.hide("a@h1.lan.org, a@h1.lan.") == "ssh device 2, ssh device 1."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connect to host pi.lan port 22: refused", "connect to host … port 22: refused"),
        ("Could not resolve hostname pi.lan: no", "Could not resolve hostname …: no"),
        ("until this works: ssh -p 22 -l ada -- pi.lan true", "until this works: ssh … true"),
        ("by hand: ssh nano", "by hand: ssh …"),
        ("remove it (ssh-keygen -R pi.lan) and", "remove it (ssh-keygen -R …) and"),
        ("Connection closed by 10.0.0.4 port 22", "Connection closed by … port 22"),
        ("used by ada@lovelace for 3 s", "used by … for 3 s"),
        ("it failed. ssh said: Welcome to lovelace\nada", "it failed."),
        ("see /home/ada/log.txt", "see …/log.txt"),
        (
            "TensorRT 10.13.3.9 lacks it; there is no host",
            "TensorRT 10.13.3.9 lacks it; there is no host",
        ),
        ("ssh refuses its own configuration", "ssh refuses its own configuration"),
    ],
)
def test_what_ssh_says_names_no_host(text: str, expected: str) -> None:
    assert shareable_message(text) == expected


def test_nothing_of_where_the_devices_are_is_in_the_report(fleet_report: dict[str, Path]) -> None:
    for file in fleet_report.values():
        text = file.read_text("utf-8").partition("/**\n* plotly.js")[0]
        text = re.sub(r"\b[0-9a-f]{16,64}\b", "", text)  # "ada" is in many a hash
        for private in ("10.0.0.", "attic", "lovelace", "R58M", "ada", "/home", "publickey"):
            assert private not in text, (file.name, private)
        assert "ssh device 2" in text


def test_a_proof_beside_an_artifact_is_found_unless_there_is_a_measurement(
    fleet: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    folder = tmp_path / "run" / "student-onnx"
    folder.symlink_to(fleet / "student-onnx")
    assert collect(tmp_path / "run").records == ()
    folder.unlink()
    shutil.copytree(fleet / "student-onnx", folder)
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[0]
    record["device"]["profile"] = LAB
    (folder / "proof").mkdir()
    proof = {"schema_version": 1, "model_sha256": record["artifact"]["sha256"], "record": record}
    file = folder / "proof" / "ssh---ada-10.0.0.7-22.json"
    file.write_text(json.dumps(proof), "utf-8")
    (only,) = collect(tmp_path / "run").records
    assert only["device"]["profile"] == "ssh device"
    newer = record | {"timestamp": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "run" / "profile.json").write_text(json.dumps([newer]), "utf-8")
    (only,) = collect(tmp_path / "run").records
    assert only["timestamp"].startswith("2026")
    (tmp_path / "run" / "profile.json").unlink()
    file.write_text(json.dumps(proof | {"model_sha256": "0" * 64}), "utf-8")
    assert collect(tmp_path / "run").records == ()
