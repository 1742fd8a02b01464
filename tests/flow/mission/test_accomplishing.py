"""A mission on tiny digits with a scout's table made by hand: how it ends, and that it goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.budget import Budget
from edgekd.errors import DeviceError, GateError, UsageError
from edgekd.files import read_json
from edgekd.flow import scouts
from edgekd.flow.findings import Found, Proofs
from edgekd.flow.mission import accomplishing, attempting, confirming, ground, owning, teachers
from edgekd.flow.mission.accomplishing import Mission, accomplish
from edgekd.flow.running import Run
from edgekd.flow.scouts import Scouting
from edgekd.recipe import Network, recipe_from
from edgekd.schema import OUTCOME, RUN
from tests.flow.conftest import TABLE, Heard
from tests.flow.mission.figures import row, table
from tests.keys import check_keys

RECIPE = recipe_from(
    {**TABLE, "train": {**TABLE["train"], "epochs": 1}, "profile": {"max_seconds": 0.5}}
)
FOUND = table(row("resnet14", 0.2, 0.7, size=8), row("resnet8", 0.1, 0.6, size=8))
SHORT = {"max_seconds": 1.0, "min_seconds": 0.2, "warmup_seconds": 0.1}
PERCENTILES = ("median", "p95", "p99")
asking = attempting.ask
HOLDS = "p95<=2s, top1_drop<=99%"


def calmly(
    here: ground.Ground, path: Path, truth: Any, said: Any, *, proofs: Proofs
) -> tuple[Found, list[dict[str, Any]]]:
    """Measured as ever; but a busy machine, whose times decide nothing, is not what is tested."""
    found, samples = asking(here, path, truth, said, proofs=proofs)
    found.record["verdict"] = {"state": "stable", "reasons": []}
    for name in PERCENTILES:
        if found.record["timing"][name]["hi"] is None:
            found.record["timing"][name] = {"value": 1.0, "lo": 0.9, "hi": 1.1, "method": "calm"}
    return found, samples


def calm(patch: pytest.MonkeyPatch) -> None:
    for module in (attempting, confirming):
        patch.setattr(module, "ask", calmly)
    patch.setattr(ground, "fields_for", lambda *_: SHORT)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Scouting]:
    """The scout's answers; what it was asked."""
    questions: list[Scouting] = []

    def scout(asked: Scouting, out: Path | None, watch: Any) -> dict[str, Any]:
        questions.append(asked)
        return dict(FOUND)

    monkeypatch.setattr(accomplishing, "scout", scout)
    calm(monkeypatch)
    return questions


def go(
    out: Path, budget: str, heard: Heard | None = None, restart: bool = False, **more: Any
) -> dict[str, Any]:
    task = Run(RECIPE, out, heard or Heard(), "none", restart, command="edgekd run tiny")
    return accomplish(Mission(task, Budget.parse(budget), **more))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mission that held; only to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accomplishing, "scout", lambda *_: dict(FOUND))
        calm(patch)
        out = tmp_path_factory.mktemp("mission") / "run"
        go(out, HOLDS)
    return out


@pytest.fixture
def run(taught: Path, tmp_path: Path) -> Path:
    return shutil.copytree(taught, tmp_path / "run")


def summary_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def test_the_files_have_the_keys_of_their_versions(taught: Path) -> None:
    check_keys(OUTCOME, *map(read_json, taught.glob("*/outcome-*.json")))
    check_keys(RUN, summary_of(taught))


def test_what_an_older_edgekd_tried_is_not_tried_again(run: Path) -> None:
    """Its outcomes asked for a budget and a length, and knew fewer keys of a recipe."""
    file = run / "resnet14-8px-1ep/outcome-fp32.json"
    now = read_json(file)
    asked = now["asked"] | now["question"]
    asked["policy"] |= {"min_seconds": 180.0, "max_seconds": 270.0}
    del asked["recipe"]["data"]["order"], asked["recipe"]["train"]["compile"]
    then = {name: now[name] for name in ("attempt", "record", "confirmed")}
    file.write_text(json.dumps({"schema_version": 1, "asked": asked, **then}))
    heard = Heard()
    go(run, HOLDS, heard)
    assert "attempt" in heard.taken()
    assert read_json(file)["schema_version"] == 1  # as it was


