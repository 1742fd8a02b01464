"""CUDA through ctypes: against compiled C with CUDA's prototypes, and where there is none."""

from __future__ import annotations

import ctypes
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import cuda
from edgekd.agent.tensorrt.cuda import Cuda, Gpu, probe

FAKE = runpy.run_path(str(Path(__file__).parents[1] / "fake_tensorrt.py"))


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries are ``fake_cuda.c``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path / "cuda.so"
    source = Path(__file__).parent / "fake_cuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: real(str(library)))


@pytest.mark.usefixtures("compiled")
def test_the_driver_names_its_gpus() -> None:
    found = probe()
    assert found.version == "13.2"
    assert found.gpus == (Gpu("NVIDIA Thor", "11.0"), Gpu("NVIDIA Other", "11.1"))


@pytest.mark.usefixtures("compiled")
def test_memory_goes_there_and_back() -> None:
    library = Cuda()
    assert library.version == "12.6"
    stream, sent = library.stream(), np.arange(1000, dtype=np.int64)
    address, back = library.malloc(sent.nbytes), np.zeros_like(sent)
    assert address > 1 << 32  # a whole pointer
    library.send(address, sent, stream)
    library.fetch(back, address, stream)
    library.synchronise(stream)
    np.testing.assert_array_equal(back, sent)
    library.free(address)
    library.destroy(stream)


@pytest.mark.usefixtures("compiled")
def test_events_tell_the_gpus_own_time() -> None:
    library = Cuda()
    stream, events = library.stream(), (library.event(), library.event())
    for event in events:
        assert event > 1 << 32  # a whole pointer
        library.record(event, stream)
    assert library.between_ns(*events) == 1_500_000
    for event in events:
        library.forget(event)
    assert library.free_bytes() == 5 << 32
    assert library.integrated()


@pytest.mark.usefixtures("compiled")
def test_a_refusal_has_cudas_own_words() -> None:
    with pytest.raises(AgentError, match=r"cudaMalloc: out of memory \(error 2\)") as caught:
        Cuda().malloc(1 << 41)
    assert caught.value.kind == "memory"
    with pytest.raises(AgentError, match=r"cudaStreamSynchronize: other \(error 400\)") as caught:
        Cuda().synchronise(0)
    assert caught.value.kind == "gpu"


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, "there is no NVIDIA driver here"),
        ({"error": 100}, r"finds no GPU here.*--gpus all"),
        ({"gpus": 0}, "finds no GPU here"),
        ({"error": 803}, "cuInit gives error 803"),
    ],
)
def test_no_gpu_is_a_sentence(
    driver: dict[str, Any] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = None if driver is None else FAKE["Libcuda"](**driver)
    monkeypatch.setattr(ctypes, "CDLL", FAKE["libraries"](library, None))
    with pytest.raises(AgentError, match=words) as caught:
        probe()
    assert caught.value.kind == "gpu"
    assert "--device" in str(caught.value)


def test_no_runtime_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", FAKE["libraries"](FAKE["Libcuda"](), None))
    monkeypatch.setattr(cuda, "_unlisted", list)
    with pytest.raises(AgentError, match=r"no libcudart\.so") as caught:
        Cuda()
    assert caught.value.kind == "library"


def test_the_runtime_of_a_wheel_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nvidia/cuda_runtime/lib/libcudart.so.12"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    opened: list[str] = []

    def load(name: str) -> Any:
        opened.append(name)
        if name != str(file):
            raise OSError(name)
        return FAKE["Libcudart"]()

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.syspath_prepend(tmp_path)
    assert Cuda().version == "12.6"
    assert opened[0] == "libcudart.so"
