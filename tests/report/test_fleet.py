"""One report of many devices: who is how fast where, who failed, and what was asked beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edgekd
from edgekd.report import RunView, collect, write
from edgekd.report.comparing import comparisons_tables
from edgekd.report.evidence import state_tables
from edgekd.report.figures import figures
from edgekd.report.matrix import matrices
from edgekd.report.proofs import measurements_tables
from edgekd.report.tables import results_tables
from edgekd.report.verdict import headline, statements
from tests.report.fleet import DEVICES, HEAD, by_clock, cells, compared, failed
from tests.report.test_exports import poisoned
from tests.report.test_page import HOSTILE, Page

MAKERS = (results_tables, matrices, comparisons_tables, measurements_tables)


@pytest.fixture(scope="module")
def view(fleet: Path) -> RunView:
    return collect(fleet)


@pytest.fixture(scope="module")
def clocks(fleet: Path, tmp_path_factory: pytest.TempPathFactory) -> RunView:
    """The same, with two more clocks."""
    folder = tmp_path_factory.mktemp("clocks") / "run"
    shutil.copytree(fleet, folder)
    by_clock(folder)
    return collect(folder)


def test_the_runs_of_these_tests_have_the_shape_that_profile_writes(fleet: Path) -> None:
    schema = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text("utf-8"))
    for record in json.loads((fleet / "profile.json").read_text("utf-8")):
        jsonschema.validate(record, schema)


def test_models_are_rows_and_devices_columns(view: RunView) -> None:
    (found,) = matrices(view)
    titles = [column.title for column in found.columns]
    assert titles == ["Model", *DEVICES, "pi4", "ssh device 2"]
    assert found.columns[1].note == "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76"
    assert "Inference clock: host memory in, host memory out." in found.caption
    float_row, int8_row = cells(found)
    assert [name[1] for name in (float_row[0], int8_row[0])] == ["fp32", "int8+fp32"]
    assert float_row[2] == (
        "41.8 ms [41.2, 42.7]",
        "p95 50.6 ms\ntop-1 95.6%\nthrottled",
    )
    assert int8_row[1][1] == "p95 8.93 ms\ntop-1 \u22120.4 [\u22120.9, +0.1]\nstable"


def test_the_rarest_percentile_is_shown_where_there_were_runs_for_it(
    fleet: Path, tmp_path: Path
) -> None:
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[0]
    for value, shown in ((None, False), (31.4, True)):
        record["timing"]["p99.9"] |= {"value": value}
        (tmp_path / "profile.json").write_text(json.dumps([record]), "utf-8")
        (found,) = results_tables(collect(tmp_path))
        assert ("p99.9" in [column.title for column in found.columns]) == shown
        assert any(cell.text == "31.4 ms" for cell in found.rows[0]) == shown


def test_a_device_that_failed_says_why_in_its_column(view: RunView) -> None:
    float_row, int8_row = cells(matrices(view)[0])
    assert float_row[4][0] == int8_row[4][0] == "failed"
    assert float_row[4][1].startswith("it does not accept any key of yours")
    assert float_row[4][1].endswith("until this works: ssh … true.")
    assert "ssh device 2 is in use by … since 12:00" in float_row[5][1]
    assert int8_row[4][1] == int8_row[5][1] == ""
    assert headline(view).endswith("No answer from pi4 and ssh device 2.")


def test_where_every_device_failed_there_is_still_a_report(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps([failed("pi4", "it is off")]), "utf-8")
    view = collect(tmp_path)
    (found,) = matrices(view)
    assert cells(found) == [
        [("student-onnx/model.onnx", ""), ("failed", "it is off")],
        [("student-int8/model.onnx", ""), ("failed", "")],
    ]
    assert headline(view) == "No answer from pi4."
    written = write(tmp_path)
    assert "it is off" in written["markdown"].read_text("utf-8")
    content = json.loads(written["json"].read_text("utf-8"))
    assert content["failures"][0]["failure"]["message"] == "it is off"


def test_two_boards_of_a_kind_are_two_devices(fleet: Path, tmp_path: Path) -> None:
    first, second = json.loads((fleet / "profile.json").read_text("utf-8"))[:2]
    twin = json.loads(json.dumps(first))
    twin["device"]["profile"] = "pi5-attic"
    again = json.loads(json.dumps(first))  # and the first measured twice: nothing is lost
    (tmp_path / "profile.json").write_text(json.dumps([first, second, twin, again]), "utf-8")
    view = collect(tmp_path)
    (found,) = matrices(view)
    assert [column.title for column in found.columns] == ["Model", "pi5", "pi5-attic"]
    assert [row[0][1].split("\n")[-1] for row in cells(found)][2:] == ["measurement 2"]
    assert [row[2][0] for row in cells(found)] == ["12.3 ms [12.1, 12.5]", "\u2013", "\u2013"]
    assert len(state_tables(view)) == 2
    fronts, _ = figures(view)
    assert [front.name for front in fronts] == ["front", "front-2"]


def test_the_headline_has_both_ends_of_the_devices(view: RunView) -> None:
    assert "answers in 12.3 ms on pi5 to 41.8 ms on ssh device 1." in headline(view)
    (latency,) = (s for s in statements(view) if s.label == "Median latency")
    assert latency.figure == "12.3 ms to 41.8 ms"
    assert latency.facts == ("pi5 to ssh device 1", "inference clock", "3 devices")


def test_comparisons_name_their_device_where_there_are_several(view: RunView) -> None:
    (found,) = comparisons_tables(view)
    assert [row[1].text for row in found.rows] == DEVICES
    assert found.rows[0][4].text == "student-int8 is 39-41 % faster (95 %)"


def test_clocks_share_no_table_and_no_axis(clocks: RunView) -> None:
    words = ["Inference clock", "End-to-end clock", "Compute clock"]
    for make in MAKERS:
        captions = [table.caption for table in make(clocks)]
        assert [w for c in captions for w in words if w in c] == words, make
    for table, median in zip(
        results_tables(clocks), ("12.3 ms", "31.1 ms", "7.70 ms"), strict=True
    ):
        assert any(cell.text.startswith(median) for row in table.rows for cell in row)
    for table in results_tables(clocks)[1:]:
        assert len(table.rows) == 1
    fronts, _ = figures(clocks)
    axes = [json.loads(f.data)["layout"]["xaxis"]["title"]["text"] for f in fronts]
    names = [axis.rpartition("<br>")[2] for axis in axes]
    assert names == ["inference clock"] * 3 + ["end-to-end clock", "compute clock"]
    assert "12.3 ms on pi5" in headline(clocks)  # the usual clock speaks


def test_page_and_markdown_tell_all_of_it(fleet_report: dict[str, Path]) -> None:
    told = (
        "it does not accept any key of yours",
        "12 of 1,000 images get another class",
        "for latency",
        "31.2 mJ",
        "no meter: energy is n/a",
        "held back in 4 of 10 rows",
        "CPUs 4\u20137 Cortex-A78",
    )
    for kind in ("html", "markdown"):
        text = fleet_report[kind].read_text("utf-8").replace("\\", "")
        assert all(words in text for words in told), kind
    assert "iVBOR" not in fleet_report["markdown"].read_text("utf-8")
    page = Page(fleet_report["html"].read_text("utf-8"))
    assert page.open == []
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    images = page.all("img")
    assert len(images) == 18
    assert all(a["src"].startswith("data:image/png;base64,iVBOR") and a["alt"] for a in images)
    content = json.loads(fleet_report["json"].read_text("utf-8"))
    moment = content["records"][2]["evidence"]["during"]
    assert moment["throttle_bits"] == 0x50005
    assert moment["temperature_c"] == {"cpu-thermal": 79.5}


@pytest.mark.parametrize("evil", [HOSTILE[0], HOSTILE[3], HOSTILE[7], HOSTILE[9]])
def test_hostile_texts_stay_text(fleet: Path, tmp_path: Path, evil: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(fleet / "student-int8", folder / "student-int8")
    records = json.loads((fleet / "profile.json").read_text("utf-8"))
    strange = [poisoned(record, evil) for record in (*records[:2], records[6], records[-1])]
    (folder / "profile.json").write_text(json.dumps(strange), "utf-8")
    written = write(folder)
    page = Page(written["html"].read_text("utf-8"))
    assert page.open == []
    assert page.all("img") == []
    assert all(not name.startswith("on") for _, a in page.tags for name in a)


@pytest.mark.parametrize("value", [None, 7, "x", [None], {"x": {"y": None}}])
def test_values_of_the_wrong_kind_leave_the_rest(
    fleet: Path, tmp_path: Path, value: object
) -> None:
    """First whole sections, then each entry of every section."""
    shutil.copytree(fleet / "student-int8", tmp_path / "student-int8")
    record, other = json.loads((fleet / "profile.json").read_text("utf-8"))[:2]
    whole = record | {"accuracy": other["accuracy"], "sustained": record["sustained"][:2]}
    sections: dict[str, Any] = {k: v for k, v in whole.items() if isinstance(v, dict | list)}
    whole["sustained"] = []  # a picture for each of these records takes its time
    strange = [whole | {key: value} for key in sections]
    strange += [whole | {key: emptied(part, value)} for key, part in sections.items()]
    strange += [HEAD | {key: value} for key in ("comparison", "failure")]
    strange += [HEAD | {"failure": dict.fromkeys(("device", "models", "message"), value)}]
    (tmp_path / "profile.json").write_text(json.dumps(strange), "utf-8")
    assert len(collect(tmp_path).records) == 2 * len(sections)
    write(tmp_path)


def emptied(part: Any, value: object) -> Any:
    """A table or a list of them with every entry replaced, one level and two levels down."""
    if isinstance(part, list):
        return [emptied(item, value) for item in part] or [value]
    if not isinstance(part, dict):
        return value
    if not any(isinstance(item, dict | list) for item in part.values()):
        return dict.fromkeys(part, value)
    return {k: emptied(v, value) if isinstance(v, dict | list) else v for k, v in part.items()}


def test_a_comparison_that_is_not_stable_says_why(tmp_path: Path) -> None:
    entry = compared("pi5")
    entry["comparison"] |= {"state": "noisy", "reasons": ["its null pair is off by 4 %"]}
    (tmp_path / "profile.json").write_text(json.dumps([entry]), "utf-8")
    (found,) = comparisons_tables(collect(tmp_path))
    assert cells(found)[0][-1][1] == "noisy\nits null pair is off by 4 %"
