"""What the report shows of exports in lower precision, and of what ``auto`` decided."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.files import sha256
from edgekd.report import collect, write
from edgekd.report.contests import choices, contests
from edgekd.report.exports import explanations, export_table, precision_table
from edgekd.report.reductions import engine_table, reduction_table, type_lines, type_tables
from edgekd.report.table import Table
from tests.report.lowered import AUTO, ENGINE, ESTATE, FP16, INT8, NODE, add_export
from tests.report.test_page import HOSTILE, Page

SECTIONS = ("verdict", "types", "int8", "half", "engine", "auto", "explanation", "tuned_from")


def read(table: Table | None) -> dict[str, dict[str, tuple[str, str]]]:
    """Text and small print of each cell, by the small print (or text) of its row and its column."""
    assert table
    titles = [column.title for column in table.columns]
    return {
        row[0].note or row[0].text: {
            title: (cell.text, cell.note) for title, cell in zip(titles, row, strict=True)
        }
        for row in table.rows
    }


def test_each_export_shows_what_its_precision_costs(lowered: Path) -> None:
    found = read(precision_table(collect(lowered)))
    assert list(found) == ["student-auto", "student-fp16", "student-int8", "student-trt"]
    int8 = found["student-int8"]
    assert int8["Precision"] == ("int8+fp32", "asked for int8")
    assert int8["Top-1"] == ("94.1%", "float 94.4%")
    assert int8["Change in points [95%]"] == ("\u22120.3 [\u22120.9, +0.2]", "2,000 images")
    assert int8["Same answers"][0] == "98.4%"
    assert int8["May lose"][0] == "1 point"
    assert int8["Verdict"] == ("passed", "")
    assert found["student-trt"]["Precision"] == ("fp16", "")
    auto = found["student-auto"]
    assert auto["Precision"] == ("fp32", "auto chose fp32")
    assert auto["May lose"][0] == "\u2013"  # held to its proof, not to a drop


def test_a_refusal_is_told_in_words(lowered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lowered, tmp_path / "run")
    verdict = INT8["verdict"] | {"passed": False, "reasons": ["it loses 2 points"]}
    add_export(folder, "int8", INT8 | {"verdict": verdict})
    found = read(precision_table(collect(folder)))
    assert found["student-int8"]["Verdict"] == ("failed", "it loses 2 points")


def test_a_proof_says_which_file_it_is_of(lowered: Path) -> None:
    found = {name: row["Verdict"][1] for name, row in read(export_table(collect(lowered))).items()}
    assert found["student-fp16"] == "on 256 images"
    assert found["student-int8"] == "the fp32 file it was made from, on 256 images"
    assert found["student-trt"] == "the ONNX file it was built from, on 256 images"


def test_how_int8_and_fp16_were_made(lowered: Path) -> None:
    found = read(reduction_table(collect(lowered)))
    assert list(found) == ["student-fp16", "student-int8"]
    int8, half = found["student-int8"], found["student-fp16"]
    assert int8["Calibrator"] == ("percentile", "for vnni")
    assert int8["Calibrated on"] == ("512 training images", "sha256 c0ffeec0ffeec0ff")
    assert int8["Reached by"][0] == "layers in float"
    assert int8["Reached by"][1] == "attempt 3, tuned for int8, from 0123456789abcdef"
    assert int8["Left in float"] == ("1 of 21 layers", NODE)
    assert half["Left in float"] == ("1 layer", "layer3.0.bn2")
    assert half["Peak, of fp16's range"] == ("73.2%", "47,923 in layer3.0.bn2")


def test_many_layers_in_float_are_counted(lowered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lowered, tmp_path / "run")
    teacher = sha256(folder / "teacher" / "manifest.json")
    many = INT8["int8"] | {"float_layers": [f"conv_{i}" for i in range(5)], "rungs": []}
    add_export(folder, "int8", INT8 | {"int8": many, "tuned_from": teacher})
    add_export(folder, "fp16", FP16 | {"half": {"headroom": 0.1, "float_modules": []}})
    found = read(reduction_table(collect(folder)))
    assert found["student-int8"]["Left in float"] == (
        "5 of 21 layers",
        "conv_0, conv_1, conv_2, 2 more",
    )
    assert found["student-int8"]["Reached by"][1] == "tuned for int8, from teacher: resnet56"
    assert found["student-fp16"]["Left in float"] == ("none", "")


def test_an_engine_is_listed_as_what_it_is(lowered: Path) -> None:
    view = collect(lowered)
    engine = read(engine_table(view))["student-trt"]
    assert engine["Precision it has"] == ("fp16", "90.0% fp16, 10.0% fp32")
    assert engine["TensorRT"] == ("8.6.2", "CUDA 12.2")
    assert engine["GPU"] == ("Orin (nvgpu)", "compute capability 8.7")
    assert engine["Built in"] == ("1 min 33 s", "")
    (line,) = (line for line in view.results if line.precision == "fp16")
    assert line.size_bytes == (lowered / "student-trt" / "model.plan").stat().st_size


def test_an_engine_without_a_proof_of_its_graph_is_listed(lowered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lowered, tmp_path / "run")
    bare = {"parity": None, "nodes": None, "opset": None, "exporter": None}
    add_export(folder, "trt", ENGINE | bare, "tensorrt")
    row = read(export_table(collect(folder)))["student-trt"]
    assert row["Precision"][0] == "fp16"
    assert row["SNR"][0] == row["Verdict"][0] == "\u2013"


def test_a_time_of_the_graph_is_not_one_of_the_engine(lowered: Path, tmp_path: Path) -> None:
    """Both artifacts may hold the same ``model.onnx``; only one of them runs it."""
    folder = shutil.copytree(lowered, tmp_path / "run")
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    records[2]["artifact"] |= {"precision_found": None}
    for file, precision in (("model.onnx", ""), ("model.plan", "fp16")):
        digest = sha256(folder / "student-trt" / file)
        records[2]["artifact"]["sha256"] = digest
        (folder / "profile.json").write_text(json.dumps(records), "utf-8")
        timed = [line for line in collect(folder).results if line.median]
        (line,) = (line for line in timed if line.role not in ("teacher", "baseline"))
        assert line.precision == precision


def test_the_accuracy_of_a_lowered_file_is_its_own(lowered: Path) -> None:
    found = {line.precision: line.accuracy for line in collect(lowered).results}
    int8 = found["int8+fp32"]
    assert int8
    assert int8.value == pytest.approx(0.9414)
    assert (int8.n, int8.source) == (2000, "validation")
    assert all(a and a.source != "validation" for kind, a in found.items() if kind == "fp32")


def test_what_auto_tried_is_told_with_the_noise(lowered: Path) -> None:
    (contest,) = contests(collect(lowered))
    assert "student: resnet8 (student-auto)" in contest.table.caption
    found = read(contest.table)
    ratio, points = "Time over fp32 [95%]", "Top-1, points [95%]"
    assert found["fp32"]["File"][0] == "312 kB"
    assert found["fp32"][ratio][0] == "1"
    assert found["fp32"]["Outcome"] == ("chosen", "")
    assert found["fp16"]["Outcome"] == ("refused", "see below")
    assert found["int8"][ratio][0] == "1.210 [1.201, 1.220]"
    assert found["int8"][points][0] == "\u22120.3 [\u22120.9, +0.2]"
    assert found["int8"]["Outcome"] == ("not chosen", "int8 is 20-22 % slower (95 %)")
    assert found["fp32 against itself"][ratio][0] == "1.001 [0.995, 1.007]"
    assert contest.said[0].startswith("fp16: resnet8 in fp16 is refused: it may lose more")
    assert contest.said[1].endswith("18 HardSwish and 4 Mul nodes stay float.")
    assert choices(collect(lowered)) == [
        "student: resnet8 (student-auto): auto chose fp32 out of fp32, fp16, int8."
    ]


def test_where_nothing_was_timed_nothing_is_said_of_time(lowered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lowered, tmp_path / "run")
    auto = AUTO["auto"] | {"null": None, "candidates": AUTO["auto"]["candidates"][:2]}
    add_export(folder, "auto", AUTO | {"auto": auto})
    (contest,) = contests(collect(folder))
    assert "Time over fp32 [95%]" not in [column.title for column in contest.table.columns]
    assert len(contest.table.rows) == 2


def test_the_precision_of_each_node_type(lowered: Path) -> None:
    view = collect(lowered)
    assert type_lines(view) == [
        "student: resnet8 (student-fp16): Conv 8 fp16, 1 fp32; Relu 7 fp16; Gemm 1 fp16",
        "student: resnet8 (student-int8): "
        "QuantizeLinear 31 int8; HardSwish 18 fp32; Conv 8 int8, 1 fp32",
    ]
    _, int8 = type_tables(view)
    assert [column.title for column in int8.columns] == ["Node type", "int8", "fp32"]
    assert [[cell.text for cell in row] for row in int8.rows][1:] == [
        ["HardSwish", "\u2013", "18"],
        ["Conv", "8", "1"],
    ]


def test_fp32_where_fp16_was_asked_for_is_shown(lowered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lowered, tmp_path / "run")
    add_export(folder, "fp16", FP16 | {"precision": "fp32", "types": {"Conv": {"fp32": 9}}})
    view = collect(folder)
    assert type_lines(view)[0] == "student: resnet8 (student-fp16): Conv 9 fp32"
    assert read(precision_table(view))["student-fp16"]["Precision"] == ("fp32", "asked for fp16")


def test_where_the_error_begins_is_told(lowered: Path) -> None:
    (said,) = explanations(collect(lowered))
    assert said.startswith("student: resnet8 (student-int8): The first large error is at Conv")
    assert NODE in said


def test_page_and_markdown_tell_all_of_it(lowered_report: dict[str, Path]) -> None:
    for kind in ("html", "markdown"):
        text = lowered_report[kind].read_text("utf-8").replace("\\", "")
        for told in (
            "\u22120.3 [\u22120.9, +0.2]",
            "512 training images",
            "compute capability 8.7",
            "1.210 [1.201, 1.220]",
            "null pair",
            "4 Mul nodes stay float.",
            "one channel 22 times the others",
            "HardSwish",
        ):
            assert told in text, (kind, told)
    assert "auto chose fp32 out of fp32, fp16, int8." in lowered_report["html"].read_text("utf-8")


def test_the_page_can_still_be_read_without_eyes(lowered_report: dict[str, Path]) -> None:
    page = Page(lowered_report["html"].read_text("utf-8"))
    assert page.open == []
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in page.all("th"))
    headings = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_no_image_and_no_device_is_named(lowered_report: dict[str, Path]) -> None:
    for file in lowered_report.values():
        text = file.read_text("utf-8").partition("/**\n* plotly.js")[0]
        for private in ("/home", "ada@", "nano.local", "IMG_", ".cache"):
            assert private not in text, (file.name, private)
    content = json.loads(lowered_report["json"].read_text("utf-8"))
    (int8,) = (a for a in content["artifacts"] if a["path"] == "student-int8")
    export: Any = int8["manifest"]["export"]
    assert export["int8"]["calibration"] == {"n": len(ESTATE), "sha256": "c0ffee" * 10 + "0000"}
    assert export["int8"]["float_layers"] == [NODE]
    assert export["explanation"]["worst"][0]["node"] == NODE


def test_a_run_of_old_shows_nothing_new(run_folder: Path, written: dict[str, Path]) -> None:
    view = collect(run_folder)
    assert len(export_table(view).rows) == 3  # type: ignore[union-attr]
    assert [make(view) for make in (precision_table, reduction_table, engine_table)] == [None] * 3
    found = (contests(view), choices(view), explanations(view), type_tables(view), type_lines(view))
    assert not any(found)
    for kind in ("html", "markdown"):
        text = written[kind].read_text("utf-8")
        assert not any(word in text for word in ("What auto tried", "precision costs", "Calibrat"))


@pytest.mark.parametrize("value", [7, "x", [], [None], {"x": [7]}, {"x": {"y": None}}])
def test_values_of_the_wrong_kind_leave_the_rest(
    lowered: Path, tmp_path: Path, value: object
) -> None:
    """First whole sections, then each entry of every section."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copytree(lowered / "student-onnx", folder / "student-onnx")
    for section in (FP16, INT8, AUTO, ENGINE):
        add_export(folder, "whole", section | dict.fromkeys(SECTIONS, value))
        inner = {
            key: dict.fromkeys(part, value) if isinstance(part, dict) else value
            for key, part in section.items()
        }
        add_export(folder, "inner", inner, "tensorrt")
        write(folder)


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_texts_stay_text(lowered: Path, tmp_path: Path, evil: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copytree(lowered / "student-onnx", folder / "student-onnx")
    for name, section in (("int8", INT8), ("auto", AUTO), ("trt", ENGINE)):
        add_export(folder, name, poisoned(section, evil), "tensorrt" if name == "trt" else "onnx")
    page = Page(write(folder)["html"].read_text("utf-8"))
    assert page.open == []
    assert page.all("img") == page.all("script") == []
    assert all(not name.startswith("on") for _, a in page.tags for name in a)


def poisoned(value: Any, evil: str) -> Any:
    """The same section with every text in it replaced, and one more key in every table."""
    if isinstance(value, dict):
        return {key: poisoned(item, evil) for key, item in value.items()} | {evil: {evil: 1}}
    if isinstance(value, list):
        return [poisoned(item, evil) for item in value[:3]]
    return evil if isinstance(value, str) else value
