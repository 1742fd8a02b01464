"""infer.py as a device engineer starts it: alone, by a Python that has no edgekd."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from edgekd.agent.feeds import ImageInput, Normalise, to_input
from edgekd.artifact import Artifact, create, read_manifest
from edgekd.deploy import bundle
from edgekd.deploy.bundle import PAYLOAD
from edgekd.flow.deploying import deploy
from tests.edge_env import Edge, edge, edge_python
from tests.sshd import needs_sshd

__all__ = ["edge", "edge_python"]  # fixtures
FAKE = runpy.run_path(str(Path(__file__).parents[1] / "agent" / "fake_tensorrt.py"))
LABELS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of digits as .ppm in the network's size, one .npy of them, and one that is larger.

    Numpy reads all of them, so that a device without Pillow can.
    """
    from edgekd.loading import open_splits
    from edgekd.loading.decode import pixels_of
    from edgekd.preprocess import Preprocess
    from edgekd.recipe import Data

    folder, split = tmp_path_factory.mktemp("digits"), open_splits(Data(size=8)).test
    how = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    pixels = np.stack([pixels_of(split, index, how) for index in range(24)])
    for index in range(8):
        Image.fromarray(pixels[index]).save(folder / f"a{index}.ppm")
    np.save(folder / "b.npy", pixels[8:])
    Image.fromarray(pixels[0]).resize((21, 13)).save(folder / "c.ppm")
    return folder


def expected(artifact: Path, folder: Path) -> Any:
    """Logits (N, K) as edgekd computes them: its decoding, its input, its runtime."""
    from edgekd.agent.runtimes import load
    from edgekd.loading.decode import fit
    from edgekd.preprocess import Preprocess

    section = read_manifest(artifact)["input"]
    how = Preprocess.from_dict(section)
    files = [*sorted(folder.glob("a*.ppm")), folder / "c.ppm"]
    *small, large = (np.asarray(fit(Image.open(file), how)) for file in files)
    pixels = np.stack([*small, *np.load(folder / "b.npy"), large])
    last = section["layout"] == "NHWC"
    session = load("ort").open(artifact / "model.onnx", {"threads": 1})
    taken = ImageInput(session.inputs[0].name, section["dtype"], last, None, 8, 8)
    normalise = Normalise.from_table(section)
    rows = [session.run({taken.name: to_input(one[None], taken, normalise)}) for one in pixels]
    return np.concatenate([next(iter(row.values())) for row in rows])


def infer(
    python: Path | str, folder: Path, *arguments: Path | str, **env: str
) -> subprocess.CompletedProcess[str]:
    """By a Python that sees nothing of this one's folder."""
    command = [str(python), str(folder / "infer.py"), *map(str, arguments)]
    alone = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    alone |= {"XDG_CACHE_HOME": str(folder.with_name("cache")), **env}
    return subprocess.run(command, capture_output=True, text=True, env=alone, check=False)


def rows(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def shares(logits: Any) -> Any:
    powers = np.exp(np.float64(logits) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


WHOLE = "Copy the folder again, or see what is not as it was made: sha256sum -c SHA256SUMS\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.txt", b"", "model.onnx answers (1, 10), and labels.txt has 0 labels"),
        ("labels.txt", b"a\nb\n", "model.onnx answers (1, 10), and labels.txt has 2 labels"),
        ("labels.txt", b"\xff\n", "labels.txt is no text in UTF-8 ("),
        ("labels.txt", None, "labels.txt is missing: this folder is not whole"),
        ("config.json", b"{", "config.json is no JSON ("),
        ("config.json", b"\xff", "config.json is no text in UTF-8 ("),
        ("config.json", b"[]", "config.json is no settings of edgekd deploy's"),
        ("config.json", b"{}", "config.json is no settings of edgekd deploy's"),
        ("config.json", None, "config.json is missing: this folder is not whole"),
        ("model.onnx", b"none", "model.onnx cannot be used ("),
        ("model.onnx", None, "model.onnx is missing: this folder is not whole"),
        ("engine.py", b"", "engine.py cannot be used ("),
        ("engine.py", None, "engine.py is missing: this folder is not whole"),
    ],
)
def test_a_folder_that_was_changed_is_told_in_a_line(
    name: str,
    content: bytes | None,
    said: str,
    exports: dict[str, Path],
    digits: Path,
    tmp_path: Path,
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    (made.path / name).unlink()
    if content is not None:
        (made.path / name).write_bytes(content)
    done = infer(sys.executable, made.path, digits)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"infer.py: {said}")
    assert done.stderr.endswith(f". {WHOLE}")


