"""Run the engine with TensorRT 8.5 or newer; memory by CUDA's runtime library, through ctypes.

The names are those of NVIDIA's documentation: TensorRT Python API, CUDA Runtime API.
"""

from __future__ import annotations

import ctypes
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

TO_DEVICE, TO_HOST, NON_BLOCKING = 1, 2, 1  # cudaMemcpyKind, cudaStreamNonBlocking
NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


def open_model(file: Path, runtime: Dict[str, Any]) -> Callable[[Any], Any]:
    """The engine, ready: from one input (1, ...) to its logits (1, K)."""
    trt = _import()
    cuda, (loader, engine) = _Cuda(), _engine(trt, file, runtime)
    context, stream = engine.create_execution_context(), cuda.stream()
    if context is None:
        sys.exit("the GPU has no room for this engine; stop other programs that use it.")
    source, target = _ends(trt, engine)
    memory: Dict[str, int] = {}

    def run(values: Any) -> Any:
        if not context.set_input_shape(source, tuple(values.shape)) or context.infer_shapes():
            sys.exit(f"the engine does not take {source} as {values.shape}.")
        dtype = trt.nptype(engine.get_tensor_dtype(target))
        answer = np.empty(tuple(context.get_tensor_shape(target)), dtype)
        for name, array in ((source, values), (target, answer)):
            if name not in memory:  # sizes stay, as one picture follows the other
                memory[name] = cuda.malloc(array.nbytes)
                context.set_tensor_address(name, memory[name])
        cuda.copy(memory[source], values.ctypes.data, values.nbytes, TO_DEVICE, stream)
        if not context.execute_async_v3(stream):
            sys.exit("TensorRT could not run the engine; it said why above.")
        cuda.copy(answer.ctypes.data, memory[target], answer.nbytes, TO_HOST, stream)
        cuda.call("cudaStreamSynchronize", ctypes.c_void_p(stream))
        return answer

    run.__dict__["alive"] = loader, engine  # these have to live as long as what uses them
    return run


def _import() -> Any:
    try:
        return import_module("tensorrt")
    except ImportError as error:
        sys.exit(f"TensorRT cannot be imported ({error}). JetPack has it, for the system's Python.")


def _engine(trt: Any, file: Path, runtime: Dict[str, Any]) -> Tuple[Any, Any]:
    """What loads engines, and the engine."""
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    loader = trt.Runtime(logger)
    engine = loader.deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        sys.exit(
            f"TensorRT {trt.__version__} refuses {file.name}, made for {runtime['version']} and "
            f"{runtime['gpu'] or 'the GPU it was built on'}. An engine fits one release and one "
            "GPU: build it again for this device with edgekd export --trt, and deploy that."
        )
    return loader, engine


def _ends(trt: Any, engine: Any) -> List[str]:
    """The names of the input and of the output, of which there is one each."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return sorted(names, key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)


class _Cuda:
    """Memory and a stream of the first GPU; all are plain integers."""

    def __init__(self) -> None:
        self._library = _library()

    def malloc(self, size: int) -> int:
        address = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value or 0)

    def stream(self) -> int:
        stream = ctypes.c_void_p()
        self.call("cudaStreamCreateWithFlags", ctypes.byref(stream), ctypes.c_uint(NON_BLOCKING))
        return int(stream.value or 0)

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        ends = ctypes.c_void_p(target), ctypes.c_void_p(source)
        place = ctypes.c_int(kind), ctypes.c_void_p(stream)
        self.call("cudaMemcpyAsync", *ends, ctypes.c_size_t(size), *place)

    def call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code != 0:
            sys.exit(f"the GPU refused {name} (CUDA error {code}).")


def _library() -> Any:
    """The system's, CUDA's own folder's, or that of pip's packages."""
    places = [str(f) for f in sorted(Path("/usr/local").glob("cuda*/lib64/libcudart.so*"))]
    for folder in sys.path:
        for pattern in ("nvidia/*/lib/libcudart.so*", "nvidia/lib/libcudart.so*"):
            places += [str(file) for file in sorted(Path(folder or ".").glob(pattern))]
    for name in [*NAMES, *places]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    sys.exit("there is no libcudart.so here; it comes with CUDA (JetPack: apt install cuda-cudart)")
