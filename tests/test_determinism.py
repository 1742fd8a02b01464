"""The same seed, the same bytes: in another Python and folder, with any number of workers.

Two Pythons whose sets and dictionaries of strings differ in order train the same, each in a place
of its own. Byte by byte equal are the weights, what was answered to each image, the metrics but for
the speed, and the ONNX files.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgekd import plugins
from tests.faults.commands import settings
from tests.faults.doomed import Workshop, workshop

NAMES = list(plugins.summaries("method"))
WRAPPED = "mgd"
"""Looks for a better step; it is put around other terms."""
ALL = " + ".join(name for name in NAMES if name != WRAPPED)
STREAMED = {"memory_gb": 1e-5}
"""There is no room for any image in memory."""
TRAIN = {"epochs": 1, "batch_size": 40, "precision": "fp32", "log_steps": 1, "ema": 0.9}
TEACH = {"epochs": 12, "batch_size": 20, "lr": 0.1, "precision": "fp32"}
DIFFERS = {"images_per_s", "teacher_hits", "seconds"}
ON_CPU = {"ACCELERATE_USE_CPU": "1"}
PICTURES = 24
"""Of each class."""
INT8 = (
    *("--precision", "int8", "--max-drop", "90%", "--repair", "none"),
    *("--calibrator", "minmax", "--calibration", "32"),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of the same digits: ``plain`` has one folder a class, ``packed`` one tar."""
    place = tmp_path_factory.mktemp("pictures")
    digits, count = load_digits(), dict.fromkeys(range(10), 0)
    (place / "packed").mkdir()
    with tarfile.open(place / "packed" / "train.tar", "w") as tar:
        for pixels, label in zip(digits.images, digits.target.tolist(), strict=True):
            if count[label] == PICTURES:
                continue
            count[label] += 1
            name = f"{label}/{count[label]:03}.png"
            file, data = place / "plain" / "train" / name, io.BytesIO()
            Image.fromarray((pixels * 15).astype(np.uint8)).save(data, "PNG")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.getvalue())
            entry = tarfile.TarInfo(name)
            entry.size = len(data.getvalue())
            tar.addfile(entry, io.BytesIO(data.getvalue()))
    return place


class Python:
    """A Python with hashes, folders and a user of its own."""

    def __init__(self, shop: Workshop, place: Path, data: Path, teacher: Path) -> None:
        self.shop, self.place, self.data, self.teacher = shop, place, data, teacher

    def run(self, *words: str) -> None:
        homes = {name: str(self.place / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
        for folder in homes.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        user = {"USER": self.place.name, "LOGNAME": self.place.name}
        ended = self.shop.run(words, self.place / "here", env={**homes, **user})
        assert ended.code == 0, ended.err

    def distill(
        self,
        out: str,
        method: str,
        data: dict[str, Any],
        beside: tuple[str, ...] = (),
        packed: bool = False,
        **train: Any,
    ) -> Path:
        """A student of 8x8 pixels; three steps."""
        source = self.data / ("packed" if packed else "plain")
        self.run(
            *("distill", *(beside or ("--teacher", str(self.teacher))), "--student", "resnet8"),
            *("--method", method, "--data", str(source), "--size", "8", "--limit", "150"),
            *settings(data=data, train=TRAIN | train),
            *("-o", out),
        )
        return self.place / "here" / out

    def teach(self, out: str, data: dict[str, Any]) -> Path:
        self.run(
            *("teach", "--teacher", "resnet14", "--data", str(self.data / "plain"), "--size", "8"),
            *settings(data=data, teach=TEACH),
            *("-o", out),
        )
        return self.place / "here" / out

    def export(self, network: Path, out: str, *words: str) -> Path:
        self.run("export", str(network), "-o", out, *words)
        return self.place / "here" / out


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pythons")


@contextmanager
def python(place: Path, data: Path, teacher: Path, **env: str) -> Iterator[Python]:
    place.mkdir()
    with workshop(env) as shop:
        yield Python(shop, place, data, teacher)


@pytest.fixture(scope="module")
def one(shared: Path, pictures: Path) -> Iterator[Python]:
    """It trains the teacher of all."""
    teacher = shared / "one" / "here" / "teacher"
    with python(shared / "one", pictures, teacher, PYTHONHASHSEED="1", **ON_CPU) as made:
        assert made.teach("teacher", STREAMED | {"workers": 2}) == teacher
        yield made


@pytest.fixture(scope="module")
def other(shared: Path, pictures: Path, one: Python) -> Iterator[Python]:
    place = shared / "another place"
    with python(place, pictures, one.teacher, PYTHONHASHSEED="2", **ON_CPU) as made:
        yield made


def bytes_of(folder: Path) -> dict[str, bytes]:
    """What does not say when it was made, nor how."""
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".safetensors", ".onnx")]
    found = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    for file in folder.rglob("answers.json"):
        found[str(file.relative_to(folder))] = file.read_bytes()
    for file in folder.rglob("metrics.jsonl"):
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        kept = [{k: v for k, v in line.items() if k not in DIFFERS} for line in lines]
        found[str(file.relative_to(folder))] = json.dumps(kept).encode()
    assert found
    return found


