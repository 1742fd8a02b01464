"""Another architecture answers the same: the agent and ONNX Runtime on an emulated ARM machine.

Minutes, root, and at first 100 MB to fetch; see ``tests/arm.py``. Run it by name. Times mean
nothing under emulation and are not looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from edgekd.devices import describe, reach
from edgekd.flow.exporting import export_network
from edgekd.flow.proving import Proof, read
from edgekd.flow.training import teach
from edgekd.recipe import Export, recipe_from
from tests.arm import arm_device, cache_folder, lacking
from tests.cli.conftest import Command, edgekd
from tests.sshd import Server

__all__ = ["edgekd"]  # a fixture
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "nothing is lacking"),
]
SIDE, TRAINED, TESTED = 32, 320, 48
TINY = Export(samples=16, max_drop=0.9, repair="none", calibrator="minmax")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The emulated machine; it knows my key, and I know its."""
    with (
        pytest.MonkeyPatch.context() as patch,
        arm_device(tmp_path_factory.mktemp("arm"), cache_folder()) as server,
    ):
        server.know(server.public("host"))
        server.use("mine", patch)
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in folders, and few of them to test on."""
    from sklearn.datasets import load_digits

    folder, digits = tmp_path_factory.mktemp("images"), load_digits()
    for number in range(TRAINED + TESTED):
        split = "train" if number < TRAINED else "test"
        place = folder / split / str(digits.target[number])
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((digits.images[number] * 15.9).astype(np.uint8))
        picture.resize((SIDE, SIDE)).convert("RGB").save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def exported(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network that has learnt something, in float32, and in int8 as ARM wants it."""
    folder = tmp_path_factory.mktemp("exported")
    table = {
        "data": {"source": str(images), "size": SIDE},
        "teacher": {"name": "resnet8"},
        "teach": {"epochs": 12, "batch_size": 16, "lr": 0.1, "precision": "fp32"},
    }
    network = teach(recipe_from(table), folder / "network")
    for precision in ("fp32", "int8"):
        options = replace(TINY, precision=precision)
        export_network(network, folder / precision, options, device="raspberry-pi-5")
    return {precision: folder / precision for precision in ("fp32", "int8")}


@pytest.fixture(scope="module")
def proofs(
    exported: dict[str, Path], images: Path, device: Server
) -> dict[str, tuple[Proof, Proof]]:
    """What each file says there, and here."""
    for where in (device.address, "local"):
        models = [record for record in _profile(exported, images, where) if "timing" in record]
        assert [record["device"]["profile"] for record in models] == [where, where]
        assert [record["accuracy"]["n"] for record in models] == [TESTED, TESTED]
    return {
        precision: (read(path, device.address), read(path, "local"))
        for precision, path in exported.items()
    }


def test_it_says_what_it_is(device: Server, edgekd: Command) -> None:
    found = describe(reach(device.address))
    assert (found["machine"], found["cpu"]) == ("aarch64", "Cortex-A76")
    assert found["cpu_flags"] == ["asimddp"]
    assert found["governor"] == "ondemand"
    said = edgekd("device", "doctor", device.address)
    assert said.code == 0, said.err
    assert "Cortex-A76" in said.out
    assert "aarch64" in said.out


def test_float_answers_are_the_same(proofs: dict[str, tuple[Proof, Proof]]) -> None:
    there, here = proofs["fp32"]
    a, b = np.array(there.answers), np.array(here.answers)  # (feeds, K)
    assert len(a) >= 8
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    assert (a.argmax(axis=1) == b.argmax(axis=1)).all()
    assert there.predictions == here.predictions
    assert _accuracy(there) == _accuracy(here) > 0.5  # it has learnt something: ten classes


def test_int8_answers_are_the_same_to_a_step(
    proofs: dict[str, tuple[Proof, Proof]], exported: dict[str, Path]
) -> None:
    """To the bit, but for values half-way between two steps, which may go either way.

    ONNX Runtime brings its sums of integers back to int8 through floats, and not in the same way on
    both: one in a hundred thousand values inside was seen to differ, and one in fifty logits.
    """
    there, here = proofs["int8"]
    a, b = np.array(there.answers), np.array(here.answers)  # (feeds, K)
    assert len(a) >= 8
    steps = (a - b) / _last_step(exported["int8"] / "model.onnx")
    assert np.abs(steps).max() < 1.01
    assert (steps == 0).mean() > 0.9
    assert there.predictions is not None
    assert here.predictions is not None
    others = sum(a != b for a, b in zip(there.predictions, here.predictions, strict=True))
    assert others <= 1  # a tie between two classes
    assert abs(_accuracy(there) - _accuracy(here)) <= 1.01 / TESTED
    assert _accuracy(there) > 0.5


def _accuracy(proof: Proof) -> float:
    value: float = proof.record["accuracy"]["value"]
    return value


def _profile(models: dict[str, Path], images: Path, device: str) -> list[dict[str, Any]]:
    """One timed run or two are enough."""
    command = [sys.executable, "-m", "edgekd", "profile", *map(str, models.values())]
    quick = ["--data", str(images), "--max-seconds", "0.5", "--threads", "1", "--json"]
    done = subprocess.run(
        [*command, *quick, "--device", device], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    records: list[dict[str, Any]] = json.loads(done.stdout)
    return records


def _last_step(file: Path) -> float:
    """What one step of int8 is worth in the logits."""
    graph = onnx.load(file).graph
    (last,) = [node for node in graph.node if graph.output[0].name in node.output]
    assert last.op_type == "DequantizeLinear"
    values = {tensor.name: tensor for tensor in graph.initializer}
    return float(numpy_helper.to_array(values[last.input[1]]))
