"""What a device without TensorRT is told, and what one with it says."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import cuda, makers, probe, trtexec


def test_facts_of_a_device_with_all(device: Callable[..., Any]) -> None:
    device("10.3.0")
    found = probe.facts()
    assert found["cuda"] == {"driver": "12.6", "devices": [{"name": "Orin", "capability": "8.7"}]}
    assert found["tensorrt"]["python"] == "10.3.0"
    assert found["error"] is None


def test_a_jetson_is_told_of_apt(
    device: Callable[..., Any], jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(AgentError, match="apt install python3-libnvinfer; do not pip") as caught:
        probe.load(jetson)
    assert caught.value.kind == "module"
    assert "--system-site-packages" in str(caught.value)


def test_others_are_told_of_pip(
    device: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = probe.facts(tmp_path)
    assert "-m pip install 'edgekd[tensorrt]'" in found["error"]
    assert found["cuda"]["devices"]  # what was found is not lost
    assert found["tensorrt"]["python"] is None


@pytest.mark.parametrize("release", ["8.5.2", "11.1.0"])
def test_trtexec_alone_will_do(
    release: str,
    device: Callable[..., Any],
    install: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device("10.3.0")
    program = install(release)
    monkeypatch.setattr(trtexec, "FOLDERS", (str(Path(program).parent),))
    assert probe.facts()["tensorrt"] == {
        "python": "10.3.0",
        "trtexec": program,
        "version": "10.3.0",  # bindings are better: they answer in one process
    }
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = probe.facts(tmp_path)
    assert found["tensorrt"] == {"python": None, "trtexec": program, "version": release}
    assert found["error"] is None
    assert makers.here().place().tensorrt == release


def test_trtexec_without_a_gpu_is_of_no_use(
    install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(trtexec, "FOLDERS", (str(Path(install("8.5.2")).parent),))
    monkeypatch.setattr(ctypes, "CDLL", none)
    with pytest.raises(AgentError, match="no NVIDIA driver"):
        makers.here()
    assert probe.facts()["tensorrt"]["version"] is None


def test_neither_bindings_nor_trtexec_is_a_sentence_about_both(
    device: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(trtexec, "FOLDERS", (str(tmp_path),))
    with pytest.raises(AgentError, match=rf"pip install .*trtexec would do.*nor in {tmp_path}"):
        makers.here()


def test_without_cudas_library_the_drivers_version_is_trtexecs(
    device: Callable[..., Any], install: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(trtexec, "FOLDERS", (str(Path(install("8.5.2")).parent),))
    monkeypatch.setattr(cuda, "RUNTIMES", ())
    monkeypatch.setattr(cuda, "_unlisted", list)
    assert makers.here().place().cuda == "12.6"


def test_a_missing_library_is_named(
    device: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0")
    (tmp_path / "tensorrt.py").write_text(
        "raise ImportError('libnvdla_compiler.so: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AgentError, match=r"needs libnvdla_compiler\.so") as caught:
        probe.load()
    assert caught.value.kind == "library"


def test_what_is_too_old_is_refused(device: Callable[..., Any]) -> None:
    device("8.6.1").module.__version__ = "8.4.1.5"
    with pytest.raises(AgentError, match=r"TensorRT 8\.4\.1\.5 .* needs 8\.5 or newer"):
        probe.load()


def test_cuda_comes_before_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a GPU its libraries end the process, so they must not even be imported."""
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a GPU")
    (tmp_path / "tensorrt.py").write_text("raise SystemExit('touched')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AgentError, match="no NVIDIA driver"):
        probe.load()
