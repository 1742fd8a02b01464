"""Reports of a budget, a scout and a comparison: who is who, and the same numbers everywhere."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import UsageError
from edgekd.report import (
    bounded,
    budgets,
    by_class,
    clauses,
    collect,
    figures,
    openings,
    scouted,
    write,
)
from edgekd.report.budget_picture import budget_figure
from edgekd.report.classes import confusions
from edgekd.report.methods_beside import gains_figure
from edgekd.report.scout_picture import scout_figure
from edgekd.report.view import ClassChange, RunView
from tests.report.missions import (
    LABELS,
    PLANS,
    make_comparison,
    make_mission,
    make_scout,
    write_json,
)

SECTIONS = {
    "mission_report": ("budget", "classes", "scout"),
    "comparison_report": ("methods",),
    "scouted_report": ("scout",),
}


class Values(HTMLParser):
    """The numbers behind the cells of each section's tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.section = ""
        self.found: dict[str, set[float]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self.section = str(given["id"])
        if tag == "data":
            self.found.setdefault(self.section, set()).add(float(str(given["value"])))


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@pytest.mark.parametrize("report", SECTIONS)
def test_every_number_in_the_page_is_one_of_the_json(
    report: str, request: pytest.FixtureRequest
) -> None:
    paths: dict[str, Path] = request.getfixturevalue(report)
    known = set(numbers(json.loads(paths["json"].read_text("utf-8"))))
    values = Values(paths["html"].read_text("utf-8")).found
    for section in SECTIONS[report]:
        assert len(values[section]) > 10
        assert values[section] <= known, section


def test_every_number_of_the_json_is_in_the_page(
    mission_report: dict[str, Path], comparison_report: dict[str, Path]
) -> None:
    content = json.loads(mission_report["json"].read_text("utf-8"))
    values = Values(mission_report["html"].read_text("utf-8")).found
    budget = content["run"]["budget"]
    for ruling in [*budget["rulings"], *(r for a in budget["attempts"] for r in a["rulings"])]:
        assert ruling["value"] in values["budget"]
    assert {ruling["bound"] for ruling in budget["rulings"]} <= values["budget"]
    assert {a["validation"]["top1"] for a in budget["attempts"]} <= values["budget"]
    assert {budget["test"][key] for key in ("top1", "teacher", "delta")} <= values["budget"]
    for candidate in content["scout"]["candidates"]:
        seen = [candidate[key] for key in ("parameters", "macs", "size_bytes", "peak_bytes")]
        seen += [(candidate[key] or {}).get("value") for key in ("median", "p95", "prior")]
        assert {value for value in seen if value is not None} <= values["scout"]
    assert {c["delta"] for c in content["changes"]} <= values["classes"]
    content = json.loads(comparison_report["json"].read_text("utf-8"))
    values = Values(comparison_report["html"].read_text("utf-8")).found
    for method in content["compare"]["methods"]:
        seen = [method[key]["mean"] for key in ("validation", "test")]
        seen += [method["cost"]["ms_per_step"], (method["gain"] or {"value": seen[0]})["value"]]
        assert set(seen) <= values["methods"]


def test_the_pictures_hold_the_numbers_of_the_json(mission: Path, comparison: Path) -> None:
    view = collect(mission)
    figure = budget_figure(view)
    assert figure
    traces = {trace["name"]: trace for trace in json.loads(figure.data)["data"]}
    assert list(traces) == [
        "within these bounds",
        "p95 ≤ 6ms",
        "top1_drop ≤ 2%",
        "attempts",
        "taken",
        "teacher: wrn_16_2",
    ]
    assert figure.hint.endswith("The picture has no axis for peak_mb ≤ 120.")
    assert traces["taken"]["x"] == [PLANS[-1][5]]
    assert traces["taken"]["y"] == [100 * PLANS[-1][6]]
    assert traces["attempts"]["x"] == [plan[5] for plan in PLANS[:-1]]
    assert traces["p95 ≤ 6ms"]["x"] == [6.0, 6.0]
    assert traces["top1_drop ≤ 2%"]["y"] == pytest.approx([89.2, 89.2])
    gains = gains_figure(collect(comparison))
    assert gains
    means, seeds = json.loads(gains.data)["data"][:2]
    assert means["x"][1] == pytest.approx(100 * (0.044 + 0.041 + 0.049) / 3)
    assert len(seeds["x"]) == 12


def test_the_one_that_was_taken_is_the_student(mission: Path) -> None:
    view = collect(mission)
    student = view.result("student")
    assert student
    assert student.latency["p95"].value == pytest.approx(PLANS[-1][5])
    by_path = {artifact.path: artifact for artifact in view.artifacts}
    assert by_path["artifact"].role == "student"
    assert by_path["resnet20-32px-60ep/student"].role == "student"
    others = [a for a in view.artifacts if a.role == "attempt"]
    assert {a.called for a in others} == {"resnet56-32px-30ep", "resnet20-32px-30ep"}
    assert {t.name for t in view.trainings} == {"teacher", "baseline", "student"} | {
        a.called for a in others
    }
    assert openings.title(view) == "resnet20, distilled from wrn_16_2"
    assert openings.headline(view).startswith(
        "The budget p95<=6ms, top1_drop<=2%, peak_mb<=120 is met on ssh device. The student"
    )
    first = openings.statements(view)[0]
    assert (first.label, first.figure) == ("Budget", "✓ holds")
    assert first.facts[0] == "p95 ≤ 6ms: 4.17 ms [4.07, 4.21]"


def test_it_says_which_images_the_final_word_on_accuracy_is_of(
    mission: Path, tmp_path: Path
) -> None:
    """The attempts' figures beside it are of other images."""
    view = collect(mission)
    final, tested = budgets.rulings_table(view), budgets.test_table(view)
    assert final
    assert tested
    assert "; accuracy is that on the test images. One holds" in final.caption
    assert final.rows[1][1].value == -tested.rows[0][3].value  # type: ignore[operator]
    assert final.rows[1][1].value != -view.budget["attempts"][-1]["validation"]["delta"]
    assert tested.caption == "Accuracy of what was taken. The test images chose nothing."
    write_json(tmp_path / "run.json", {"budget": {**view.budget, "test": None}})
    found = budgets.rulings_table(collect(tmp_path))
    assert found
    assert "; accuracy is that on the validation images. One holds" in found.caption
    costs = [ruling for ruling in view.budget["rulings"] if ruling["metric"] != "top1_drop"]
    write_json(tmp_path / "run.json", {"budget": {**view.budget, "rulings": costs}})
    found = budgets.rulings_table(collect(tmp_path))
    assert found
    assert "images" not in found.caption


def test_an_impossible_budget_says_so_and_the_way_out(tmp_path: Path) -> None:
    folder = make_mission(tmp_path / "run", "infeasible")
    text = write(folder)["html"].read_text("utf-8")
    view = collect(folder)
    assert "The budget is not met" in text
    assert "The way out, cheapest first" in text
    assert "Allow p95&lt;=4.3ms: 2.4 % more." in text
    assert budgets.accepted(view) == 3
    assert view.result("student") is not None
    found = budgets.verdict(view)
    assert found
    assert found.sentence.startswith("the best found is resnet20")
    assert found.steps[-1].outcome == "fails, nearest"
    assert budgets.test_table(view) is None


def test_before_any_training_there_is_only_the_scout(tmp_path: Path) -> None:
    budget = {"expression": "p95<=1us", "device": "pi5", "state": "infeasible", "attempts": []}
    budget |= {"sentence": "infeasible: no candidate fits", "way_out": ["allow p95<=1ms"]}
    write_json(tmp_path / "run.json", {"budget": budget | {"best": None, "rulings": []}})
    write_json(tmp_path / "scout.json", make_scout(4))
    text = write(tmp_path)["html"].read_text("utf-8")
    assert "The budget p95&lt;=1us is not met on pi5." in text
    assert "Scout of 5 candidates" in text
    assert "allow p95&lt;=1ms" in text
    assert budget_figure(collect(tmp_path)) is None


def test_a_scout_tells_fit_by_shape_and_why_each_was_dropped(scouted: Path) -> None:
    view = collect(scouted)
    figure = scout_figure(view)
    assert figure
    marks = {
        t["name"]: t["marker"]["symbol"] for t in json.loads(figure.data)["data"] if "marker" in t
    }
    assert marks == {"fits": "circle", "tight": "square", "over": "x"}
    text = write_text(scouted, view)
    assert "cannot be exported: its window does not fit 16 px" in text
    assert "resnet20-32px is faster and has a better prior" in text
    assert "medians lay up to 2.1% from their middle" in text
    assert "1 without a prior is in the table only" in figure.hint
    assert "9 without p95 are in the table only" in figure.hint


def test_a_bound_stands_on_the_axis_it_is_of(tmp_path: Path) -> None:
    """Budgets on p95 are drawn over p95, and where nobody has one, over the median and without."""
    content = make_scout(9)
    write_json(tmp_path / "scout.json", content)
    figure = scout_figure(collect(tmp_path))
    assert figure
    drawn = json.loads(figure.data)
    traces = {trace["name"]: trace for trace in drawn["data"]}
    assert drawn["layout"]["xaxis"]["title"]["text"] == "p95 latency in ms, measured"
    assert traces["p95 ≤ 6ms"]["x"] == [6.0, 6.0]
    times = {x for name in ("fits", "tight", "over") for x in traces.get(name, {"x": []})["x"]}
    known = {c["p95"]["value"] for c in content["candidates"] if c["p95"] and c["prior"]["value"]}
    assert times == known - {None}
    for candidate in content["candidates"][:-1]:
        candidate["p95"]["value"] = None
    write_json(tmp_path / "scout.json", content)
    figure = scout_figure(collect(tmp_path))
    assert figure
    drawn = json.loads(figure.data)
    traces = {trace["name"]: trace for trace in drawn["data"]}
    assert drawn["layout"]["xaxis"]["title"]["text"] == "Median latency in ms, measured"
    assert not {"p95 ≤ 6ms", "within the bound"} & set(traces)
    assert traces["undecided"]["marker"]["symbol"] == "diamond"
    assert "Nobody was timed often enough for p95" in figure.hint


@pytest.mark.parametrize(
    ("basis", "axis", "said"),
    [
        ("published", ", published", "A prior is an accuracy somebody published: it orders"),
        ("scaled", "", "A prior is an accuracy scaled down from what was published at a larger"),
        ("fitted", "", "A prior is an accuracy read off a line through what was published of"),
    ],
)
def test_a_prior_is_called_what_it_is(tmp_path: Path, basis: str, axis: str, said: str) -> None:
    content = make_scout(6, basis)
    write_json(tmp_path / "scout.json", content)
    view = collect(tmp_path)
    figure = scout_figure(view)
    assert figure
    title = json.loads(figure.data)["layout"]["yaxis"]["title"]["text"]
    assert title == f"Prior top-1 in %{axis}"
    assert any(sentence.startswith(said) for sentence in scouted.scout_sentences(view))
    content["candidates"][0]["prior"]["basis"] = "published"
    write_json(tmp_path / "scout.json", content)
    both = scouted.scout_sentences(collect(tmp_path))[-1]
    assert (" or " in both) == (basis != "published")
    for candidate in content["candidates"][:-1]:
        candidate["prior"] = {"value": None, "basis": "none", "source": ""}
    write_json(tmp_path / "scout.json", content)
    assert not any("prior" in one for one in scouted.scout_sentences(collect(tmp_path)))


def write_text(folder: Path, view: RunView) -> str:
    from edgekd.report.page import render_page

    return render_page(view)


def test_without_a_budget_candidates_are_only_candidates(tmp_path: Path) -> None:
    found = make_scout(6) | {"budget": None}
    for candidate in found["candidates"]:
        candidate |= {"rulings": [], "fits": "fits"}
    write_json(tmp_path / "scout.json", found)
    figure = scout_figure(collect(tmp_path))
    assert figure
    assert [t["name"] for t in json.loads(figure.data)["data"]] == ["front", "candidates"]


def test_a_comparison_names_its_winner_and_folds_its_runs(
    comparison: Path, comparison_report: dict[str, Path]
) -> None:
    view = collect(comparison)
    assert openings.title(view) == "5 methods of teaching resnet20 by wrn_16_2"
    assert [s.figure for s in openings.statements(view)] == ["ce + 2*dist", "+4.5 points", "90.9%"]
    assert "0.1*ce + 0.9*kd, seed 2" in {training.name for training in view.trainings}
    assert not view.changes  # none of its students is the student
    markdown = comparison_report["markdown"].read_text("utf-8")
    assert "| ce + 2\\*dist | 87.5%" in markdown
    assert "All seeds saw the same batches." in markdown
    assert "edgekd run --device pi5 --output …/c10" in markdown


def test_one_seed_has_no_interval(comparison: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(comparison, tmp_path / "run")
    content = json.loads((folder / "compare.json").read_text("utf-8"))
    content |= {"seeds": [0], "order": None}
    content |= {"winner": {"method": None, "sentence": "One seed shows nothing."}}
    for method in content["methods"]:
        method["runs"] = method["runs"][:1]
        if method["gain"]:
            method["gain"] |= {"lo": None, "hi": None, "per_seed": method["gain"]["per_seed"][:1]}
    write_json(folder / "compare.json", content)
    view = collect(folder)
    assert openings.statements(view)[0].figure == "none shown"
    assert openings.headline(view).endswith("One seed shows nothing.")
    gains = gains_figure(view)
    assert gains
    assert max(json.loads(gains.data)["data"][0]["error_x"]["array"]) == 0


def test_classes_are_paired_and_their_mistakes_counted(mission: Path) -> None:
    view = collect(mission)
    assert {change.against for change in view.changes} == {"teacher", "baseline"}
    assert [answered.role for answered in view.answered] == ["teacher", "baseline", "student"]
    for answered in view.answered:
        assert sum(map(sum, answered.counts)) == answered.n == 1000
    for change in view.changes:
        student = view.answered[-1].counts[change.index]
        assert change.after == pytest.approx(student[change.index] / change.n)
        assert change.lo <= change.delta <= change.hi
    (table, most) = (make(view) for make in by_class.TABLES)
    assert table
    assert [row[0].text for row in table.rows] == LABELS
    assert most
    true, said, times = confusions(view.answered[-1])[0]
    assert [cell.text for cell in most.rows[0][:3]] == [LABELS[true], LABELS[said], str(times)]
    assert [figure.name for figure in by_class.class_figures(view)] == [
        "confusion",
        "confusion-teacher",
        "confusion-baseline",
    ]


def test_of_many_classes_those_that_changed_most_are_shown() -> None:
    changes = tuple(
        ClassChange("teacher", i, f"class {i}", 50, 0.9, 0.9 - i / 100, -i / 100, -1.0, 1.0)
        for i in range(60)
    )
    view = RunView((), (), (), (), {}, "", (), changes=changes)
    table = by_class.class_table(view)
    assert table
    assert [row[0].text for row in table.rows] == [f"class {i}" for i in range(59, 43, -1)]
    assert table.caption.startswith("The 16 of 60 classes that changed the most.")
    assert by_class.class_figures(view) == []
    assert by_class.confusion_table(view) is None


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("{", "not valid JSON"),
        ('{"predictions": [99], "targets": [0]}', "does not fit"),
        ('{"predictions": [0], "targets": [null]}', "does not fit"),
        ("[]", "does not fit"),
        ('{"a": 1}', "does not fit"),
        ("null", "holds null"),
    ],
)
def test_answers_that_cannot_be_read_cost_only_their_part(
    mission: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str, why: str
) -> None:
    folder = shutil.copytree(mission, tmp_path / "run")
    assert {change.against for change in collect(folder).changes} == {"teacher", "baseline"}
    (folder / "teacher" / "answers.json").unlink()
    assert {change.against for change in collect(folder).changes} == {"baseline"}
    assert caplog.messages == []  # an artifact that has none lacks nothing
    (folder / "teacher" / "answers.json").write_text(broken, "utf-8")
    assert {change.against for change in collect(folder).changes} == {"baseline"}
    (said,) = caplog.messages
    assert said.startswith("left out of the report: ")
    assert re.search(rf"teacher/answers\.json .*{why}", said)


