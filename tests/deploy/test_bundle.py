"""The deployed folder: what is in it, where it may be written, and that it can be made again."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.deploy import Measured, bundle
from edgekd.deploy.texts import labels, requirements, unit
from edgekd.errors import ArtifactError, UsageError
from edgekd.files import sha256
from edgekd.flow.deploying import deploy
from tests.cli.conftest import Command, edgekd
from tests.deploy.conftest import record

__all__ = ["edgekd"]  # fixture
Prove = Callable[..., Path]
FILES = [
    "LICENSE",
    "MODEL_CARD.md",
    "README.md",
    "SHA256SUMS",
    "config.json",
    "edgekd.service",
    "engine.py",
    "folder.py",
    "infer.py",
    "labels.txt",
    "model.onnx",
    "pictures.py",
    "requirements.txt",
]


class Heard:
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_folder(exported: Path, prove: Prove) -> None:
    prove(policy={"threads": 3, "spinning": True})
    made, measured = deploy(exported)
    assert made.path == exported.with_name("digits-onnx-deploy")
    assert sorted(made.files) == sorted(f.name for f in made.path.iterdir()) == FILES
    assert made.files["model.onnx"] == (exported / "model.onnx").stat().st_size
    runtime = json.loads((made.path / "config.json").read_text())["runtime"]
    assert measured is not None
    assert runtime == {
        "name": "onnxruntime",
        "version": measured.version,
        "provider": "CPUExecutionProvider",
        "threads": 3,
        "spinning": True,
        "affinity": [],
    }
    pinned = (made.path / "requirements.txt").read_text().splitlines()
    assert f"onnxruntime=={measured.version}" in pinned
    assert "Measured on Raspberry Pi 5 Model B: median 0.306 ms" in made.path.joinpath(
        "README.md"
    ).read_text("utf-8")
    assert len((made.path / "README.md").read_text().splitlines()) <= 12
    assert os.access(made.path / "infer.py", os.X_OK)
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=made.path, check=False)
    assert checked.returncode == 0


def test_no_name_of_the_owners_is_in_the_programs_files(exported: Path, prove: Prove) -> None:
    prove("ssh://ana@board.lan")
    made, _ = deploy(exported)
    for name in set(made.files) - {"MODEL_CARD.md"}:  # which is another part's
        content = (made.path / name).read_bytes()
        assert b"ana@" not in content, name
        assert b"board.lan" not in content, name
        assert str(exported.parent).encode() not in content, name


def test_cpus_are_pinned_only_where_that_was_asked_for(exported: Path, prove: Prove) -> None:
    found = record(exported, "pi5", policy={"affinity": [2, 3]})
    assert Measured.of(found).affinity == ()
    found["evidence"]["asked"]["affinity"] = "2-3"
    assert Measured.of(found).affinity == (2, 3)


def test_one_proof_is_taken_and_several_have_to_be_told_apart(exported: Path, prove: Prove) -> None:
    heard = Heard()
    made, measured = deploy(exported, watch=heard)
    assert measured is None
    assert made.config["runtime"]["threads"] is None
    assert "was not measured: the runtime's threads are left to it" in heard.lines[0]
    assert "not measured on a device" in (made.path / "requirements.txt").read_text()
    prove("pi4", policy={"threads": 4})
    assert deploy(exported)[0].config["runtime"]["threads"] == 4
    prove("pi5", policy={"threads": 2})
    with pytest.raises(UsageError, match=r"several devices.*--device pi4 or pi5"):
        deploy(exported)
    assert deploy(exported, device="pi5")[0].config["runtime"]["threads"] == 2
    with pytest.raises(UsageError, match="no proof for local; there is one for pi4, pi5"):
        deploy(exported, device="local")


def test_a_proof_of_other_files_is_left_out(exported: Path, prove: Prove) -> None:
    proof = prove()
    table = json.loads(proof.read_text())
    table["files"]["model.onnx"] = "0" * 64
    proof.write_text(json.dumps(table))
    (proof.parent / "broken.json").write_text("{")
    heard = Heard()
    assert deploy(exported, watch=heard)[1] is None
    assert [line.partition(":")[0] for line in heard.lines[:2]] == ["left out"] * 2
    assert "is of another model" in "".join(heard.lines)


@pytest.mark.parametrize(
    ("runtime", "engine", "said"),
    [
        ("tensorrt", None, "TensorRT built of model.onnx there, and this artifact does not hold"),
        ("onnxruntime", {"sha256": "0" * 64, "rebuilt": "another GPU"}, r"built of its .*another"),
    ],
)
def test_what_was_measured_has_to_be_what_is_deployed(
    runtime: str, engine: Any, said: str, exported: Path, prove: Prove
) -> None:
    sha = sha256(exported / "model.onnx")
    prove(runtime={"name": runtime}, artifact={"sha256": sha, "engine": engine})
    with pytest.raises(UsageError, match=said):
        deploy(exported)


@pytest.mark.parametrize("changes", [{"name": "../../x"}, {"version": "1\n--index-url evil"}])
def test_a_proof_names_a_runtime_there_is(
    changes: dict[str, str], exported: Path, prove: Prove
) -> None:
    prove(runtime=changes)
    with pytest.raises(UsageError, match=r"^the proof for pi5 is of the runtime .*deploy knows"):
        deploy(exported)


@pytest.mark.parametrize(
    ("provider", "machine"),
    [
        ("CPUExecutionProvider", "Raspberry Pi 5 Model B"),
        ("CPU (f32)", "Raspberry Pi 5 Model B"),
        ("CUDAExecutionProvider", "Orin"),
        ("TensorRT", "Orin"),
    ],
)
def test_a_gpu_is_named_only_where_it_ran_the_model(
    provider: str, machine: str, exported: Path
) -> None:
    found = record(exported, "pi5", runtime={"provider": provider})
    found["device"]["gpu"] = "Orin"
    assert Measured.of(found).machine == machine


def test_a_network_and_a_run_are_told_what_to_do(exports: dict[str, Path], exported: Path) -> None:
    network = exports["fp32"].with_name("network")
    with pytest.raises(UsageError, match=f"edgekd export {network} --onnx"):
        deploy(network)
    run = exported.parent / "run"
    shutil.copytree(exported, run / "artifact")
    with pytest.raises(UsageError, match=f"Use: edgekd deploy {run / 'artifact'}"):
        deploy(run)


def test_a_changed_artifact_is_not_deployed(exported: Path) -> None:
    with (exported / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match="was changed after it was made"):
        deploy(exported)
    assert not exported.with_name("digits-onnx-deploy").exists()


@pytest.mark.parametrize(
    ("section", "entry", "value", "said"),
    [
        (None, "labels", [], r"says 0 labels, and the model answers one .* \(1, 10\) numbers"),
        (None, "labels", ["a", "b"], "says 2 labels, and the model"),
        (None, "labels", [str(n) for n in range(12)], "says 12 labels, and the model"),
        ("input", "interpolation", "foo", "interpolation is 'foo', expected one of nearest, bil"),
        ("input", "layout", "NCHW", "'uint8 NCHW', and the model can be uint8 NHWC or float32"),
        ("input", "dtype", "float32", "'float32 NHWC', and the model can be"),
        ("input", "size", [8, 9], r"uint8\[1,8,9,3\], and the model takes images: uint8\[\?,8,8"),
        ("input", "crop_pct", 1e-9, "crop_pct is 1e-09, expected 0.01 to 100"),
    ],
)
def test_a_manifest_that_contradicts_its_model_is_not_deployed(
    section: str | None, entry: str, value: Any, said: str, exported: Path
) -> None:
    file = exported / "manifest.json"
    manifest = json.loads(file.read_text())
    (manifest[section] if section else manifest)[entry] = value
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=said):
        deploy(exported)
    assert not exported.with_name("digits-onnx-deploy").exists()


@pytest.mark.parametrize(("kind", "other"), [("fp32", "float"), ("float", "fp32")])
def test_a_manifest_of_another_export_is_not_deployed(
    kind: str, other: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    """Inputs that a deployed folder could feed, and this model does not take."""
    folder = shutil.copytree(exports[kind], tmp_path / "mixed")
    manifest, theirs = (
        json.loads((place / "manifest.json").read_text()) for place in (folder, exports[other])
    )
    manifest["input"] = theirs["input"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"pictures: .*8.*, and the model takes \w+: "):
        deploy(folder)


def test_a_proof_with_more_threads_than_a_folder_takes(exported: Path, prove: Prove) -> None:
    prove(policy={"threads": 100000})
    with pytest.raises(UsageError, match=r"does not say how the model ran .*100000 threads"):
        deploy(exported)


# ---- places ----


def test_an_earlier_deployment_is_replaced_and_nothing_else(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deploy(exported, out)
    (out / "__pycache__").mkdir()  # it was run there
    deploy(exported, out)
    assert sorted(file.name for file in out.iterdir()) == FILES
    (out / "venv").mkdir()
    with pytest.raises(UsageError, match="also holds venv, which deploying again would remove"):
        deploy(exported, out)
    (out / "venv").rmdir()
    (out / "config.json").write_text((out / "config.json").read_text() + "\n")
    with pytest.raises(UsageError, match=r"config\.json was changed since it was deployed"):
        deploy(exported, out)
    with pytest.raises(UsageError, match="not empty and no earlier deployment"):
        deploy(exported, exported)
    assert Artifact.open(exported)


@pytest.mark.parametrize(
    "name", ["a.zip", "a.ZIP", "a.tar", "taken", "taken.tar.gz", "made.tar.gz"]
)
def test_places_that_are_refused(name: str, exported: Path, tmp_path: Path) -> None:
    for taken in ("taken", "taken.tar.gz"):
        (tmp_path / taken).write_text("mine")
    (tmp_path / "made.tar.gz").mkdir()
    with pytest.raises(UsageError, match=r"--output|expected a folder"):
        deploy(exported, tmp_path / name)
    assert (tmp_path / "taken.tar.gz").read_text() == "mine"


@pytest.mark.parametrize("added", [b"mine", gzip.compress(b"mine", mtime=0)])
def test_what_was_added_behind_a_tarball_is_kept(
    added: bytes, exported: Path, tmp_path: Path
) -> None:
    place = tmp_path / "made.tar.gz"
    deploy(exported, place)
    deploy(exported, place)  # as it is, it is replaced
    with place.open("ab") as file:
        file.write(added)
    with pytest.raises(UsageError, match="no earlier deployment"):
        deploy(exported, place)
    assert place.read_bytes().endswith(added)


@pytest.mark.parametrize("name", ["...tar.gz", "..tar.gz", ".tgz", ".tar.gz", "...tgz"])
def test_names_that_would_lead_out_of_the_tarball(
    name: str, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="leaves no name for the folder in it"):
        deploy(exported, tmp_path / name)


@pytest.mark.parametrize("name", ["X.TAR.GZ", "X.Tgz"])
def test_an_ending_may_be_in_large_letters(name: str, exported: Path, tmp_path: Path) -> None:
    for _ in range(2):  # anew, and in the place of an earlier one
        made, _ = deploy(exported, tmp_path / name)
        assert tarfile.is_tarfile(made.path)
    assert made.name == "X"


def test_a_tarball_with_more_in_it_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    out, inside = tmp_path / "v.tgz", tmp_path / "unpacked"
    deploy(exported, out)

    def unpack() -> Path:
        shutil.rmtree(inside, ignore_errors=True)
        subprocess.run(["mkdir", inside], check=True)
        subprocess.run(["tar", "xzf", out, "-C", inside], check=True)
        return inside / "v"

    def pack(*names: str) -> bytes:
        subprocess.run(["tar", "czf", out, "-C", inside, *names], check=True)
        return out.read_bytes()

    unpack()
    pack("v")  # again, and as it was
    deploy(exported, out)
    (unpack() / "mydata.txt").write_text("mine")
    mine = pack("v")
    with pytest.raises(UsageError, match=r"v\.tgz also holds mydata\.txt, which deploying again"):
        deploy(exported, out)
    (inside / "v" / "mydata.txt").unlink()
    (inside / "v" / "labels.txt").write_text("mine")
    changed = pack("v")
    with pytest.raises(UsageError, match=r"labels\.txt was changed since it was deployed"):
        deploy(exported, out)
    (inside / "other").mkdir()
    (inside / "other" / "a").write_text("mine")
    beside = pack("v", "other")
    with pytest.raises(UsageError, match="no earlier deployment"):
        deploy(exported, out)
    out.write_bytes(beside[: len(beside) // 2])
    with pytest.raises(UsageError, match="no earlier deployment"):
        deploy(exported, out)
    assert len({mine, changed, beside}) == 3
    assert out.read_bytes() == beside[: len(beside) // 2]


def test_sums_that_are_no_text_are_no_deployments(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deploy(exported, out)
    (out / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not empty and no earlier deployment"):
        deploy(exported, out)
    deploy(exported, tmp_path / "again")
    (tmp_path / "again" / "labels.txt").unlink()
    (tmp_path / "again" / "labels.txt").mkdir()
    with pytest.raises(UsageError, match=r"labels\.txt was changed"):
        deploy(exported, tmp_path / "again")


@pytest.mark.parametrize("name", ["out", "out.tgz"])
def test_a_link_stays_one(name: str, exported: Path, tmp_path: Path) -> None:
    link, real = tmp_path / name, tmp_path / "disk" / name
    real.parent.mkdir()
    link.symlink_to(real)
    for _ in range(2):  # where nothing is yet, and where it is
        made, _ = deploy(exported, link)
        assert link.is_symlink()
        assert made.path == real
        assert real.exists()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UsageError, match="--output"):
        deploy(exported, loop)


def test_from_within_the_artifacts_folder(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    beside = exported.with_name("digits-onnx-deploy")
    assert deploy(Path())[0].path == beside
    (exported / "proof").mkdir()
    assert deploy(Path("proof/.."))[0].path == beside
    monkeypatch.chdir(beside)
    with pytest.raises(UsageError, match="would be replaced while you are in it"):
        deploy(exported, Path())
    with pytest.raises(UsageError, match="would be replaced while you are in it"):
        deploy(exported, beside)


def test_a_tarball_is_the_same_each_time(exported: Path, prove: Prove, tmp_path: Path) -> None:
    prove()
    made, _ = deploy(exported, tmp_path / "a" / "digits.tar.gz")
    for file in exported.rglob("*"):
        os.utime(file, (1, 1))
    again, _ = deploy(exported, tmp_path / "b" / "digits.tar.gz")
    assert sha256(made.path) == sha256(again.path)
    with tarfile.open(made.path) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == [f"digits/{name}" for name in FILES]
    assert {(e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, "", "")}
    assert {oct(e.mode) for e in entries} == {"0o644", "0o755"}
    head = made.path.read_bytes()[:8]
    assert (head[3], head[4:]) == (0, bytes(4))  # no name of a file, no time
    deploy(exported, made.path)  # an earlier one may be replaced
    folder, _ = deploy(exported, tmp_path / "folder")
    assert folder.files == made.files
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "digits-onnx", "folder"]


# ---- texts ----


def test_labels_stay_one_a_line() -> None:
    given = ["cat", "two\nlines", "tab\there", "\x1b[31mred", "größe", "", "a\u202eb\ud800"]
    text = labels({"labels": given})
    assert text.split("\n")[:-1] == ["cat", "two lines", "tab here", " [31mred", "größe", "", "ab"]


@pytest.mark.parametrize(
    ("name", "provider", "expected"),
    [
        ("onnxruntime", "CPUExecutionProvider", "onnxruntime==1.19.2"),
        ("onnxruntime", "CUDAExecutionProvider", "onnxruntime-gpu==1.19.2"),
        ("openvino", "CPU (f32)", "openvino==1.19.2"),
        ("tensorrt", "TensorRT", "# tensorrt==1.19.2"),
    ],
)
def test_requirements(name: str, provider: str, expected: str) -> None:
    runtime = {"name": name, "version": "1.19.2", "provider": provider}
    assert expected in requirements(runtime, None).splitlines()
    closed = "DevicePolicy=closed" in unit(runtime)
    assert closed == ("CPU" in provider)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "TensorRT"])
def test_systemd_reads_the_unit(provider: str, tmp_path: Path) -> None:
    """Verified with a Python that is there, as the folder's own is made on the device."""
    text = unit({"provider": provider})
    for entry in ("NoNewPrivileges=yes", "DynamicUser=yes", "ProtectSystem=strict"):
        assert entry in text
    file = tmp_path / "edgekd.service"
    file.write_text(text.replace("/opt/%N/venv/bin/python", "/bin/sh"))
    command = ["systemd-analyze", "verify", "--man=no", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if file.name in line]) == (
        0,
        [],
    )


