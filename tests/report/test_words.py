"""The report as Markdown and JSON."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from edgekd.files import sha256
from edgekd.report import collect, write
from edgekd.report.page import render_page
from edgekd.report.words import commands, render_markdown

HOSTILE = "a|b`c`<img src=x onerror=alert(1)>\n# [x](javascript:alert(1)) **b**"


def test_markdown_says_what_matters(written: dict[str, Path]) -> None:
    text = written["markdown"].read_text("utf-8")
    assert text.startswith("## resnet8, distilled from resnet56\n")
    assert "11\u00d7 smaller than its teacher" in text
    assert "95.6% of 360 images correctly (95% interval 92.9 to 97.2%)" in text
    assert "Gain over the baseline: **no difference seen**. +1.1 points" in text
    assert "n/a (312 runs, need 459)" in text
    assert "| student: resnet8 (fp32) | 78.0 k | 273 kB | 12.5 M |" in text
    assert "passed (on 256 images)" in text
    assert "edgekd run --output …/digits" in text


def test_markdown_tables_are_rectangular_whatever_a_name_holds(
    run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    text = write(run_maker(tmp_path / "run", name=HOSTILE))["markdown"].read_text("utf-8")
    assert "<img" not in text
    assert not re.search(r"(?m)^# ", text)
    for block in re.findall(r"(?m)(?:^\|.*\n)+", text):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_json_is_strict_and_complete(written: dict[str, Path]) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    content = json.loads(written["json"].read_text("utf-8"), parse_constant=refuse)
    assert list(content) == [
        "schema_version",
        "edgekd_version",
        "title",
        "headline",
        "statements",
        "artifacts",
        "records",
        "comparisons",
        "trainings",
        "run",
        "recipe",
        "results",
        "rejected",
        "failures",
        "scout",
        "compare",
        "answered",
        "changes",
        "commands",
    ]
    assert content["schema_version"] == 1
    student = content["results"][-1]
    assert math.isclose(student["latency"]["median"]["value"], 0.2119)
    assert student["latency"]["p99"] == {
        "value": None,
        "lo": None,
        "hi": None,
        "reason": "312 runs, need 459",
    }
    assert len(content["artifacts"][0]["sha256"]) == 64


def test_the_same_run_makes_the_same_report(
    run_folder: Path, written: dict[str, Path], tmp_path: Path
) -> None:
    again = write(run_folder, tmp_path / "deep" / "er")
    assert all(again[kind].read_bytes() == written[kind].read_bytes() for kind in written)


def test_a_command_that_was_not_kept_is_not_shown(run_folder: Path, tmp_path: Path) -> None:
    """A proof, which goes where its artifact goes, has none; nor has a run of a program's."""
    export = shutil.copytree(run_folder / "student-onnx", tmp_path / "student-onnx")
    record = json.loads((run_folder / "profile.json").read_text("utf-8"))[2] | {"command": None}
    proof = {"schema_version": 1, "model_sha256": sha256(export / "model.onnx"), "record": record}
    (export / "proof").mkdir()
    (export / "proof" / "local.json").write_text(json.dumps(proof), "utf-8")
    (tmp_path / "run.json").write_text('{"schema_version": 1, "command": null}', "utf-8")
    view = collect(tmp_path)
    assert len(view.records) == 1
    assert commands(view) == []
    assert "```" not in render_markdown(view)
    assert "Repeat it" not in render_page(view)
    (tmp_path / "run.json").write_text('{"schema_version": 1, "command": "edgekd run x"}', "utf-8")
    assert commands(collect(tmp_path)) == ["edgekd run x"]
