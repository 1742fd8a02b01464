"""A card says what is known, says what is not, and gives nothing and nobody away."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from edgekd.artifact import Artifact
from edgekd.cards import NAME, card_of, write_card
from edgekd.cards.head import licence_of
from edgekd.cards.places import device_name, named, sentence
from edgekd.cards.reading import read
from edgekd.cards.text import fenced, plain, safe
from edgekd.errors import ArtifactError, UsageError
from tests.cards.facts import APACHE, EXPORT, NETWORK, RECORD, artifact, changed, leaves, prove

SECTIONS = [
    "What it is",
    "Data",
    "Teacher and licences",
    "Method",
    "Accuracy",
    "Latency",
    "The file",
    "Limits",
    "How to repeat it",
]
EVIL = [
    "<script>alert(1)</script>",
    "</details>",
    "a | b |",
    "[x](http://evil.example)",
    "![i](http://evil.example/i.png)",
    "`code` ``more``",
    "# one\n\n## two",
    "```\n$ rm\n```",
    "line\r\n---\r\nline",
    "&lt;b&gt; \\*x\\* *y* __z__ ~~s~~ $m$",
    "\u202egnp.exe\u0000\ud800",
    "",
]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An artifact in a folder of its own."""

    def build(manifest: dict[str, Any], *records: dict[str, Any]) -> Path:
        path = artifact(tmp_path / str(len(list(tmp_path.iterdir()))), manifest)
        for index, record in enumerate(records):
            prove(path, record, name=f"device-{index}")
        return path

    return build


def parsed(card: str) -> tuple[Any, list[Any], str]:
    """The head, the Markdown's tokens, and the text a reader sees."""
    _, head, body = card.split("---\n", 2)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    flat = [child for token in tokens for child in (token, *(token.children or ()))]
    seen = "\n".join(t.content for t in flat if t.type in ("text", "code_inline", "fence"))
    return importlib.import_module("yaml").safe_load(head), flat, seen