# ---- the verb ----


def test_the_verb(edgekd: Command, exported: Path, prove: Prove, tmp_path: Path) -> None:
    prove()
    answer = edgekd("deploy", exported)
    assert answer.code == 0, answer.err
    place = exported.with_name("digits-onnx-deploy")
    assert "Runs as it was measured: median 0.306 ms" in answer.out
    assert f"Try it: python3 {place}/infer.py PICTURE_OR_FOLDER --top 3" in answer.out
    answer = edgekd("deploy", exported, "-o", tmp_path / "x.tgz", "--json")
    found = json.loads(answer.out)
    assert (found["path"], sorted(found["files"])) == (str(tmp_path / "x.tgz"), FILES)
    assert found["measured"]["runtime"] == "onnxruntime"
    spaced, program = tmp_path / "my $HOME", tmp_path / "my $HOME" / "infer.py"
    said = edgekd("deploy", exported, "-o", spaced).out
    assert f"Try it: python3 '{program}' PICTURE_OR_FOLDER" in said
    said = edgekd("deploy", exported, "-o", tmp_path / "a b.tgz").out
    assert f"tar xzf '{tmp_path}/a b.tgz' && python3 'a b/infer.py' PICTURE" in said
    assert edgekd("deploy", exported, "-o", tmp_path / "x.zip").code == 2
    assert edgekd("deploy", tmp_path).code == 2


def test_the_card_is_what_is_given(exported: Path, tmp_path: Path) -> None:
    made = bundle(Artifact.open(exported), "# Größe\n", tmp_path / "out")
    assert (made.path / "MODEL_CARD.md").read_text("utf-8") == "# Größe\n"