@pytest.mark.parametrize("name", ["pictures.py", "folder.py"])
@pytest.mark.parametrize("content", [None, b"", b"def f(", b"f", bytes(9)])
def test_a_program_that_is_not_there_or_not_whole_is_named(
    name: str, content: bytes | None, exports: dict[str, Path], tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    (made.path / name).unlink()
    if content is not None:
        (made.path / name).write_bytes(content)
    done = infer(sys.executable, made.path, "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"infer\.py: this folder is not whole: ({name}|folder\.py or pictures\.py) is missing or "
        r"damaged\. Copy it again\.\n",
        done.stderr,
    )


def test_without_numpy_it_says_what_to_install(exports: dict[str, Path], tmp_path: Path) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    code = "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
    (tmp_path / "numpy.py").write_text(code)
    done = infer(sys.executable, made.path, "x", PYTHONPATH=str(tmp_path))
    said = "No module named 'numpy': python3 -m pip install -r requirements.txt\n"
    assert (done.returncode, done.stderr) == (1, said)
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")  # as a library may by itself
    done = infer(sys.executable, made.path, "x", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_ends_it_at_once_and_without_a_word(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    """While numpy is imported, which takes a KeyboardInterrupt for a fault of its own."""
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    code = "import os\ntry:\n    os.kill(os.getpid(), 2)\nexcept KeyboardInterrupt:\n    1 / 0"
    (tmp_path / "numpy.py").write_text(code)
    done = infer(sys.executable, made.path, "x", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_it_finds_what_lies_beside_it_in_isolated_mode_too(
    exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    command = [sys.executable, "-I", str(made.path / "infer.py"), str(digits / "a0.ppm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_no_fault_of_the_folder(
    exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    command = [sys.executable, str(made.path / "infer.py"), str(digits)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "the standard output cannot be written (No space left on device).\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_settings_of_another_edgekd(exports: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    made, _ = deploy(exports["float"], tmp_path / "out")
    config = made.path / "config.json"
    settings = json.loads(config.read_text())
    for change, said in (
        ({"schema_version": 2}, "has schema_version 2; expected 1, as this infer.py reads it"),
        ({"input": settings["input"] | {"std": [1]}}, "has input.std [1]; expected three numbers"),
        ({"runtime": {}}, "has no runtime.name; expected one of onnxruntime"),
    ):
        config.write_text(json.dumps(settings | change))
        done = infer(sys.executable, made.path, digits)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"infer.py: config.json {said}")


def test_where_nobody_would_see_an_answer_there_is_none(
    exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    program = ["sh", "-c", '"$@" >&-', "sh", sys.executable, str(made.path / "infer.py")]
    done = subprocess.run([*program, str(digits)], capture_output=True, text=True, check=False)
    said = "the standard output is closed: nobody would see an answer.\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_an_empty_name_is_no_folder(exports: dict[str, Path], tmp_path: Path) -> None:
    """As of a variable that is not set; it is not the current folder."""
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    done = infer(sys.executable, made.path, "")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("--top is 1 or more\n")


def test_an_answer_that_is_no_number_is_none(
    exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    model = onnx.load(made.path / "model.onnx")
    (bias,) = (one for one in model.graph.initializer if list(one.dims) == [10])
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model, made.path / "model.onnx")
    for json_too in ([], ["--json"]):
        done = infer(sys.executable, made.path, digits / "a0.ppm", digits / "a1.ppm", *json_too)
        assert (done.returncode, done.stdout) == (1, "")
        first, second = done.stderr.splitlines()
        assert first.startswith(f"{digits / 'a0.ppm'}: the model answers nan, no number")
        assert "a1.ppm" in second


@pytest.mark.parametrize("kind", ["fp32", "int8", "fp16", "float"])
def test_it_answers_as_edgekd_with_numpy_and_the_runtime_alone(
    kind: str, exports: dict[str, Path], digits: Path, edge_python: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports[kind], tmp_path / "out")
    done = infer(edge_python, made.path, digits, "--json", "--top", "10")
    assert (done.returncode, done.stderr) == (0, "")
    found, logits = rows(done.stdout), expected(exports[kind], digits)
    assert [Path(row["image"]).name for row in found[:9]] == [
        *(f"a{index}.ppm" for index in range(8)),
        "b.npy[0]",
    ]
    assert len(found) == len(logits) == 25
    for row, exact in zip(found, shares(logits), strict=True):
        order = [one["index"] for one in row["classes"]]
        assert order == list(np.argsort(-exact, kind="stable"))
        assert [one["label"] for one in row["classes"]] == [LABELS[i] for i in order]
        assert [one["probability"] for one in row["classes"]] == list(exact[order])  # to the bit
    stayed = {file.name for file in made.path.iterdir()} - {"__pycache__"}
    assert stayed == set(made.files)
    (graph,) = (tmp_path / "cache" / "edgekd" / "sessions").glob("*.onnx")
    written = graph.stat().st_mtime_ns
    again = infer(edge_python, made.path, digits, "--json", "--top", "10")  # by that graph
    assert [row["classes"] for row in rows(again.stdout)] == [row["classes"] for row in found]
    assert graph.stat().st_mtime_ns == written


@needs_sshd
def test_a_tarball_works_on_a_device(
    edge: Edge, exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["int8"], tmp_path / "digits.tar.gz")
    ssh = ["ssh", "-o", "BatchMode=yes", "edge"]
    pictures = tmp_path / "pictures.tar.gz"
    subprocess.run(["tar", "czf", pictures, "-C", digits.parent, digits.name], check=True)
    for tarball in (made.path, pictures):
        with tarball.open("rb") as file:
            subprocess.run([*ssh, "tar", "xzf", "-"], stdin=file, check=True)
    command = [*ssh, str(edge.python), "digits/infer.py", digits.name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [row["classes"][0]["index"] for row in rows(done.stdout)]
    assert found == list(expected(exports["int8"], digits).argmax(-1))


def test_what_a_person_sees(exports: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    done = infer(sys.executable, made.path, digits / "a0.ppm", "--top", "2")
    name, *words = done.stdout.rstrip("\n").split("\t")
    assert (done.returncode, name, len(words)) == (0, str(digits / "a0.ppm"), 4)
    assert words[0] in LABELS
    assert float(words[1]) >= float(words[3])


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(
    exports: dict[str, Path], digits: Path, edge_python: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    np.save(tmp_path / "large.npy", np.zeros((2, 9, 9, 3), np.uint8))
    names = ["empty", "none.ppm", "a.jpg", "large.npy"]
    asked = [*(tmp_path / name for name in names), digits / "a0.ppm"]
    done = infer(edge_python, made.path, *asked)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    empty, missing, jpeg, large = done.stderr.splitlines()
    assert large == f"{tmp_path / 'large.npy'}: pictures of 9x9; the model takes 8x8."
    assert "empty: no pictures in it" in empty
    assert "none.ppm: there is no such file or folder; expected a picture (.bmp .gif" in missing
    assert "a.jpg: Pillow is needed for all but .ppm and .npy files" in jpeg
    for wrong in ("", f"{digits} --top 0", f"{digits} --camera 0"):
        assert infer(edge_python, made.path, *wrong.split()).returncode == 2
    assert "OpenCV is needed" in infer(edge_python, made.path, "--camera", "0").stderr


def test_odd_names_are_one_line_and_end_nothing(
    exports: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    folder, picture = tmp_path / "odd", (digits / "a0.ppm").read_bytes()
    folder.mkdir()
    for name in (b"a\xff.ppm", "b größe.ppm".encode(), b"c new\nline\ttab.ppm"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(folder) + b"/d\xff\x1b[2J.png")).write_bytes(b"none")
    done = infer(sys.executable, made.path, folder, LC_ALL="C.UTF-8")
    names = [Path(line.split("\t")[0]).name for line in done.stdout.splitlines()]
    assert names == [r"a\udcff.ppm", "b größe.ppm", r"c new\nline\ttab.ppm"]
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"{folder}/" + r"d\udcff\x1b[2J.png: ")
    done = infer(sys.executable, made.path, folder, "--json", LC_ALL="C", PYTHONIOENCODING="ascii")
    names = [Path(row["image"]).name for row in rows(done.stdout)]
    assert names == ["a\udcff.ppm", "b größe.ppm", "c new\nline\ttab.ppm"]


CAMERA = """
import numpy
class VideoCapture:
    def __init__(self, number):
        self.left = [numpy.load(FILE)[0][..., ::-1]] * 2
    def read(self):
        return (True, self.left.pop()) if self.left else (False, None)
"""


def test_a_camera(
    exports: dict[str, Path], digits: Path, edge_python: Path, tmp_path: Path
) -> None:
    """An OpenCV that is none: two frames, blue first, and then nothing."""
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    (tmp_path / "cv2.py").write_text(f"FILE = {str(digits / 'b.npy')!r}\n{CAMERA}")
    done = infer(edge_python, made.path, "--camera", "0", "--json", PYTHONPATH=str(tmp_path))
    found = rows(done.stdout)
    assert [row["image"] for row in found] == ["frame 0", "frame 1"]
    assert found[0]["classes"][0]["index"] == expected(exports["fp32"], digits)[8].argmax()
    assert done.returncode == 1
    assert "camera 0 gave no frame after 2" in done.stderr


@pytest.mark.parametrize(
    ("section", "entry", "value", "said"),
    [
        ("runtime", "provider", "CUDAExecutionProvider", "has no CUDAExecutionProvider, only"),
        ("runtime", "affinity", [4000], "this machine has not the CPUs [4000] of config.json ("),
        ("runtime", "affinity", ["a"], 'config.json has runtime.affinity ["a"]; expected a list'),
        ("runtime", "threads", "x", 'config.json has runtime.threads "x"; expected 0 to 1024'),
        ("runtime", "threads", 100000, "config.json has runtime.threads 100000; expected 0 to"),
        ("runtime", "spinning", None, "config.json has runtime.spinning null; expected true or"),
        ("input", "size", [9, 9], "model.onnx does not take uint8 (1, 9, 9, 3), as config.json"),
        ("input", "size", "x", 'config.json has input.size "x"; expected height and width'),
        ("input", "interpolation", "foo", "expected one of nearest, bilinear, bicubic, lanczos"),
        ("input", "crop_pct", float("nan"), "config.json has input.crop_pct NaN; expected"),
        ("input", "crop_pct", 1e-9, "config.json has input.crop_pct 1e-09; expected"),
        ("input", "dtype", "float32", 'config.json has input.layout "NHWC"; expected NCHW, as'),
        ("input", "layout", "NCHW", 'config.json has input.layout "NCHW"; expected NHWC, as uint8'),
        ("input", "size", [8, 8193], "config.json has input.size [8, 8193]; expected height and"),
        ("runtime", "name", "numpy", 'config.json has runtime.name "numpy"; expected one of onnx'),
        ("input", "pillow", "x", 'config.json has input.pillow "x"; expected a release'),
    ],
)
def test_settings_that_this_machine_or_any_cannot_have(
    section: str,
    entry: str,
    value: Any,
    said: str,
    exports: dict[str, Path],
    digits: Path,
    tmp_path: Path,
) -> None:
    made, _ = deploy(exports["fp32"], tmp_path / "out")
    made.config[section][entry] = value
    (made.path / "config.json").write_text(json.dumps(made.config))
    done = infer(sys.executable, made.path, digits)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_openvino(exports: dict[str, Path], digits: Path, payload: Callable[[str], Any]) -> None:
    pytest.importorskip("openvino")
    logits = expected(exports["fp32"], digits)[8:24]
    model = payload("engine_openvino").open_model(exports["fp32"] / "model.onnx", {"threads": 1})
    found = np.concatenate([model(one[None]) for one in np.load(digits / "b.npy")])
    assert np.abs(found - logits).max() < 1e-3
    assert (found.argmax(-1) == logits.argmax(-1)).all()


@pytest.fixture
def engine(exports: dict[str, Path], tmp_path: Path) -> Path:
    """An artifact whose engine is the ONNX file behind the fake TensorRT's header."""
    manifest = read_manifest(exports["fp32"]) | {"kind": "tensorrt"}
    del manifest["files"]
    key = {"tensorrt": "10.3.0", "name": "Orin", "capability": "8.7"}
    manifest["export"] = manifest["export"] | {"engine": {"key": key}}
    shape = [[1, 8, 8, 3], [1, 8, 8, 3], [8, 8, 8, 3]]
    header = {"version": "10.3.0", "kind": "fp32", "detailed": True, "shapes": {"images": shape}}
    onnx = (exports["fp32"] / "model.onnx").read_bytes()
    with create(tmp_path / "engine", manifest) as draft:
        (draft / "model.plan").write_bytes(json.dumps(header).encode() + b"\n" + onnx)
        (draft / "model.onnx").write_bytes(onnx)
    return tmp_path / "engine"


@pytest.mark.parametrize("release", ["10.3.0", "8.5.2.2"])
def test_tensorrt(
    release: str,
    engine: Path,
    exports: dict[str, Path],
    digits: Path,
    payload: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the recording fake that the agent's runner was driven with; no GPU."""
    world = FAKE["make"](release)
    world.module.Logger = type("Logger", (), {"WARNING": 2, "__init__": _log, "log": _log})
    world.cudart = FAKE["Libcudart"]()
    monkeypatch.setattr(ctypes, "CDLL", FAKE["libraries"](FAKE["Libcuda"](), world.cudart))
    monkeypatch.setitem(sys.modules, "tensorrt", world.module)
    module, runtime = payload("engine_tensorrt"), {"version": "10.3.0", "gpu": "Orin"}
    if release != "10.3.0":
        with pytest.raises(SystemExit, match=r"made for 10\.3\.0 and Orin\. An engine fits one"):
            module.open_model(engine / "model.plan", runtime)
        return
    model = module.open_model(engine / "model.plan", runtime)
    for pixels, logits in zip(
        np.load(digits / "b.npy"), expected(exports["fp32"], digits)[8:24], strict=True
    ):
        assert np.array_equal(model(pixels[None])[0], logits)
    assert len(world.cudart.memory) == 2  # kept from picture to picture


def _log(*arguments: Any) -> None: ...


def test_an_engines_folder_is_for_its_release(engine: Path, tmp_path: Path) -> None:
    made = bundle(Artifact.open(engine), "# card\n", tmp_path / "out")
    assert "model.plan" in made.files
    assert "model.onnx" not in made.files
    wanted = {"name": "tensorrt", "version": "10.3.0", "gpu": "Orin", "provider": "TensorRT"}
    assert wanted.items() <= made.config["runtime"].items()
    assert "# tensorrt==10.3.0" in (made.path / "requirements.txt").read_text()
    assert "--system-site-packages" in (made.path / "README.md").read_text()
    assert (made.path / "engine.py").read_bytes() == (PAYLOAD / "engine_tensorrt.py").read_bytes()


def test_the_programs_are_small_and_old_pythons_read_them() -> None:
    for file in PAYLOAD.glob("*.py"):
        ast.parse(file.read_text("utf-8"), feature_version=(3, 8))
    assert len((PAYLOAD / "infer.py").read_text("utf-8").splitlines()) < 100
