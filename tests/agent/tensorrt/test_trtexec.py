"""Builds by trtexec, with a stand-in that takes and refuses what each release does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import inspector, trtexec
from edgekd.agent.tensorrt.spec import Batch, BuildSpec
from edgekd.agent.tensorrt.trtexec_log import verdict_of

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"
TABLE = json.loads((SAMPLES / "options.json").read_text("utf-8"))
RELEASES = tuple(TABLE["releases"])
SPEC = BuildSpec(Path("/m/model.onnx"), "fp16", {"images": (224, 224, 3)}, Batch(1, 8, 32))

Install = Callable[..., str]


def sample(name: str) -> str:
    return (SAMPLES / name).read_text("utf-8")


def numbers(release: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, release.split("."))
    return major, minor, patch


def listed(release: str) -> frozenset[str]:
    """The options the help of a release would be read to have."""
    row = TABLE["releases"][release]
    return frozenset(row["options"]) - frozenset(row["no_op"])


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    return replace(SPEC, onnx=tmp_path / "model.onnx")


def build_error(spec: BuildSpec, program: str, folder: Path, **more: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        trtexec.build(spec, program, folder, **more)
    return caught.value


def test_it_is_found_on_the_path_before_the_folders_of_nvidia(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("path", "usr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trtexec").touch(mode=0o755)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(trtexec, "FOLDERS", (str(tmp_path / "empty"), str(tmp_path / "usr")))
    both = os.pathsep.join((str(tmp_path / "empty"), str(tmp_path / "path")))
    assert trtexec.find(both) == str(tmp_path / "path" / "trtexec")
    assert trtexec.find(str(tmp_path / "empty")) == str(tmp_path / "usr" / "trtexec")
    assert trtexec.find("") == str(tmp_path / "usr" / "trtexec")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert trtexec.find() == str(tmp_path / "path" / "trtexec")
    monkeypatch.chdir(tmp_path)
    assert trtexec.find("path") == str(tmp_path / "path" / "trtexec")  # builds change the folder
    monkeypatch.setattr(trtexec, "FOLDERS", ())
    assert trtexec.find(str(tmp_path / "empty")) is None


def test_nvidias_folders_are_the_known_ones() -> None:
    assert trtexec.FOLDERS == ("/usr/src/tensorrt/bin", "/opt/tensorrt/bin")


@pytest.mark.parametrize("release", RELEASES)
def test_the_help_tells_version_and_options(release: str, install: Install) -> None:
    version, options = trtexec.ask(install(release))
    assert version == numbers(release)
    assert options == listed(release)  # not what a description mentions, nor what does nothing


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="does not start") as caught:
        trtexec.ask(str(tmp_path / "trtexec"))
    assert caught.value.kind == "library"


def test_a_help_that_never_comes() -> None:
    def hangs(*arguments: Any, **more: Any) -> subprocess.CompletedProcess[bytes]:
        assert more["stdin"] == subprocess.DEVNULL
        raise subprocess.TimeoutExpired("trtexec", more["timeout"])

    with pytest.raises(AgentError, match="timed out after 120"):
        trtexec.ask("trtexec", hangs)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("timed", [False, True])
def test_a_build(
    release: str, timed: bool, install: Install, spec: BuildSpec, tmp_path: Path
) -> None:
    cached = replace(spec, timing_cache=tmp_path / "cache")
    built = trtexec.build(
        cached, install(release), tmp_path / "out", timed=timed, gpu="Orin (nvgpu)"
    )
    assert built.engine.read_bytes() == b"planonnx"
    assert inspector.inspect(built.layers).label == "fp16"
    assert built.version == numbers(release)
    assert built.typed == (release not in ("8.5.2", "8.6.1"))
    assert 0 < built.seconds < 60
    assert built.log.read_text().startswith("&&&& RUNNING")
    given, stdin = json.loads((tmp_path / "out" / "given.json").read_text())
    assert stdin == ""
    assert given == dict(one.partition("=")[::2] for one in built.command[1:])
    assert built.timing_cache == "new"
    (cache,) = (tmp_path / "cache").iterdir()
    assert cache.name == f"orin-nvgpu-tensorrt-{release}-trtexec.cache"
    if not timed:
        assert built.measured is None
        return
    assert built.measured is not None
    assert built.measured.summary.milliseconds["compute"]["median"] == 7.14139
    assert built.measured.times["computeMs"] == [5.35, 7.1, 7.24]
    assert built.measured.profile.count == 100
    assert any("unstable" in warning for warning in built.warnings)


def test_a_build_without_a_help_to_read(install: Install, spec: BuildSpec, tmp_path: Path) -> None:
    for release in RELEASES:
        program = install(release, help=False)
        assert trtexec.ask(program) == (numbers(release), frozenset())
        assert trtexec.build(spec, program, tmp_path / "out").engine.exists()


@pytest.mark.parametrize("release", RELEASES)
def test_the_stand_in_refuses_what_its_release_lacks(release: str, install: Install) -> None:
    wrong = "--skipInference" if release == "8.5.2" else "--workspace=1"
    done = subprocess.run([install(release), wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        verdict_of(done.stdout + done.stderr).errors[0].startswith("Unknown option: " + wrong[:9])
    )


@pytest.mark.parametrize(
    ("scene", "kind", "says"),
    [
        ("operator-8.0.log", "model", r"operator of the graph.*lower --opset.*plugin: Round"),
        ("node-10.16.log", "model", r"cannot read the graph.*broadcast dimensions"),
        ("workspace-8.5.log", "memory", r"workspace_mib.*Could not find any implementation"),
        ("dla-8.5.log", "provider", r"no such DLA.*Cannot create DLA engine, 0"),
        ("no engine", "output", "PASSED and wrote no model.plan"),
        ("no layers", "output", "PASSED and wrote no layers.json"),
        ("killed", "memory", r"trtexec with model.onnx was killed \(SIGKILL\)"),
    ],
)
def test_builds_that_fail(
    scene: str, kind: str, says: str, install: Install, spec: BuildSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for stale in ("model.plan", "layers.json"):
        (out / stale).write_text("{}")  # of an earlier build: it must not pass for this one's
    error = build_error(spec, install("8.6.1", scene), out)
    assert error.kind == kind
    assert not (out / "model.plan").exists() or scene == "no layers"
    assert (out / "trtexec.log").read_text().startswith("&&&& RUNNING")
    with pytest.raises(AgentError, match=says):
        raise error


def test_a_file_that_is_not_there(install: Install, spec: BuildSpec, tmp_path: Path) -> None:
    spec.onnx.unlink()
    error = build_error(spec, install("10.3.0"), tmp_path / "out")
    assert error.kind == "model"
    assert "TensorRT 10.3.0 cannot build model.onnx in fp16. The ONNX file is not there" in str(
        error
    )


def test_a_folder_that_cannot_be_made(install: Install, spec: BuildSpec, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    error = build_error(spec, install("10.3.0"), tmp_path / "out")
    assert error.kind == "output"
    assert "out cannot be written to" in str(error)


def test_a_timing_cache_without_a_place_is_left_out(
    install: Install, spec: BuildSpec, tmp_path: Path
) -> None:
    (tmp_path / "cache").touch()
    cached = replace(spec, timing_cache=tmp_path / "cache")
    built = trtexec.build(cached, install("10.3.0"), tmp_path / "out")
    assert not any("--timingCacheFile" in argument for argument in built.command)


def test_sizes_that_trtexec_made_up(install: Install, spec: BuildSpec, tmp_path: Path) -> None:
    error = build_error(replace(spec, inputs={}), install("10.3.0"), tmp_path / "out")
    assert error.kind == "input"
    assert "input images free" in str(error)


@pytest.mark.parametrize(("ending", "code"), [("PASSED", 1), ("FAILED", 0), ("nothing", 0)])
def test_exit_code_and_verdict_must_both_be_good(
    ending: str, code: int, spec: BuildSpec, tmp_path: Path
) -> None:
    text = sample("passed-10.3.log").replace("&&&& PASSED", f"&&&& {ending}").encode()

    def run(argv: list[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        if "--help" in argv:
            return subprocess.CompletedProcess(argv, 0, text)
        (Path(more["cwd"]) / "model.plan").write_bytes(b"plan")
        (Path(more["cwd"]) / "layers.json").write_text(sample("layers-8.6.json"))
        more["stdout"].write(text)
        return subprocess.CompletedProcess(argv, code)

    error = build_error(spec, "trtexec", tmp_path / "out", run=run)
    assert error.kind == "model"
    assert str(tmp_path / "out" / "trtexec.log") in str(error)


def test_a_build_that_takes_too_long(install: Install, spec: BuildSpec, tmp_path: Path) -> None:
    program, out = install("10.3.0", "sleeps"), tmp_path / "out"
    error = build_error(spec, program, out, timeout_s=0.5)
    assert "did not finish within 0 s" in str(error) or "within 1 s" in str(error)
    with pytest.raises(ProcessLookupError):
        os.kill(int((out / "pid").read_text()), 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends it by a signal")
def test_trtexec_does_not_outlive_the_agent(
    install: Install, spec: BuildSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path\n"
        "from edgekd.agent.tensorrt import trtexec\n"
        "from edgekd.agent.tensorrt.spec import BuildSpec\n"
        "program, onnx, out = sys.argv[1:]\n"
        "spec = BuildSpec(Path(onnx), 'fp16', {'images': (8, 8, 3)})\n"
        "trtexec.build(spec, program, Path(out))\n"
    )
    arguments = [install("10.3.0", "sleeps"), str(spec.onnx), str(out)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as agent:
        wait_for(lambda: (out / "pid").exists() and bool((out / "pid").read_text()))
        agent.send_signal(signal.SIGKILL)
    status = Path("/proc") / (out / "pid").read_text() / "stat"
    wait_for(lambda: not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
