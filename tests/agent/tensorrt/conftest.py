"""Typed graphs, and a TensorRT and a CUDA that are none."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.agent.tensorrt import probe

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"
FAKE = runpy.run_path(str(Path(__file__).parents[1] / "fake_tensorrt.py"))


@pytest.fixture
def graph(tiny: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """``model.onnx`` with the types of a precision; its answers stay nearly the same."""

    def write(precision: str = "fp32", opset: int = 17, **options: Any) -> Path:
        path: Path = tiny["classifier"](tmp_path / "model.onnx", **options)
        model = onnx.load(path)
        model.opset_import[0].version = opset  # its operators are the same in 16 to 18
        {"fp32": lambda _: None, "fp16": _half, "int8": _quantised}[precision](model.graph)
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """This machine with a release of TensorRT, a GPU and CUDA; returns the world of the release."""

    def set_up(
        version: str,
        *,
        name: str = "Orin",
        room: int = 1 << 30,
        integrated: bool = False,
        **world: Any,
    ) -> Any:
        made = FAKE["make"](version, **world)
        made.cudart = FAKE["Libcudart"](room, integrated)
        load = FAKE["libraries"](FAKE["Libcuda"](name), made.cudart)
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setitem(__import__("sys").modules, "tensorrt", made.module)
        return made

    return set_up


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """For another process: there it has a release of TensorRT, a GPU and CUDA."""

    def set_up(version: str, **world: Any) -> dict[str, str]:
        folder = tmp_path / "site"
        folder.mkdir(exist_ok=True)
        file = str(Path(__file__).parents[1] / "fake_tensorrt.py")
        (folder / "sitecustomize.py").write_text(  # Python itself imports it, first of all
            f"import runpy\nrunpy.run_path({file!r})['install']({version!r}, **{world!r})\n"
        )
        return {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    return set_up


@pytest.fixture
def program_alone(
    environment: Callable[..., dict[str, str]], install: Callable[..., str]
) -> Callable[..., dict[str, str]]:
    """For another process: there it has a GPU and trtexec, and no TensorRT for Python."""

    def set_up(release: str, scene: str = "works") -> dict[str, str]:
        version = next(v for v in FAKE["VERSIONS"] if v.startswith(release.split(".")[0]))
        program = Path(install(release, scene))
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return {**environment(version, bindings=False), "PATH": path}

    return set_up


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., str]:
    """Put a trtexec of some release into a folder of its own; its path."""

    def set_up(release: str, scene: str = "works", **more: Any) -> str:
        folder = tmp_path / "bin"
        shutil.copytree(SAMPLES, folder, dirs_exist_ok=True)
        setting = {"release": release, "scene": scene, **more}
        (folder / "fake.json").write_text(json.dumps(setting))
        program = folder / "trtexec"
        program.write_text(f"#!{sys.executable}\n" + (SAMPLES / "fake.py").read_text("utf-8"))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return str(program)

    return set_up


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """The root of a Jetson's file system."""
    release = tmp_path / "jetson" / probe.TEGRA
    release.parent.mkdir(parents=True)
    release.write_text("# R35 (release), REVISION: 3.1\n")
    return tmp_path / "jetson"


def _half(graph: onnx.GraphProto) -> None:
    """The matrix product in half, its ends in float."""
    gemm = graph.node[-1]
    for tensor in graph.initializer:
        if tensor.name in gemm.input:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype(np.float16), tensor.name
                )
            )
    before, after = gemm.input[0], gemm.output[0]
    gemm.input[0], gemm.output[0] = "half_in", "half_out"
    graph.node.insert(
        len(graph.node) - 1,
        helper.make_node("Cast", [before], ["half_in"], to=TensorProto.FLOAT16),
    )
    graph.node.append(helper.make_node("Cast", ["half_out"], [after], to=TensorProto.FLOAT))


def _quantised(graph: onnx.GraphProto) -> None:
    """The matrix in int8, behind a DequantizeLinear."""
    gemm = graph.node[-1]
    (tensor,) = [t for t in graph.initializer if t.name == gemm.input[1]]
    values = numpy_helper.to_array(tensor)
    scale = np.float32(np.abs(values).max() / 127)
    graph.initializer.remove(tensor)
    graph.initializer.extend(
        [
            numpy_helper.from_array((values / scale).round().astype(np.int8), "q"),
            numpy_helper.from_array(np.asarray(scale), "scale_q"),
            numpy_helper.from_array(np.zeros((), np.int8), "zero_q"),
        ]
    )
    node = helper.make_node("DequantizeLinear", ["q", "scale_q", "zero_q"], [tensor.name])
    graph.node.insert(len(graph.node) - 1, node)