def cells(card: str, heading: str) -> list[list[str]]:
    """The rows of the first table of a section, as they are read."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    _, tokens, _ = parsed(f"---\n---\n{section}")
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("th_open", "td_open"):
            inline = tokens[place + 1]
            rows[-1].append("".join(child.content for child in inline.children or ()))
        if token.type == "table_close":
            break
    return rows


def test_a_card_has_its_sections_in_order_and_a_head(make: Make) -> None:
    head, tokens, _ = parsed(card_of(make(EXPORT, RECORD)))
    places = [i for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert [tokens[i + 1].content for i in places] == ["resnet8 in int8", *SECTIONS]
    assert head["license"] == "apache-2.0"
    assert head["metrics"] == ["accuracy"]
    assert {"onnx", "int8", "knowledge-distillation"} <= set(head["tags"])
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.79}]  # as the device answered


def test_accuracies_stand_there_with_their_intervals_and_images(make: Make) -> None:
    _, *rows = cells(card_of(make(EXPORT, RECORD)), "Accuracy")
    assert rows == [
        ["the network", "200 validation images", "75.0 % [68.6, 80.5]", ""],
        ["the network", "1,000 test images", "80.0 % [77.4, 82.4]", ""],
        [
            "this file",
            "200 validation images",
            "74.0 % [67.5, 79.6]",
            "-1.0 points [-3.0, +1.1], 97.5 %",
        ],
        [
            "this file on pi5",
            "1,000 test images",
            "79.0 % [76.4, 81.4]",
            "-1.0 points [-2.0, +0.1]",
        ],
    ]


def test_a_latency_has_its_conditions(make: Make) -> None:
    card = card_of(make(EXPORT, RECORD))
    _, row = cells(card, "Latency")
    missing = "n/a (312 runs, need 459)"
    times = ["12.3 ms [12.1, 12.6]", "15.5 ms [15, 16.1]", missing]
    assert row == ["pi5", *times, "61.3 MB", "throttled"]
    for said in (
        "Cortex-A76",
        "onnxruntime 1.31.1",
        "4 threads",
        "batch of 1",
        "clock inference",
        "governor ondemand",
        "312 runs",
        "2026-01-02",
        "the board was hot",
    ):
        assert said in card
    assert "The timing on pi5 was throttled" in card


def test_the_teacher_its_accuracy_and_its_licence_reach_the_export(make: Make) -> None:
    for manifest in (NETWORK, EXPORT):
        card = card_of(make(manifest))
        said = dict(row for row in cells(card, "Teacher and licences")[1:])
        assert said["teacher"] == "resnet18"
        assert said["its artifact"] == "manifest sha256 abababababab…"
        assert "85.0 % top-1 on 200 validation images" in said["its accuracy"]
        assert "-10.0 points [-15.0, -5.0], paired" in said["its accuracy"]
        assert "timm/resnet18.a1\\_in1k: apache-2.0 (timm 1.0)" in card
        assert "they began at random" in card


@pytest.mark.parametrize(
    ("own", "teachers", "found"),
    [
        ([], [APACHE], "apache-2.0"),
        ([APACHE], [APACHE], "apache-2.0"),
        ([], [], None),  # all of it was made here: its maker says
        ([APACHE], [{**APACHE, "name": "mit"}], None),
        ([APACHE], [{**APACHE, "name": None}], None),
        (None, [APACHE], None),
        ([APACHE], None, None),
    ],
)
def test_a_licence_is_in_the_head_only_where_all_weights_have_that_one(
    make: Make, own: Any, teachers: Any, found: str | None
) -> None:
    parent = {**NETWORK["parent"], "licence": teachers}
    path = make({**NETWORK, "licence": own, "parent": parent})
    assert licence_of(read(path)) == found
    assert parsed(card_of(path))[0].get("license") == found
    if own is None or teachers is None:
        assert "not stated: nobody said" in card_of(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fastvit-license", {"license": "other", "license_name": "fastvit-license"}),
        (
            "https://a.example/LICENSE",
            {"license": "other", "license_link": "https://a.example/LICENSE"},
        ),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("Custom, see the paper", {"license": "other", "license_name": "custom-see-the-paper"}),
        ("file:///etc", {"license": "other", "license_name": "file-etc"}),
    ],
)
def test_a_licence_is_written_as_hubs_have_it(make: Make, name: str, said: dict[str, str]) -> None:
    path = make({**NETWORK, "licence": [{**APACHE, "name": name}], "parent": None})
    head, _, _ = parsed(card_of(path))
    assert {key: head[key] for key in head if key.startswith("license")} == said


def test_capitals_make_no_other_licence(make: Make) -> None:
    capital = {**APACHE, "name": "Apache-2.0"}
    assert parsed(card_of(make({**NETWORK, "licence": [capital]})))[0]["license"] == "apache-2.0"


def test_limits_say_what_was_not_measured(make: Make) -> None:
    bare, proved = card_of(make(EXPORT)), card_of(make(EXPORT, RECORD))
    assert "No device has measured this file yet." in bare
    assert "Its latency was not measured on any device." in bare
    assert "Its energy was not measured." in proved
    assert "was judged on 200 validation images" in proved
    assert "-1.0 points [-3.0, +1.1] of top-1; a loss of 5.0 % was allowed" in proved
    assert "The ranges of int8 come from 512 training images" in proved
    without = changed(EXPORT, "metrics", value={})
    assert "No accuracy on test images is known." in card_of(make(without))
    measured = RECORD | {"energy": {"j_per_inf": 0.1}, "sustained": [{"minute": 1}]}
    assert "was not measured" not in card_of(make(EXPORT, measured))


@pytest.mark.parametrize("kind", ["network", "onnx", "tensorrt"])
def test_a_manifest_from_before_there_were_cards_has_one(make: Make, kind: str) -> None:
    path = make({"kind": kind})
    _, _, seen = parsed(card_of(path))
    assert all(section in seen for section in SECTIONS)
    assert "not stated" in seen
    assert "began at random" not in seen  # nobody said so


def test_an_old_export_does_not_claim_that_it_had_no_teacher(make: Make) -> None:
    old = {**EXPORT, "parent": {"sha256": "cd" * 32, "name": "student"}}
    assert "It had no teacher" not in card_of(make(old))
    assert "license" not in parsed(card_of(make(old)))[0]
    assert "It had no teacher" in card_of(make({**NETWORK, "parent": None}))


ODD: tuple[Any, ...] = (None, "x", [], ["y"], {}, {"z": 1}, -1, 2.5, True, float("nan"))
EACH = [pytest.param(2, id="two each"), pytest.param(len(ODD), marks=pytest.mark.slow, id="all")]


def odd_values(place: int, count: int) -> list[Any]:
    """Some of the values, so that neighbours get others."""
    return [ODD[(place * count + offset) % len(ODD)] for offset in range(count)]


@pytest.mark.parametrize("count", EACH)
def test_what_a_manifest_holds_instead_breaks_no_card(make: Make, count: int) -> None:
    path = make(EXPORT, RECORD)
    manifest = json.loads((path / "manifest.json").read_text())
    ways = [way for way in leaves(manifest) if way[0] not in ("schema_version", "kind", "files")]
    assert len(ways) > 60
    written = refused = 0
    for place, way in enumerate(ways):
        for value in odd_values(place, count):
            odd = json.dumps(changed(manifest, *way, value=value))
            (path / "manifest.json").write_text(odd)
            try:
                written += bool(card_of(path))
            except ArtifactError as error:
                refused += bool(re.search("is not a whole manifest|holds NaN", str(error)))
    assert written + refused == len(ways) * count
    assert min(written, refused) > len(ways) / 4


@pytest.mark.parametrize("count", EACH)
def test_what_a_proof_holds_instead_breaks_no_card(make: Make, count: int) -> None:
    path = make(EXPORT)
    for place, way in enumerate(leaves(RECORD)):
        for value in odd_values(place, count):
            prove(path, changed(RECORD, *way, value=value))
            assert card_of(path)


def test_a_proof_of_other_files_is_left_out_and_said_so(make: Make) -> None:
    path = make(EXPORT)
    prove(path, files={"model.onnx": "0" * 64})
    (path / "proof" / "broken.json").write_text("{")
    card = card_of(path)
    assert "No device has measured this file yet." in card
    assert "2 proofs are of other files than these, or cannot be read" in card


@pytest.mark.parametrize("evil", EVIL)
def test_names_of_users_are_text_and_nothing_else(make: Make, evil: str) -> None:
    manifest = {**EXPORT, "labels": [evil, "dog"], "method": evil, "versions": {"edgekd": evil}}
    manifest["model"] = {"name": evil or "m"}
    manifest["recipe"] = {"data": {"source": evil}, "note": evil}
    manifest["parent"] = changed(EXPORT["parent"], "parent", "name", value=evil)
    manifest["licence"] = [{"name": evil, "of": evil, "source": evil, "url": evil}]
    record = changed(RECORD, "device", "profile", value=evil)
    record = changed(record, "verdict", "reasons", value=[evil])
    path = make(manifest)
    prove(path, record)
    head, tokens, seen = parsed(card_of(path))
    assert [t for t in tokens if t.type in ("link_open", "image", "html_inline")] == []
    html = [t.content.strip() for t in tokens if t.type == "html_block"]
    summary = "<summary>The recipe, whole; paths are cut down to names</summary>"
    assert html == [f"<details>\n{summary}", "</details>"]
    assert [t for t in tokens if t.type in ("strong_open", "em_open", "s_open", "hr")] == []
    places = [i for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert [tokens[i + 1].content for i in places][1:] == SECTIONS
    assert len([t for t in tokens if t.type == "fence"]) == 2
    assert isinstance(head, dict)
    assert all(len(row) == 6 for row in cells(card_of(path), "Latency"))
    shown = plain(evil)
    assert not shown or shown in seen


def test_no_place_and_nobody_is_named(make: Make) -> None:
    recipe = {
        "data": {"source": "/home/ada/photos"},
        "teacher": {"name": "", "weights": "/mnt/disk/ada/runs/teacher"},
        "student": {"name": "resnet8", "weights": "C:\\Users\\ada\\w.pth"},
        "method": {"ce": {"weight": 1.0}},
    }
    reasons = ["/home/ada/.cache/x.plan was built again by ada@lab.example for /usr/lib/y"]
    record = changed(RECORD, "device", "profile", value="ssh://pi@board.lan:22/usr/bin/python3")
    record = changed(record, "verdict", "reasons", value=reasons)
    manifest = changed(EXPORT, "export", "device", value="ada@board.lan")
    card = card_of(make({**manifest, "recipe": recipe}, record))
    for private in ("/home", "/mnt", "/usr", "ada", "board.lan", "lab.example", "python3"):
        assert private not in card
    assert "…/photos" in card
    assert "…/w.pth" in card
    assert "…/teacher" in card


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        ("ssh://ada@10.0.0.7:22", "ssh"),
        ("ada@10.0.0.7", "ssh"),
        ("adb://R58M123", "adb"),
        ("pi5", "pi5"),
    ],
)
def test_a_recipe_names_no_login_and_no_address(make: Make, device: str, shown: str) -> None:
    recipe = {
        "data": {"source": "s3://bucket-of-ada.example/photos"},
        "method": {"ce": {"weight": 1.0}},
        "profile": {"device": device},
    }
    card = card_of(make({**EXPORT, "recipe": recipe}))
    assert f'device = "{shown}"' in card
    odd = recipe | {"note": f"from ada@10.0.0.7 over {device}", "more": ["rsync://ada.example"]}
    for text in (card, card_of(make({**EXPORT, "recipe": odd}))):
        for private in ("ada", "10.0.0.7", "R58M123", "bucket"):
            assert private not in text


def test_a_gpu_is_named_only_where_it_ran_the_model(make: Make) -> None:
    record = changed(RECORD, "device", "gpu", value="Orin")
    assert "Orin" not in card_of(make(EXPORT, record))
    cuda = changed(record, "runtime", "provider", value="CUDAExecutionProvider")
    assert "Orin" in card_of(make(EXPORT, cuda))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("digits", "digits"),
        ("torchvision/cifar10", "torchvision/cifar10"),
        ("hf/org/name", "hf/org/name"),
        ("hf-hub:org/name", "hf-hub:org/name"),
        ("hf/org/name@main", "hf/org/name@main"),
        ("https://a.example/ada/x.tar", "…/x.tar"),
        ("ssh://ada@h:22", "ssh:…"),
        ("ada@h:/data/photos", "…/photos"),
        ("file:///home/ada", "…"),
        ("cifar10-jpeg", "cifar10-jpeg"),
        ("data/cifar10-jpeg/", "…/cifar10-jpeg"),
        ("wds//data/mine", "wds/…/mine"),
        ("local-dir:/home/ada/net", "local-dir:…/net"),
        ("/home/ada", "…"),
        ("/home/ada/", "…"),
        ("/Users/ada", "…"),
        ("C:\\Users\\ada", "…"),
        ("/root", "…"),
        ("~", "…"),
        ("~ada/", "…"),
        ("../..", "…"),
        ("/", "…"),
        ("0.1*ce", "0.1*ce"),
        ("", ""),
    ],
)
def test_a_place_is_its_last_name_alone(text: str, name: str) -> None:
    assert named(text) == name


def test_a_device_is_the_name_it_was_given() -> None:
    names = ["pi5", "ssh://ada@h:22/usr/bin/python", "ada@h", "adb://123/data", "local"]
    assert list(map(device_name, names)) == ["pi5", "ssh", "ssh", "adb", "local"]
    assert sentence("5 images/s of 1/2 at 3 %") == "5 images/s of 1/2 at 3 %"
    assert sentence("lost ssh://ada@h:22/x; see https://a.example") == (
        "lost ssh:…; see https://a.example"
    )


def test_long_lists_of_classes_are_folded(make: Make) -> None:
    card = card_of(make({**NETWORK, "labels": [f"class {i}" for i in range(300)]}))
    assert "<summary>The 300 classes, in the order of the outputs</summary>" in card
    assert "class 299" in card


def test_words_are_shown_letter_by_letter() -> None:
    assert safe("a_b*c") == "a\\_b\\*c"
    assert safe("<b> & https://x www.y") == "&lt;b&gt; &amp; https\\://x www\\.y"
    assert safe("") == "(empty)"
    assert len(safe("x" * 999)) == 120
    assert fenced("a\n````\nb", "toml") == "`````toml\na\n````\nb\n`````"


def test_a_card_is_written_once_and_changes_no_hash(make: Make) -> None:
    path = make(EXPORT)
    before = Artifact.open(path).sha256
    file = write_card(path)
    assert file == path / NAME
    assert file.read_text("utf-8") == card_of(path)
    stamp = file.stat().st_ino
    assert write_card(path).stat().st_ino == stamp  # it is the same, and not written again
    prove(path)
    assert "Cortex-A76" in write_card(path).read_text("utf-8")
    assert Artifact.open(path).sha256 == before
    assert sorted(f.name for f in path.iterdir()) == [NAME, "manifest.json", "model.onnx", "proof"]


def test_a_folder_that_is_no_artifact_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no manifest.json"):
        card_of(tmp_path)


def test_a_folder_in_the_way_is_a_sentence(make: Make) -> None:
    path = make(EXPORT)
    (path / NAME).mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        write_card(path)