def test_other_test_images_make_no_pairs(mission: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mission, tmp_path / "run")
    answers = json.loads((folder / "teacher" / "answers.json").read_text("utf-8"))
    answers["targets"] = answers["targets"][::-1]
    write_json(folder / "teacher" / "answers.json", answers)
    assert {change.against for change in collect(folder).changes} == {"baseline"}


@pytest.mark.parametrize("report", SECTIONS)
def test_nothing_says_where_it_was(report: str, request: pytest.FixtureRequest) -> None:
    paths: dict[str, Path] = request.getfixturevalue(report)
    for path in paths.values():
        text = path.read_text("utf-8")
        assert not [word for word in ("ada", "10.0.0.7", "laptop") if f"{word}" in _words(text)]


def _words(text: str) -> set[str]:
    cut = text.partition("plotly.js")[0]  # the library is not the report's text
    return {word.strip("\"',;:()[]") for word in cut.replace("/", " ").replace("@", " ").split()}


@pytest.mark.parametrize("name", ["scout.json", "compare.json", "run.json"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / name, [1])
    with pytest.raises(UsageError, match="is not a table"):
        collect(tmp_path)


EVIL: tuple[Any, ...] = (None, 3, "x", [], {}, [None], {"a": [1]}, [{"metric": "x", "bound": "y"}])
ALL = pytest.param(range(len(EVIL)), marks=pytest.mark.slow, id="all")


@pytest.mark.parametrize("starts", [pytest.param([0], id="one each"), ALL])
def test_what_has_another_shape_breaks_nothing(
    mission: Path, tmp_path: Path, starts: Iterable[int]
) -> None:
    """Every value of the three files is something else once; in the slow test, everything else."""
    for start in starts:
        _check_shapes(mission, tmp_path, start)


def _check_shapes(mission: Path, tmp_path: Path, start: int) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "losses": {"ce": 1.0}}', "utf-8")
    scout, evil = make_scout(2), itertools.islice(itertools.cycle(EVIL), start, None)
    compare = json.loads((make_comparison(tmp_path / "c") / "compare.json").read_text("utf-8"))
    shutil.rmtree(tmp_path / "c")
    run = json.loads((mission / "run.json").read_text("utf-8"))
    first, budget, method = scout["candidates"][0], run["budget"], compare["methods"][1]
    attempt = budget["attempts"][0]
    changed = [("scout", scout | {key: next(evil)}) for key in scout if key != "schema_version"]
    changed += [("scout", scout | {"candidates": [first | {key: next(evil)}]}) for key in first]
    changed += [("run", {"budget": budget | {key: next(evil)}}) for key in budget]
    changed += [
        ("run", {"budget": budget | {"attempts": [attempt | {key: next(evil)}]}}) for key in attempt
    ]
    changed += [
        ("compare", compare | {key: next(evil)}) for key in compare if key != "schema_version"
    ]
    changed += [("compare", compare | {"methods": [method | {key: next(evil)}]}) for key in method]
    for name, content in changed:
        write_json(tmp_path / f"{name}.json", content)
        collect_all(tmp_path)
        (tmp_path / f"{name}.json").unlink()


