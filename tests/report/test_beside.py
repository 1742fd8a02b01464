"""What is told beside the latency: minutes under load, knobs, energy, answers, the state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.report import RunView, collect
from edgekd.report.answers import accuracy_table, disagreements
from edgekd.report.endurance import conclusion, minute_tables, sustained_tables
from edgekd.report.evidence import state_tables
from edgekd.report.heat import heat_figures
from edgekd.report.knobs import energy_tables, sweep_tables
from edgekd.report.layering import layer_tables
from tests.report.fleet import DEVICES, cells


@pytest.fixture(scope="module")
def view(fleet: Path) -> RunView:
    return collect(fleet)


def test_a_sustained_measurement_shows_where_it_ended(view: RunView) -> None:
    (found,) = sustained_tables(view)
    (row, throttled, _) = cells(found)
    assert [text for text, _ in row][1:] == [
        "10 min 00 s",
        "12.3 ms",
        "14.5 ms",
        "+18.0%",
        "16.0 ms",
        "82.0 °C",
        "1.80 GHz",
        "stable",
    ]
    assert throttled[8] == (
        "throttled",
        "the frequency is capped, no meter: energy is n/a\nheld back in 4 of 10 rows",
    )
    assert [len(table.rows) for table in minute_tables(view)] == [10, 10, 10]
    assert conclusion(view.records[0]) == (
        "Stable. Median 12.3 ms at first, 14.5 ms at the end (+18.0%)."
    )


def test_its_picture_has_a_panel_for_each_unit(view: RunView) -> None:
    (first, second, _) = heat_figures(view)
    assert first.title == "Sustained: student: resnet8 (fp32) on pi5"
    assert second.hint.startswith("Throttled: the frequency is capped; no meter")
    drawn = json.loads(first.data)
    assert [(t["name"], t.get("yaxis", "y")) for t in drawn["data"]] == [
        ("median", "y"),
        ("p95", "y"),
        ("held back", "y"),
        ("hottest zone", "y2"),
        ("fastest core used", "y3"),
    ]
    assert drawn["data"][2]["x"] == [7.0, 8.0, 9.0, 10.0]
    axes = [drawn["layout"][name] for name in ("yaxis", "yaxis2", "yaxis3")]
    assert [axis["title"]["text"] for axis in axes] == ["inference clock, ms", "°C", "GHz"]
    assert axes[0]["domain"][0] > axes[1]["domain"][1] > axes[1]["domain"][0]
    assert axes[1]["domain"][0] > axes[2]["domain"][1] > axes[2]["domain"][0] >= 0
    assert drawn["layout"]["xaxis"]["anchor"] == "y3"


def test_without_sensors_only_the_latency_is_drawn(fleet: Path, tmp_path: Path) -> None:
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[0]
    bare = {"temperature_c": None, "core_khz": None, "throttle_bits": None}
    record["sustained"] = [row | bare for row in record["sustained"]]
    (tmp_path / "profile.json").write_text(json.dumps([record]), "utf-8")
    view = collect(tmp_path)
    (figure,) = heat_figures(view)
    assert [trace["name"] for trace in json.loads(figure.data)["data"]] == ["median", "p95"]
    titles = [column.title for column in sustained_tables(view)[0].columns]
    assert "Hottest" not in titles
    assert "Fastest core, least" not in titles


def test_a_sweep_names_both_best(view: RunView) -> None:
    found = sweep_tables(view)[0]
    assert "student: resnet8 (fp32) on pi5; inference clock" in found.caption
    assert [row[-1].text for row in found.rows] == ["per CPU-second", "\u2013", "for latency"]
    assert [cell.text for cell in found.rows[1]][:5] == ["4", "no", "12.3 ms", "14.8 ms", "24.4 ms"]


def test_energy_has_its_scope_or_says_that_there_is_no_meter(view: RunView) -> None:
    (found,) = energy_tables(view)
    metered, unmetered, _ = cells(found)
    assert [text for text, _ in metered][1:] == [
        "31.2 mJ",
        "rail",
        "pmic",
        "4.00 Hz",
        "2.70 W",
        "5.90 W",
        "30 s",
    ]
    assert unmetered[1] == ("n/a", "no meter: energy is n/a")


def test_answers_on_the_device_are_paired_with_those_in_float(view: RunView) -> None:
    table = accuracy_table(view)
    assert table
    row = {c.title: cell for c, cell in zip(table.columns, table.rows[0], strict=True)}
    assert row["Top-5"].text == "99.8%"
    assert row["Change in points [95%]"].text == "\u22120.4 [\u22120.9, +0.1]"
    assert row["Change in points [95%]"].note == "1,000 images"
    assert row["Another class"].text == "12 of 1,000"
    assert row["On the device"].note == "int8+fp32\non pi5\nfloat 95.6%"
    first, *_ = disagreements(view)
    assert first.sentence == (
        "student: resnet8 (int8+fp32) on pi5: 12 of 1,000 images get another class than from the "
        "float student."
    )
    picture = first.pictures[0]
    assert picture.alternative == "IMG_0000.png: truth /m/cat <b>, float /m/cat <b>, here dog"


def test_without_a_reference_answers_are_held_against_the_truth(
    fleet: Path, tmp_path: Path
) -> None:
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[1]
    record["accuracy"] |= dict.fromkeys(("reference", "delta", "delta_interval", "top1_agreement"))
    record["accuracy"]["disagreements"] = {"n": 1, "shown": [{"png": "x"}, None, 7]}
    (tmp_path / "profile.json").write_text(json.dumps([record]), "utf-8")
    (found,) = disagreements(collect(tmp_path))
    assert found.sentence == "model: 1 of 1,000 images gets another class than the true one."
    assert found.pictures == ()


def test_the_state_of_a_device_is_told_in_short(view: RunView) -> None:
    states = {t.caption: {r[0].text: r[1].text for r in t.rows} for t in state_tables(view)}
    assert list(states) == [f"State of {name}." for name in DEVICES]
    pi4, phone = states["State of ssh device 1."], states["State of adb device."]
    assert pi4["Hottest zone"] == "71.0 °C before, 79.5 °C during, 71.0 °C after"
    assert pi4["Held back by"].startswith("the voltage is too low, it is throttled, ")
    assert pi4["Pinned to"] == "CPUs 0\u20133"
    assert pi4["Nodes"].startswith("98.0% CPUExecutionProvider, 2.0% XnnpackExecutionProvider")
    assert pi4["Time"].startswith("93.0% CPUExecutionProvider, 7.0% XnnpackExecutionProvider")
    assert pi4["Null pair"] == "1.002 [0.994, 1.010]"
    assert phone["Cores"] == (
        "CPUs 0\u20133 Cortex-A55 up to 2.00 GHz; CPUs 4\u20137 Cortex-A78 up to 2.60 GHz"
    )


def test_the_slowest_layers_come_first_with_the_providers(view: RunView) -> None:
    found = layer_tables(view)[0]
    assert "14 in all" in found.caption
    assert "98.0% CPUExecutionProvider, 2.0% Xnnpack" in found.caption
    assert [cell.text for cell in found.rows[0]] == ["/layer0/Conv", "Conv", "1.50 ms", "12.0%"]
    assert len(found.rows) == 12


def test_one_row_has_no_change(fleet: Path, tmp_path: Path) -> None:
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[0]
    record["sustained"] = record["sustained"][:1]
    (tmp_path / "profile.json").write_text(json.dumps([record]), "utf-8")
    (found,) = sustained_tables(collect(tmp_path))
    assert "Change" not in [column.title for column in found.columns]  # as nobody has one
    assert "+0.0%" not in str(cells(found))
