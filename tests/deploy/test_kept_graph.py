"""The optimised graph that a deployed folder keeps: the same answers, never stale, never needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

RUNTIME = {"threads": 1, "spinning": False, "provider": "CPUExecutionProvider"}
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
BIAS = np.arange(10, dtype=np.float32) + np.float32(0.625)
Opened = tuple[Path, int]


def write_model(file: Path) -> Path:
    """A convolution, which ONNX Runtime lays out for the CPU, and a classifier of 10."""
    draw = np.random.default_rng(1)
    weights = {
        "kernel": draw.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "matrix": draw.standard_normal((16, 10)).astype(np.float32),
        "bias": BIAS,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [images], [logits], tensors)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), file)
    return file


class Runtime:
    """ONNX Runtime, that says which files it opened, with all optimisation or with none."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.version, self.refused = onnxruntime.__version__, ""

    def __getattr__(self, name: str) -> Any:
        return self.version if name == "__version__" else getattr(onnxruntime, name)

    def InferenceSession(self, file: str, options: Any, providers: list[str]) -> Any:  # noqa: N802
        if self.refused and self.refused in (file, Path(options.optimized_model_filepath).suffix):
            raise RuntimeError("refused")
        session = onnxruntime.InferenceSession(file, options, providers=providers)
        self.opened.append((Path(file), int(options.graph_optimization_level)))
        return session


class Device:
    """A model, a cache, and the engine that has both."""

    def __init__(self, engine: Any, runtime: Runtime, model: Path, cache: Path) -> None:
        self.engine, self.runtime, self.model = engine, runtime, model
        self.folder = cache / "edgekd" / "sessions"

    def start(self) -> Any:
        """What it answers."""
        return self.engine.open_model(self.model, RUNTIME)(IMAGE)

    def found(self) -> bool:
        """Whether the last start opened a graph that was kept, as it is."""
        file, level = self.runtime.opened[-1]
        kept = file.parent == self.folder
        assert kept == (level == int(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL))
        return kept

    @property
    def graphs(self) -> list[Path]:
        """All that are kept."""
        assert not list(self.folder.glob("*.part"))
        return sorted(self.folder.glob("*.onnx"))