def collect_all(folder: Path) -> None:
    """Everything but the library's text."""
    from edgekd.report.page import _content
    from edgekd.report.words import render_json, render_markdown

    view = collect(folder)
    assert _content(view)
    assert render_markdown(view)
    assert render_json(view)


def test_values_have_their_metrics_units() -> None:
    assert clauses.amount("p95", 4.13, 4.07, 4.21) == "4.13 ms [4.07, 4.21]"
    assert clauses.amount("top1_drop", -0.004, -0.01, 0.002) == "\u22120.4 points [\u22121.0, 0.2]"
    assert clauses.amount("top1", 0.912) == "91.2%"
    assert clauses.amount("peak_mb", 71.2) == "71.2 MB"
    assert clauses.amount("j_per_inf", 0.0123, 0.012, 0.013) == "12.3 mJ [12.0, 13.0]"
    assert clauses.amount("fps", 31.5) == "31.5 /s"


def test_a_picture_has_the_axis_of_the_budget() -> None:
    ruled: list[clauses.Ruling]
    ruled = [{"metric": "peak_mb", "bound": 9}, {"metric": "mean", "bound": 3}, {"metric": "top1"}]
    assert clauses.axis_metric(ruled) == "mean"
    assert clauses.axis_metric(ruled[:1]) == "peak_mb"
    assert clauses.axis_metric(ruled[2:]) == "p50"
    assert set(bounded.TITLES) == {m for m, unit in clauses.UNITS.items() if unit != "%"}
    assert bounded.cost_axis([1.0, 30.0]).log
    assert not bounded.cost_axis([5.0, 30.0]).log


def test_few_candidates_need_no_folding(tmp_path: Path) -> None:
    write_json(tmp_path / "scout.json", make_scout(4))
    view = collect(tmp_path)
    assert [table.name for table in scouted.scout_tables(view)] == ["scout-table"]
    assert "scout-all" not in [table.name for table in scouted.more_tables(view)]
    assert figures.figures(view) == ([], [])
