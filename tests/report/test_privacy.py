"""A report can be sent to anybody: it names no folder outside, no user and no host."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
from pathlib import Path

import pytest

from edgekd.report import write
from edgekd.report.privacy import (
    shareable,
    shareable_command,
    shareable_text,
    shareable_toml,
    without_machine,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/teacher.pth", "…/teacher.pth"),
        ("/home/ada lovelace/my weights.pth", "…/my weights.pth"),
        ("/home/ada", "~"),
        ("/root/", "~"),
        ("~/x/y.pt", "…/y.pt"),
        ("C:\\Users\\ada\\x.onnx", "…/x.onnx"),
        ("\\\\server\\ada\\x.onnx", "…/x.onnx"),
        ("file:///home/ada/x.onnx", "…/x.onnx"),
        ("cannot open /home/ada/x.onnx, sorry", "cannot open …/x.onnx, sorry"),
        ("weights=/home/ada/x.onnx", "weights=…/x.onnx"),
        ("resnet56:/home/ada/x.pth", "resnet56:…/x.pth"),
        ("see https://arxiv.org/abs/1503.02531", "see https://arxiv.org/abs/1503.02531"),
        ("900 images/s, 1/2 done", "900 images/s, 1/2 done"),
        ("runs/teacher", "runs/teacher"),
        ("</script>", "</script>"),
        ("half a pair \ud800", "half a pair ?"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_a_path_keeps_its_last_name(text: str, expected: str) -> None:
    assert shareable_text(text) == expected


def test_a_command_can_still_be_read() -> None:
    command = "/opt/venv/bin/edgekd run --data '/home/ada/my images' --set train.lr=0.1 -t /a/b.pth"
    expected = "edgekd run --data '…/my images' --set train.lr=0.1 -t …/b.pth"
    assert shareable_command(command) == expected
    assert shareable_command(["edgekd", "profile", "--device", "ssh:ada@pi.local"]).endswith(
        "ssh:…"
    )
    assert shareable_command("edgekd 'unclosed /home/ada/x") == "edgekd 'unclosed …/x"
    assert [shareable_command(nothing) for nothing in (None, 7, True)] == [""] * 3


def test_a_recipe_stays_toml() -> None:
    text = "[data]\nsource = \"/home/ada/my images\"  # from /home/ada/x\nname = '/a/b c'\n"
    assert shareable_toml(text) == (
        "[data]\nsource = \"…/my images\"  # from …/x\nname = '…/b c'\n"
    )


def test_labels_stay_as_they_are() -> None:
    manifest = {"labels": ["/m/0k4j", "~/x"], "hostname": "lovelace", "weights": "/a/b"}
    assert shareable(manifest) == {"labels": ["/m/0k4j", "~/x"], "weights": "…/b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://ada@pi.local:22", "ssh://…"),
        ("built on ssh://nano, in 3 s", "built on ssh://…, in 3 s"),
        ("see https://arxiv.org/abs/1503.02531", "see https://arxiv.org/abs/1503.02531"),
    ],
)
def test_a_device_keeps_no_address(text: str, expected: str) -> None:
    assert without_machine({"device": text}) == {"device": expected}


def test_which_images_were_used_is_not_told() -> None:
    calibration = {"n": 2, "sha256": "ab", "names": ["/home/ada/1.png", "family/2.png"]}
    assert shareable({"int8": {"calibration": calibration}}) == {
        "int8": {"calibration": {"n": 2, "sha256": "ab"}}
    }


def test_an_explanation_keeps_the_names_of_its_nodes_and_no_paths() -> None:
    found = {
        "stages": [{"name": "int8", "note": "see /home/ada/x.txt"}],
        "worst": [{"node": "/a/Conv", "tensor": "/a/Conv_out"}, {"node": "", "tensor": None}, 7],
        "first": {"node": "/a/b (c)/Conv", "op": "Conv"},
        "sentence": "Worst at '/a/b (c)/Conv', not '/a/Conv', says /home/ada/x.txt.",
    }
    clean = shareable({"explanation": found})["explanation"]
    assert clean["worst"] == found["worst"]
    assert clean["first"] == found["first"]
    assert clean["stages"] == [{"name": "int8", "note": "see …/x.txt"}]
    assert clean["sentence"] == "Worst at '/a/b (c)/Conv', not '/a/Conv', says …/x.txt."
    assert shareable({"explanation": {"sentence": "/home/ada/x"}}) == {
        "explanation": {"sentence": "…/x"}
    }
    strange_ones: list[object] = [None, 7, "x", [], {}, {"worst": 7, "first": [0], "sentence": []}]
    for strange in strange_ones:
        assert set(shareable({"explanation": strange})) == {"explanation"}


def test_nothing_private_is_in_the_report(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "lovelace")
    folder = shutil.copytree(run_folder, tmp_path / "run")
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    records[0]["verdict"]["reasons"] = ["lovelace was busy", f"{tmp_path}/x is slow"]
    (folder / "profile.json").write_text(json.dumps(records), "utf-8")
    for path in write(folder).values():
        text = path.read_text("utf-8").partition("/**\n* plotly.js")[0]
        for private in (str(tmp_path), "/home", "lovelace", "ada-laptop", "ada/"):
            assert private not in text, path.name
        assert f"/{getpass.getuser()}" not in text
