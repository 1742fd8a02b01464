"""CUDA through ctypes: the driver says which GPUs there are, the runtime moves the memory.

Both libraries are there wherever TensorRT runs, a Jetson included, so nothing has to be installed
for them. Functions and codes: the CUDA Driver API and CUDA Runtime API manuals.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Tuple

from edgekd.agent.failures import AgentError

ELSEWHERE = "Name a device that has one (--device), or leave TensorRT: export with --onnx."
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind
NON_BLOCKING = 1  # cudaStreamNonBlocking
INTEGRATED = 18  # cudaDevAttrIntegrated: the GPU works in the host's memory
RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver names it."""

    name: str
    capability: str
    """Compute capability, such as ``8.7``."""


@dataclass(frozen=True)
class Driver:
    """What the driver offers."""

    version: str
    """The newest CUDA it runs, such as ``12.6``."""
    gpus: Tuple[Gpu, ...]


def probe() -> Driver:
    """The driver and its GPUs, asked without a runtime.

    Raises:
        AgentError: there is no driver, or no GPU that works.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise AgentError(
            "gpu",
            f"there is no NVIDIA driver here (libcuda.so.1: {error}); TensorRT needs a GPU. "
            + ELSEWHERE,
        ) from error
    code, count, version = int(library.cuInit(0)), ctypes.c_int(0), ctypes.c_int(0)
    if code == 0:
        code = int(library.cuDeviceGetCount(ctypes.byref(count)))
    if code not in (0, NO_DEVICE):
        raise AgentError(
            "gpu",
            f"the NVIDIA driver is installed and does not work: cuInit gives error {code}. Compare "
            "nvidia-smi, and restart the device after a driver's update. " + ELSEWHERE,
        )
    if code == NO_DEVICE or count.value == 0:
        raise AgentError(
            "gpu",
            "the NVIDIA driver finds no GPU here; TensorRT needs one. In a container, start it "
            "with its GPUs (--gpus all, or --runtime nvidia). " + ELSEWHERE,
        )
    library.cuDriverGetVersion(ctypes.byref(version))
    return Driver(_dotted(version.value), tuple(_gpu(library, i) for i in range(count.value)))


def _gpu(library: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(name.value.decode("utf-8", errors="replace"), f"{numbers[0]}.{numbers[1]}")


def _dotted(version: int) -> str:
    """``12060`` is CUDA 12.6."""
    return f"{version // 1000}.{version % 1000 // 10}"


class Cuda:
    """Memory, streams and events of the first GPU; all are plain integers."""

    def __init__(self) -> None:
        self._library = _load()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> str:
        """Of the runtime library, such as ``12.6``."""
        value = ctypes.c_int(0)
        self._call("cudaRuntimeGetVersion", ctypes.byref(value))
        return _dotted(value.value)

    def malloc(self, size: int) -> int:
        """``size`` bytes of the GPU's memory; at least one, as none has no address."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def stream(self) -> int:
        """A stream of its own: on the default one TensorRT synchronises more than it has to."""
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), ctypes.c_uint(NON_BLOCKING))
        return int(stream.value or 0)

    def destroy(self, stream: int) -> None:
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def send(self, address: int, array: Any, stream: int) -> None:
        """Copy a C-ordered array to the GPU; it must live until :meth:`synchronise`."""
        self._copy(address, array.ctypes.data, array.nbytes, TO_DEVICE, stream)

    def fetch(self, array: Any, address: int, stream: int) -> None:
        """Fill a C-ordered array from the GPU; it is whole after :meth:`synchronise`."""
        self._copy(array.ctypes.data, address, array.nbytes, TO_HOST, stream)

    def synchronise(self, stream: int) -> None:
        """Wait for all that was put on the stream."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def event(self) -> int:
        """A point in a stream, to be recorded."""
        event = ctypes.c_void_p()
        self._call("cudaEventCreate", ctypes.byref(event))
        return int(event.value or 0)

    def record(self, event: int, stream: int) -> None:
        """Let an event happen once all that was put on the stream before is done."""
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def between_ns(self, first: int, last: int) -> int:
        """Time between two events that have happened, by the GPU's clock (steps of 0.5 us)."""
        ms = ctypes.c_float(0)
        events = ctypes.c_void_p(first), ctypes.c_void_p(last)
        self._call("cudaEventElapsedTime", ctypes.byref(ms), *events)
        return round(ms.value * 1e6)

    def forget(self, event: int) -> None:
        self._call("cudaEventDestroy", ctypes.c_void_p(event))

    def free_bytes(self) -> int:
        """Of the GPU's memory, whoever else uses it."""
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def integrated(self) -> bool:
        """Whether the GPU has no memory of its own, as on a Jetson."""
        value = ctypes.c_int(0)
        place = ctypes.c_int(INTEGRATED), ctypes.c_int(0)
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), *place)
        return bool(value.value)

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        place = ctypes.c_int(kind), ctypes.c_void_p(stream)
        self._call("cudaMemcpyAsync", *pointers, ctypes.c_size_t(size), *place)

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code != 0:
            words = self._library.cudaGetErrorString(ctypes.c_int(code)) or b""
            said = words.decode("utf-8", errors="replace")
            kind = "memory" if code == 2 else "gpu"  # 2: cudaErrorMemoryAllocation
            raise AgentError(
                kind,
                f"the GPU refused {name}: {said} (error {code}). Use a smaller batch or model, or "
                "stop other programs on the GPU, if it is memory; else restart the device.",
            )


def _load() -> Any:
    """The runtime library: the system's, CUDA's own folder, or a wheel's of pip."""
    for name in [*RUNTIMES, *(str(file) for file in _unlisted())]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise AgentError(
        "library",
        "there is no libcudart.so on this device's library path, in /usr/local/cuda or in Python's "
        "packages. It comes with CUDA (JetPack: apt install cuda-cudart), and with pip's tensorrt.",
    )


def _unlisted() -> List[Path]:
    """Libraries in places that the system's loader does not search."""
    wheels = [
        file
        for folder in sys.path
        for pattern in ("nvidia/*/lib/libcudart.so*", "nvidia/lib/libcudart.so*")
        for file in sorted(Path(folder or ".").glob(pattern))
    ]
    return sorted(Path("/usr/local").glob("cuda*/lib64/libcudart.so*")) + wheels
