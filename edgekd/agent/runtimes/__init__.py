"""Runtimes: what executes a model. One file, one runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

Arrays = Dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class TensorSpec:
    """An input of a model, as the model's own file declares it."""

    name: str
    dtype: str
    """numpy's name: ``uint8``, ``float32``."""
    shape: Tuple[Optional[int], ...]
    """None where the size is free."""

    def __str__(self) -> str:
        """``x: float32[?,3,224,224]``, for messages."""
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Layer:
    """A node of the graph that really ran, after the runtime's own fusions."""

    name: str
    type: str
    provider: str
    ms: float


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a GPU that a session takes."""

    bytes: int
    unified: bool
    """Whether it is the host's, as on a Jetson."""


class Session(Protocol):
    """A model that is loaded and ready.

    A session that keeps the device's own time of its last run has ``device_ns`` as well, and one
    that knows its memory on the device ``device_memory()``.
    """

    info: Mapping[str, str]
    """name, version and provider: as found, not as asked."""
    inputs: Sequence[TensorSpec]
    metadata: Mapping[str, str]
    """What the model's file says about itself, such as ``edgekd.mean``."""

    def run(self, feed: Arrays) -> Arrays:
        """Run once, host memory in and host memory out: this call is what is timed."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class Runtime(Protocol):
    """What turns a model's file into a session."""

    def prepare(self, model: Path, options: Mapping[str, Any]) -> Path:
        """Build and cache what ``open`` needs, such as an engine; untimed."""
        ...

    def made(self, model: Path, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
        """What is opened in place of the file: an engine, in the names of the record; else None."""
        ...

    def open(self, model: Path, options: Mapping[str, Any]) -> Session:
        """Load a prepared model."""
        ...

    def layers(self, model: Path, options: Mapping[str, Any], feed: Arrays) -> List[Layer]:
        """Run a few times with the runtime's own profiler on, apart from any timing."""
        ...


def load(name: str) -> Runtime:
    """The runtime of a name, imported when it is used."""
    import importlib

    module = importlib.import_module(f"{__name__}.{name}")
    (public,) = module.__all__
    runtime: Runtime = getattr(module, public)()
    return runtime