@pytest.fixture
def device(
    payload: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Device:
    engine, runtime = payload("engine_onnxruntime"), Runtime()
    monkeypatch.setattr(engine, "import_module", lambda name: runtime)
    monkeypatch.setattr(engine, "SETTLED", -1.0)  # no test is to wait
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Device(engine, runtime, write_model(tmp_path / "model.onnx"), tmp_path / "cache")


def test_the_second_start_answers_as_the_first_did(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all precisions: test_infer.py."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", os.devnull)
        plain = device.start()
        assert not device.found()
    for found in (False, True, True):
        assert np.array_equal(device.start(), plain)
        assert device.found() == found
    assert len(device.graphs) == 1
    assert not device.folder.stat().st_mode & 0o077


def test_a_changed_model_is_another(device: Device) -> None:
    """Of the same place, size and time of writing, as a device's image may have it."""
    first, stamp = device.start(), device.model.stat()
    device.start()
    content = bytearray(device.model.read_bytes())
    weights = content.rindex(BIAS.tobytes())
    content[weights : weights + 4] = np.float32(7).tobytes()
    device.model.write_bytes(content)
    os.utime(device.model, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert device.model.stat().st_size == stamp.st_size
    second = device.start()
    assert not device.found()
    assert not np.array_equal(first, second)
    assert np.array_equal(device.start(), second)
    assert device.found()
    assert len(device.graphs) == 2


def test_another_release_keeps_its_own(device: Device) -> None:
    device.start()
    device.runtime.version = "0.0.1"
    device.start()
    assert not device.found()
    device.runtime.version = onnxruntime.__version__
    device.start()
    assert device.found()
    assert len(device.graphs) == 2


def test_a_model_with_weights_beside_it_is_opened_as_ever(device: Device) -> None:
    """A graph that was kept would look for them beside itself."""
    where = "model.onnx.data"
    model = onnx.load(device.model)
    onnx.save(model, device.model, save_as_external_data=True, location=where, size_threshold=0)
    for _ in range(2):
        device.start()
        assert not device.found()
    assert not device.folder.exists()


def test_what_the_name_says_of_the_cpu(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.start()
    monkeypatch.setattr(device.engine, "_digest", lambda *_: "0")

    def key(text: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda *_: text)
            return str(device.engine._key(device.runtime, device.model, device.folder))

    one = "processor\t: 0\nmodel name\t: A\nflags\t\t: fpu avx2\ncpu MHz\t\t: 1.5\n"
    assert key(one) == key(one + one.replace("1.5", "2.5").replace(": 0", ": 1"))
    assert key(one) != key(one.replace("avx2", "avx512f"))
    assert key(one) != key(one.replace(": A", ": B"))
    arm = "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
    assert key(arm) != key(arm.replace("0xd08", "0xd0b"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_graph_is_made_again(damage: str, device: Device) -> None:
    plain = device.start()
    device.start()
    (graph,) = device.graphs
    whole = graph.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    damages = {"cut": whole[:-9], "flipped": flipped, "empty": b"", "other": b"\xff" * 99}
    graph.write_bytes(damages[damage])
    assert np.array_equal(device.start(), plain)
    assert not device.found()
    assert graph.read_bytes() == whole
    assert np.array_equal(device.start(), plain)
    assert device.found()


def test_a_graph_that_the_runtime_refuses_is_made_again(device: Device) -> None:
    plain = device.start()
    device.runtime.refused = str(device.graphs[0])
    assert np.array_equal(device.start(), plain)
    assert not device.found()
    assert len(device.graphs) == 1


def test_damaged_notes_are_not_believed(device: Device) -> None:
    plain = device.start()
    device.start()
    notes = list(device.folder.glob("*.sha256"))
    assert len(notes) == 2  # of the model and of its graph
    for text in ("", "0" * 64, f"{'0' * 64} {'0' * 64}", "\xff"):
        for note in notes:
            note.write_bytes(text.encode("latin-1"))
        assert np.array_equal(device.start(), plain)
        assert device.found()


def test_notes_are_taken_of_files_that_rest(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.engine, "SETTLED", 3600.0)
    for _ in range(2):
        device.start()
    assert device.found()
    assert not list(device.folder.glob("*.sha256"))


def test_a_time_of_change_in_whole_seconds_is_not_believed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image made with fixed times, whose files differ in their content alone."""
    monkeypatch.setattr(device.engine, "_seen", lambda file: (str(file), 7, 10**18))
    for _ in range(2):
        device.start()
    assert device.found()
    assert not list(device.folder.glob("*.sha256"))


@pytest.mark.parametrize("trouble", ["file", "shared", "homeless", "full", "no cpuinfo", "gone"])
def test_without_a_cache_it_starts_as_ever(
    trouble: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, engine = device.start(), device.engine
    if trouble == "file":
        shutil.rmtree(device.folder)
        device.folder.write_text("mine")
    elif trouble == "shared":
        device.folder.chmod(0o777)
    elif trouble == "homeless":
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setattr(Path, "home", no_home)
    elif trouble == "full":
        device.graphs[0].unlink()
        device.runtime.refused = ".part"
    elif trouble == "no cpuinfo":
        monkeypatch.setattr(Path, "read_text", no_file)
    else:
        device.graphs[0].unlink()
        monkeypatch.setattr(engine.os, "fsync", no_file)
    for _ in range(2):
        assert np.array_equal(device.start(), plain)
        assert not device.found()
    assert trouble == "file" or not list(device.folder.glob("*.part"))


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def no_file(*_: object) -> str:
    raise FileNotFoundError("none")


def test_a_model_that_is_none_is_said(device: Device) -> None:
    device.model.write_bytes(b"none")
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        device.start()
    assert device.graphs == []
    device.model.unlink()
    with pytest.raises(Exception, match=r"model\.onnx"):
        device.start()


def test_only_the_newest_are_kept(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.engine, "KEPT", 2)
    monkeypatch.setattr(device.engine, "NOTES", 3)
    device.start()
    (device.folder / "mine.txt").write_text("mine")
    for number in range(3):
        (device.folder / f"{number}.part").write_text("")  # as a power cut leaves them
        (device.folder / f"{number}.sha256").write_text("")
    for number in range(3):
        device.runtime.version = f"0.0.{number}"
        device.start()
    assert len(list(device.folder.glob("*.onnx"))) == 2
    assert len(list(device.folder.glob("*.part"))) == 2
    assert len(list(device.folder.glob("*.sha256"))) <= 3 + 1
    assert (device.folder / "mine.txt").exists()
    device.start()
    assert device.found()


def test_other_providers_keep_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIME, "provider", "AzureExecutionProvider")
    offered = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    session = type("Session", (), {"get_providers": lambda _: offered})
    monkeypatch.setattr(Runtime, "InferenceSession", lambda *_, **__: session())
    with pytest.raises(AttributeError, match="get_inputs"):  # it got as far as that
        device.start()
    assert not device.folder.exists()