def test_a_newer_edgekds_mission_is_left_alone(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({"schema_version": 99}))
    before = sorted(run.rglob("*"))
    with pytest.raises(UsageError, match=r"run\.json has schema 99; .* Update edgekd, or choose"):
        go(run, HOLDS)
    assert sorted(run.rglob("*")) == before


def test_it_ends_with_an_artifact_and_its_proof(taught: Path) -> None:
    found = summary_of(taught)["budget"]
    assert (found["state"], found["artifact"], found["best"]) == (
        "holds",
        "artifact",
        "resnet14-8px-1ep",
    )
    assert [r["state"] for r in found["rulings"]] == ["holds", "holds"]
    (attempt,) = found["attempts"]
    assert (attempt["key"], attempt["rung"], attempt["precision"]) == (
        "resnet14-8px-1ep",
        "first",
        "fp32",
    )
    assert attempt["again"][0]["state"] == "holds"
    assert attempt["validation"]["n"] == 30
    assert found["test"]["n"] == 359
    exported = taught / attempt["folder"] / "onnx-fp32"
    for name in ("manifest.json", "model.onnx", "proof/local.json"):
        assert (taught / "artifact" / name).read_bytes() == (exported / name).read_bytes()
    Artifact.open(taught / "artifact")
    (record,) = json.loads((taught / "profile.json").read_text())
    assert record["accuracy"]["n"] == 359
    counts = (attempt["again"][0], attempt["rulings"][0])  # the second, but where they are apart
    assert attempt["again"][0]["value"] == record["timing"]["p95"]["value"]
    assert found["rulings"][0] in counts
    assert json.loads((exported / "proof/local.json").read_text())["images"]["n"] == 359
    assert (taught / "report.html").is_file()
    assert not list(taught.rglob(".*"))
    assert not list(taught.rglob("checkpoint*"))


def test_each_figure_is_ruled_on_the_split_it_is_of(taught: Path) -> None:
    """Validation images choose; the test images give the last figure alone."""
    found = summary_of(taught)["budget"]
    student = Artifact.open(taught / found["best"] / "student").manifest["metrics"]
    teacher = Artifact.open(taught / "teacher").manifest["metrics"]
    (attempt,) = found["attempts"]
    assert attempt["validation"]["top1"] == pytest.approx(student["validation"]["top1"])
    assert attempt["validation"]["teacher"] == pytest.approx(teacher["validation"]["top1"])
    assert found["test"]["top1"] == pytest.approx(student["test"]["top1"])
    drop = teacher["test"]["top1"] - student["test"]["top1"]
    assert found["rulings"][1]["value"] == pytest.approx(drop)


def test_the_decisions_carry_numbers(taught: Path) -> None:
    lines = summary_of(taught)["decisions"]
    assert any("attempt 1: resnet14 at 8 px has the best prior" in line for line in lines)
    assert any("p95 up to 0.2448ms of at most 2000ms" in line for line in lines)
    assert any(line.startswith("attempt 1: measured again: p95 ") for line in lines)
    assert lines[-1].startswith("holds: resnet14 at 8 px in fp32: p95 ")


def test_the_same_command_changes_nothing(run: Path, asked: list[Scouting]) -> None:
    before, heard = summary_of(run), Heard()
    kept = {
        f: f.stat().st_mtime_ns for f in run.rglob("*") if f.suffix in (".onnx", ".safetensors")
    }
    go(run, HOLDS, heard)
    assert summary_of(run) == before
    assert asked == []
    assert {f: f.stat().st_mtime_ns for f in kept} == kept
    assert heard.taken() == ["scout", "teach", "attempt", "teacher"]


