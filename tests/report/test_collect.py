"""What is found in a run folder, and what is said about one that cannot be reported."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

import edgekd
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import sha256
from edgekd.report import collect, write
from edgekd.structure import mismatch, schema_of

MakeRun = Callable[..., Path]


def test_the_runs_of_these_tests_have_the_shape_that_profile_writes(run_folder: Path) -> None:
    schema = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text("utf-8"))
    for record in json.loads((run_folder / "profile.json").read_text("utf-8")):
        jsonschema.validate(record, schema)


def test_a_run_is_found_whole(run_folder: Path) -> None:
    view = collect(run_folder)
    assert [(a.role, a.kind) for a in view.artifacts] == [
        (role, kind) for role in ("teacher", "baseline", "student") for kind in ("network", "onnx")
    ]
    assert len(view.records) == 3
    assert len(view.comparisons) == 1
    assert [training.name for training in view.trainings] == ["teacher", "baseline", "student"]
    assert view.run["gain"]["baseline_epochs"] == 53
    assert 'name = "resnet56"' in view.recipe


def test_each_measurement_becomes_one_line(run_folder: Path) -> None:
    view = collect(run_folder)
    assert [line.role for line in view.results] == ["teacher", "baseline", "student"]
    student = view.result("student")
    assert student
    assert (student.network, student.precision, student.parameters) == ("resnet8", "fp32", 78_042)
    assert student.size_bytes == (run_folder / "student-onnx" / "model.onnx").stat().st_size
    assert student.accuracy
    assert (student.accuracy.value, student.accuracy.n) == (0.9556, 360)
    assert student.accuracy.lo == pytest.approx(0.9291, abs=1e-3)
    assert student.accuracy.hi == pytest.approx(0.9725, abs=1e-3)
    assert student.median
    assert student.median.value == 0.2119
    assert student.latency["p99"].value is None
    assert student.latency["p99"].reason == "312 runs, need 459"
    assert student.device == "Intel Core i5-8265U"


def test_without_a_measurement_the_test_split_speaks(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "profile.json").unlink()
    student = collect(folder).result("student")
    assert student
    assert student.accuracy
    assert student.accuracy.source == "test"
    assert student.median is None


def test_curves_end_at_the_last_epoch(run_folder: Path) -> None:
    student = collect(run_folder).trainings[-1]
    assert len(student.epochs) == 30
    assert [student.epochs[0].epoch, student.epochs[-1].epoch] == [1.0, 30.0]
    assert student.losses[-1].epoch == 30.0
    assert set(student.losses[0].losses) == {"ce", "kd"}


def test_epochs_counted_from_zero_and_lines_written_twice(tmp_path: Path) -> None:
    lines = [
        {"step": 5, "epoch": 0, "losses": {"ce": 2.0}},
        {"epoch": 0, "step": 10, "validation": {"top1": 0.5, "n": 10}},
        {"step": 15, "epoch": 1, "losses": {"ce": 9.0}},
        {"step": 15, "epoch": 1, "losses": {"ce": 1.0}},  # again, after a resume
        {"epoch": 1, "step": 20, "validation": {"top1": 0.75, "n": 10}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 25, "los'
    (tmp_path / "metrics.jsonl").write_text(text, "utf-8")
    (training,) = collect(tmp_path).trainings
    assert [(p.epoch, p.losses["ce"]) for p in training.losses] == [(0.5, 2.0), (1.5, 1.0)]
    assert [(p.epoch, p.validation["top1"]) for p in training.epochs] == [(1.0, 0.5), (2.0, 0.75)]


def test_a_diverged_training_is_reported(tmp_path: Path) -> None:
    lines = '{"step": 1, "epoch": 1, "losses": {"ce": 2.0}}\n'
    lines += '{"step": 2, "epoch": 1, "losses": {"ce": NaN}}\n'
    (tmp_path / "metrics.jsonl").write_text(lines, "utf-8")
    written = write(tmp_path)
    content = json.loads(written["json"].read_text("utf-8"))
    assert content["trainings"][0]["losses"] == [
        {"epoch": 1.0, "losses": {"ce": 2.0}},
        {"epoch": 1.0, "losses": {}},
    ]


@pytest.mark.parametrize(
    "kept", ["teacher", "student-onnx", "profile.json", "run.json", "student/training"]
)
def test_any_part_alone_makes_a_report(run_folder: Path, tmp_path: Path, kept: str) -> None:
    target = tmp_path / "run" / kept
    target.parent.mkdir(parents=True)
    source = run_folder / kept
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    written = write(tmp_path / "run")
    assert all(path.stat().st_size > 40 for path in written.values())


def test_an_artifact_itself_is_reported(run_folder: Path, tmp_path: Path) -> None:
    view = collect(run_folder / "student")
    assert [artifact.path for artifact in view.artifacts] == ["."]
    write(run_folder / "student", tmp_path)


def test_a_plain_model_without_an_artifact_has_a_line(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "profile.json", tmp_path)
    assert [line.network for line in collect(tmp_path).results] == ["model"] * 3


def test_a_measurement_finds_its_network_by_the_manifest_too(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    records[0]["artifact"]["sha256"] = sha256(folder / "teacher-onnx" / "manifest.json")
    (folder / "profile.json").write_text(json.dumps(records), "utf-8")
    assert [line.role for line in collect(folder).results] == ["teacher", "baseline", "student"]


def test_a_copy_and_a_draft_add_nothing(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    shutil.copytree(folder / "student", folder / "student copy")
    shutil.copytree(folder / "student", folder / ".student.x1")
    assert len(collect(folder).artifacts) == 6


def test_a_model_may_be_left_out_and_not_be_another_one(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    model = folder / "student-onnx" / "model.onnx"
    model.unlink()
    assert len(collect(folder).artifacts) == 6
    model.write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"model\.onnx was changed after it was made"):
        collect(folder)


def test_a_rejected_file_is_named(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "student-onnx" / "model.onnx.rejected").write_bytes(b"x")
    assert collect(folder).rejected == ("student-onnx/model.onnx.rejected",)
    written = write(folder)
    assert "student-onnx/model.onnx.rejected" in written["html"].read_text("utf-8")
    assert "Rejected" in written["markdown"].read_text("utf-8")


def test_nothing_to_report_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", "utf-8")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match=r"found notes\.txt, photos/\. Expected artifacts"):
        collect(tmp_path)
    with pytest.raises(UsageError, match="it is empty"):
        collect(tmp_path / "photos")
    with pytest.raises(UsageError, match="is not a folder"):
        collect(tmp_path / "notes.txt")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["notes.txt", "photos"]


@pytest.mark.parametrize("name", ["profile.json", "run.json", "compare.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '"x"', "\x00", "{}", "null", "0", "[{}]"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(UsageError, match=rf"{name} (is not|is an empty|holds null)"):
        collect(tmp_path)


@pytest.mark.parametrize(
    "name", ["student/manifest.json", "run.json", "profile.json", "metrics.jsonl", "recipe.toml"]
)
@pytest.mark.parametrize(
    ("put", "found"),
    [
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a device or a pipe"),
        (
            lambda place: place.symlink_to(place),
            "cannot be read: Too many levels of symbolic links",
        ),
        (lambda place: place.symlink_to("nowhere"), "cannot be read: No such file"),
    ],
)
def test_what_has_the_name_of_a_file_is_not_overlooked(
    run_folder: Path, tmp_path: Path, name: str, put: Callable[[Path], None], found: str
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    put(folder / name)
    with pytest.raises(UsageError, match=rf"{name} {found}.* Expected a plain file.* Move it away"):
        collect(folder)


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "manifest.json").write_text('{"schema_version": 99}', "utf-8")
    with pytest.raises(ArtifactError, match="schema 99"):
        collect(tmp_path)


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [None], True])
def test_values_of_the_wrong_kind_are_left_out(
    run_folder: Path, tmp_path: Path, value: object
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    sections = ("artifact", "device", "runtime", "policy", "timing", "memory", "accuracy")
    strange = [records[0] | {section: value} for section in (*sections, "verdict", "evidence")]
    strange.append({"comparison": value})
    (folder / "profile.json").write_text(json.dumps(strange), "utf-8")
    run = {"gain": value, "decisions": value, "seconds": value, "command": value}
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
    file = folder / "student" / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    for section in ("model", "metrics", "labels", "training", "parent", "export"):
        changed = manifest | {section: value}
        file.write_text(json.dumps(changed), "utf-8")
        if wrong := mismatch(changed, schema_of("manifest")):
            with pytest.raises(ArtifactError, match=re.escape(wrong)):
                write(folder)
        else:
            write(folder)


def test_measurements_of_any_name_are_found_once(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    known = json.loads((folder / "profile.json").read_text("utf-8"))
    here = json.loads(json.dumps(known[0]))
    here["device"]["profile"] = "here"
    (folder / "here.json").write_text(json.dumps([here, known[-1]]), "utf-8")
    (folder / "again.json").write_text(json.dumps([here]), "utf-8")
    (folder / "alone.json").write_text(json.dumps(known[1]), "utf-8")
    view = collect(folder)
    assert [record["device"]["profile"] for record in view.records] == ["local"] * 3 + ["here"]
    assert len(view.comparisons) == 1
    (folder / "profile.json").unlink()
    assert len(collect(folder).records) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"7",
        b"[]",
        b"null",
        b'[{"schema_version": 1, "timing": {}}]',
        b'{"timing": {}, "artifact": {}}',
        b'[{"schema_version": 1, "comparison": {}}, 7]',
        b'{"schema_version": true, "failure": {}}',
    ],
)
def test_files_of_others_are_left_alone(run_folder: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copy(run_folder / "profile.json", tmp_path)
    (tmp_path / "odd.json").write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    view = collect(tmp_path)
    assert (len(view.records), len(view.comparisons), len(view.failures)) == (3, 1, 0)


def test_another_program_s_manifest_is_left_alone(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "web").mkdir()
    (folder / "web" / "manifest.json").write_text('{"name": "my web app"}', "utf-8")
    assert collect(folder).artifacts == collect(run_folder).artifacts
    with pytest.raises(UsageError, match=r"holds nothing to report: found manifest\.json"):
        collect(folder / "web")


def test_a_measurement_that_was_cut_off_is_named(run_folder: Path, tmp_path: Path) -> None:
    whole = (run_folder / "profile.json").read_bytes()
    (tmp_path / "pi4.json").write_bytes(whole)
    (tmp_path / "pi5.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"pi5\.json is not valid JSON: .* Move it away, or run"):
        collect(tmp_path)


def test_measurements_alone_are_a_report_and_reports_are_none(
    run_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(run_folder / "profile.json", tmp_path / "pi5.json")
    for _ in range(2):  # the second time beside its own report.json
        write(tmp_path)
        assert len(collect(tmp_path).records) == 3