def assert_same(found: Path, expected: Path) -> None:
    one, other = bytes_of(found), bytes_of(expected)
    assert one.keys() == other.keys()
    assert [name for name, content in one.items() if content != other[name]] == []


def test_all_methods_at_once_with_any_number_of_workers(one: Python, other: Python) -> None:
    """What one term alone would draw or round otherwise changes the student's next step."""
    first = one.distill("all", ALL, STREAMED | {"workers": 0})
    second = other.distill("all", ALL, STREAMED | {"workers": 3}, packed=True)
    assert_same(second, first)
    lines = (first / "training" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0])["losses"].keys() == {*NAMES} - {WRAPPED}


def test_a_method_around_others_and_a_peer(one: Python, other: Python) -> None:
    for out, method, beside in (
        ("wrapped", f"{WRAPPED}(ce + kd + dist)", ()),
        ("mutual", "ce + kd + fitnet", ("--peer", "resnet14")),
    ):
        first = one.distill(out, method, {"workers": 0}, beside)
        assert_same(other.distill(out, method, {"workers": 2}, beside, packed=True), first)


def test_a_teacher_and_its_int8_file(one: Python, other: Python) -> None:
    again = other.teach("teacher", STREAMED | {"workers": 1})
    assert_same(again, one.teacher)
    assert_same(other.export(again, "int8", *INT8), one.export(one.teacher, "int8", *INT8))


# ---- minutes: each method alone, each way to read images, each precision ----


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_method(name: str, one: Python, other: Python) -> None:
    method = f"{name}(ce + kd)" if name == WRAPPED else name
    first = one.distill(f"alone-{name}", method, STREAMED | {"workers": 1})
    assert_same(other.distill(f"alone-{name}", method, STREAMED | {"workers": 2}), first)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["shift+flip", "timm"])
@pytest.mark.parametrize("views", [0, 4])
@pytest.mark.parametrize("memory", [STREAMED, {}], ids=["streamed", "in memory"])
def test_any_number_of_workers_from_a_folder_and_a_tar(
    augment: str, views: int, memory: dict[str, Any], one: Python, other: Python
) -> None:
    data = {**memory, "augment": augment, "teacher_views": views}
    name = f"read-{augment}-{views}-{len(memory)}"
    first = one.distill(name, "ce + kd", data | {"workers": 0})
    for workers in (1, 2, 3):
        given = data | {"workers": workers}
        found = other.distill(f"{name}-{workers}", "ce + kd", given, packed=workers > 1)
        assert_same(found, first)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_file_of_each_precision(precision: str, one: Python, other: Python) -> None:
    words = ("--precision", precision, *(() if precision == "fp32" else ("--max-drop", "90%")))
    first = one.export(one.teacher, precision, *words)
    assert_same(other.export(one.teacher, precision, *words), first)


@pytest.mark.slow
def test_a_training_that_rounds(one: Python, other: Python) -> None:
    first = one.distill("rounded", "ce + kd", {}, quantise="int8")
    assert_same(other.distill("rounded", "ce + kd", {}, quantise="int8"), first)


@pytest.mark.slow
def test_a_comparison(one: Python, other: Python) -> None:
    for python, workers in ((one, 0), (other, 2)):
        python.run(
            *("compare", "--teacher", str(one.teacher), "--student", "resnet8", "--seeds", "2"),
            *("--method", "ce + 0.9*kd", "--method", "ce + crd", "-o", "beside"),
            *("--data", str(one.data / "plain"), "--size", "8"),
            *settings(data=STREAMED | {"workers": workers}, train=TRAIN),
        )
    first, second = (python.place / "here" / "beside" for python in (one, other))
    assert len(bytes_of(first)) == 18
    assert_same(second, first)


@pytest.mark.slow
def test_two_threads(shared: Path, pictures: Path, one: Python) -> None:
    """As many threads give the same bytes; another number rounds its sums elsewhere."""
    found = []
    env = {**ON_CPU, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    for seed in ("1", "2"):
        place = shared / f"threads {seed}"
        with python(place, pictures, one.teacher, PYTHONHASHSEED=seed, **env) as made:
            found.append(made.distill("all", ALL, STREAMED | {"workers": int(seed)}))
    assert_same(found[1], found[0])


# ---- on a GPU ----


@pytest.mark.gpu
def test_what_is_the_same_on_a_gpu(shared: Path, pictures: Path, one: Python) -> None:
    """The first loss to rounding: images, order and weights at the start are the very same.

    What comes after is not: cuDNN takes the kernel that was fastest when it tried, and some add up
    in the order in which they end. A file is exported on the CPU, and is the same again.
    """
    found, files = [], []
    for seed in ("1", "2"):
        with python(shared / f"gpu {seed}", pictures, one.teacher, PYTHONHASHSEED=seed) as made:
            network = made.distill("all", ALL, {})
            text = (network / "training" / "metrics.jsonl").read_text("utf-8")
            found.append(json.loads(text.splitlines()[0])["losses"])
            files.append(made.export(one.teacher, "fp32"))
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert_same(files[1], files[0])