def test_another_budget_takes_the_trainings_as_they_are(
    run: Path, asked: list[Scouting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the measurements, which are ruled on again; so does going back."""
    before = summary_of(run)["budget"]
    weights = (run / "resnet14-8px-1ep/student/model.safetensors").stat().st_mtime_ns
    found = go(run, "top1_drop<=0%", attempts=2)["budget"]
    assert len(asked) == 1
    assert [a["rung"] for a in found["attempts"]] == ["first", "longer"]
    assert (run / "resnet14-8px-1ep/student/model.safetensors").stat().st_mtime_ns == weights
    assert Artifact.open(run / "resnet14-8px-2ep/student").manifest["training"]["epochs"] == 2
    assert found["state"] == "open"  # the other student was not tried
    assert found["way_out"][0] == "give --attempts 3: 1 student that should fit was not tried"
    assert any(way.startswith("allow top1_drop<=") for way in found["way_out"])
    assert not (run / "artifact").exists()  # it was accepted under another budget
    assert not (run / "profile.json").exists()
    assert all("2000ms" not in line for line in summary_of(run)["decisions"])

    def measured(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(attempting, "ask", measured)
    monkeypatch.setattr(confirming, "ask", measured)
    again = go(run, HOLDS)["budget"]
    assert again == before
    assert (run / "artifact").is_dir()
    stricter = go(run, "p95<=1s, top1_drop<=98%")["budget"]
    assert stricter["state"] == "holds"
    assert stricter["rulings"][0]["value"] == before["rulings"][0]["value"]
    assert [r["bound"] for r in stricter["rulings"]] == [1000.0, 0.98]
    assert stricter["test"] == before["test"]


def test_where_nothing_fits_nothing_is_trained(tmp_path: Path, asked: list[Scouting]) -> None:
    found = go(tmp_path / "run", "p95<=10us")["budget"]
    assert (found["state"], found["attempts"], found["best"]) == ("infeasible", [], None)
    assert "no candidate fits the budget; the nearest is resnet8 at 8 px" in found["sentence"]
    assert found["way_out"][0].startswith("allow p95<=0.13ms: resnet8")
    assert not (tmp_path / "run/teacher").exists()
    assert (tmp_path / "run/report.html").is_file()
    assert asked[0].size == 8
    assert asked[0].spaces == ("cifar",)


def test_what_does_not_repeat_is_no_end(
    run: Path, monkeypatch: pytest.MonkeyPatch, taught: Path
) -> None:
    """The second measurement is over the bound: the ladder goes on, and the test says nothing."""
    slow = {"resnet14-8px-1ep"}

    def jammed(here: Any, path: Path, truth: Any, said: Any, *, proofs: Proofs) -> Any:
        found, samples = calmly(here, path, truth, said, proofs=proofs)
        if proofs is Proofs.REQUIRED and path.parent.name in slow:
            for name in ("value", "lo", "hi"):
                found.record["timing"]["p95"][name] = 1e6
        return found, samples

    monkeypatch.setattr(confirming, "ask", jammed)
    (run / "resnet14-8px-1ep/outcome-fp32.json").unlink()
    found = go(run, HOLDS)["budget"]
    first, second = found["attempts"]
    assert (first["state"], first["again"][0]["state"]) == ("fails", "fails")
    assert (second["network"], second["rung"], second["state"]) == ("resnet8", "smaller", "holds")
    kept = json.loads((run / "resnet14-8px-1ep/outcome-fp32.json").read_text())
    assert kept["confirmed"] is None
    assert found["best"] == "resnet8-8px-1ep"
    assert Artifact.open(run / "artifact").manifest["model"]["name"] == "resnet8"
    assert any("attempt 1: not repeatable: p95 " in line for line in summary_of(run)["decisions"])


def test_killed_before_the_outcome_the_decisions_are_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = summary_of(run)
    (run / "resnet14-8px-1ep/outcome-fp32.json").unlink()
    kept = {name: value for name, value in before.items() if name != "budget"}
    (run / "run.json").write_text(json.dumps(kept))
    shutil.rmtree(run / "artifact")

    def lost(*_: Any, **__: Any) -> Any:
        raise DeviceError("the link is gone")

    with monkeypatch.context() as patch:
        patch.setattr(confirming, "ask", lost)
        with pytest.raises(DeviceError, match="the link is gone"):
            go(run, HOLDS)
    heard = Heard()
    found = go(run, HOLDS, heard)
    assert "attempt" in heard.taken()  # which was kept before the link was lost
    keys = ("state", "best", "artifact")
    assert [found["budget"][k] for k in keys] == [before["budget"][k] for k in keys]
    plans = [
        [a[k] for a in f["budget"]["attempts"] for k in ("key", "rung", "why")]
        for f in (found, before)
    ]
    assert plans[0] == plans[1]


def test_a_method_that_does_not_suit_a_student_is_an_outcome(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsuited(table: Any, student: Any, *_: Any) -> None:
        if student.name == "resnet14":
            raise UsageError("it has no third stage")

    monkeypatch.setattr(attempting, "method_of", unsuited)
    (run / "resnet14-8px-1ep/outcome-fp32.json").unlink()
    first, second = go(run, HOLDS)["budget"]["attempts"]
    assert (first["state"], first["rulings"]) == ("refused", [])
    assert "it has no third stage" in first["refused"]
    assert second["network"] == "resnet8"


def test_what_a_measurement_cannot_decide_is_measured_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few runs for a percentile; energy, where no meter was read."""
    file = run / "resnet14-8px-1ep/outcome-fp32.json"
    table = json.loads(file.read_text())
    none = dict.fromkeys(("value", "lo", "hi")) | {"method": "n/a (150 runs, need 459)"}
    table["record"]["timing"]["p99"] = none
    file.write_text(json.dumps(table))

    def asked(*_: Any, **__: Any) -> Any:
        raise DeviceError("the file is measured")

    monkeypatch.setattr(attempting, "ask", asked)
    with pytest.raises(DeviceError, match="the file is measured"):
        go(run, "p99<=2s")
    monkeypatch.setattr(confirming, "ask", asked)
    assert go(run, "mean<=2s")["budget"]["state"] == "holds"  # not asked for, and there
    table["confirmed"]["record"]["timing"]["p95"] = none
    file.write_text(json.dumps(table))
    with pytest.raises(DeviceError, match="the file is measured"):
        go(run, "p95<=1s")


def test_a_teacher_at_chance_ends_it_and_is_no_students_fault(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, outcome = Artifact.open(run / "teacher"), run / "resnet14-8px-1ep/outcome-fp32.json"
    metrics = {**made.manifest["metrics"], "validation": {"top1": 0.1, "n": 30}}
    known = replace(made, manifest={**made.manifest, "metrics": metrics})
    monkeypatch.setattr(accomplishing, "teacher_for", lambda _: known)
    outcome.unlink()
    words = "the teacher resnet14 is right on 10.0% of 30 validation images.* No student was tried"
    with pytest.raises(GateError, match=words):
        go(run, HOLDS)
    assert not outcome.exists()


def test_energy_without_a_meter_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey: dict[str, Any] = {"device": {}, "packages": {}, "meters": []}
    monkeypatch.setattr(accomplishing, "scout", scouts.scout)
    monkeypatch.setattr(scouts, "look_at", lambda _: survey)
    with pytest.raises(UsageError, match="has no meter that can be read of its CPU"):
        go(tmp_path / "run", "j_per_inf<=1mJ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("budget", "images", "expected"),
    [
        ("p95<=1s", 500, ("fp32", "int8")),  # no accuracy is bounded
        ("p95<=1s", 30, ("fp32",)),  # which cannot show even so
        ("p95<=1s, top1_drop<=1%", 30, ("fp32",)),
        ("p95<=1s, top1_drop<=20%", 30, ("fp32", "int8")),
        ("p95<=1s, top1>=50%", 500, ("fp32", "int8")),  # leaves to lose what nobody knows
        ("p95<=1s, top1>=50%", 30, ("fp32",)),
    ],
)
def test_int8_is_scouted_where_it_could_be_accepted(
    budget: str, images: int, expected: tuple[str, ...], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, export=replace(RECIPE.export, precision="auto"))
    mission = Mission(Run(recipe, tmp_path / "run"), Budget.parse(budget))
    assert accomplishing.precisions_of(mission, images) == expected


REFUSED: list[tuple[list[str], str]] = [
    (["method=ce + kdd"], "there is no method 'kdd'"),
    (["train.optimizer=sdg"], "train.optimizer is 'sdg'"),
    (["teacher.name=resnet9"], "there is no model 'resnet9'"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_refused_before_the_scout(
    overrides: list[str], message: str, tmp_path: Path, asked: list[Scouting]
) -> None:
    task = Run(recipe_from(TABLE, overrides), tmp_path / "run")
    with pytest.raises(UsageError, match=message):
        accomplish(Mission(task, Budget.parse(HOLDS)))
    assert asked == []
    assert list(tmp_path.iterdir()) == []


FOREIGN = ["profile.json", "artifact/notes.txt"]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_somebody_else_left_there_stays(
    name: str, tmp_path: Path, asked: list[Scouting]
) -> None:
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UsageError, match="which no run with a budget left there"):
        go(tmp_path / "run", HOLDS)
    assert [f for f in (tmp_path / "run").rglob("*") if f.is_file()] == [file]
    owning.withdraw(Run(RECIPE, tmp_path / "run"))
    assert file.read_text() == "mine"
    assert asked == []


def test_a_refused_command_changes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another teacher than the folder's; a network that the scout does not know."""
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    recipe = recipe_from(TABLE, ["teacher.name=resnet20"])
    with pytest.raises(UsageError, match="holds a finished teacher of another recipe"):
        accomplish(Mission(Run(recipe, run), Budget.parse(HOLDS)))

    def unknown(*_: Any) -> None:
        raise UsageError("there is no space 'cifer'")

    monkeypatch.setattr(accomplishing, "scout", unknown)
    with pytest.raises(UsageError, match="cifer"):
        go(run, HOLDS, space=("cifer",))
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_another_question_takes_back_what_was_accepted_when_it_begins(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(asked: Scouting, out: Any, watch: Any) -> None:
        watch.say("2 candidates on local")
        raise DeviceError("the link is gone")

    monkeypatch.setattr(accomplishing, "scout", begun)
    heard = Heard()
    with pytest.raises(DeviceError):
        go(run, HOLDS, heard, space=("resnet8",))
    assert not (run / "artifact").exists()
    assert not (run / "profile.json").exists()
    (kept,) = run.glob("resnet14-8px-1ep")
    said = f"artifact is taken away until the present budget holds; its attempt is kept in {kept}"
    assert [line for line in heard.said if "taken away" in line] == [f"{run}/{said}"]
    assert summary_of(run)["decisions"] == ["2 candidates on local"]


def test_a_teacher_that_knows_the_validation_images_is_suspected(taught: Path) -> None:
    teacher = Artifact.open(taught / "teacher")
    assert teachers.suspicion(teacher) == ""
    metrics = {"validation": {"top1": 0.845, "n": 200}, "test": {"top1": 0.7008, "n": 10_000}}
    known = replace(teacher, manifest={**teacher.manifest, "metrics": metrics})
    assert "84.5% of the validation images and on 70.1%" in teachers.suspicion(known)
    recipe = replace(RECIPE, teacher=Network("", str(teacher.path)))
    assert teachers.taught_on_others(recipe) == ""
    other = replace(recipe, data=replace(recipe.data, limit=77))
    assert "data.limit" in teachers.taught_on_others(other)
