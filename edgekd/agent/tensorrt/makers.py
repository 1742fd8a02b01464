"""What makes engines on a device, and lets them answer: TensorRT's bindings, or else trtexec."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, FrozenSet, Protocol

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Session, load
from edgekd.agent.tensorrt import builder, cuda, probe, timing, trtexec
from edgekd.agent.tensorrt.cache import Place
from edgekd.agent.tensorrt.engine import layer_information, load_engine
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.trtexec_session import TrtexecSession


@dataclass(frozen=True)
class Made:
    """An engine that was just built."""

    data: bytes
    layers: str
    """What its inspector says of its layers: JSON."""
    typed: bool
    """Whether the network was strongly typed."""
    seconds: float
    timing_cache: str
    """``none``, ``new``, ``used`` or ``refused``."""


class Maker(Protocol):
    """A way to engines."""

    @property
    def name(self) -> str:
        """``python`` or ``trtexec``."""
        ...

    @property
    def one_batch_a_process(self) -> bool:
        """Whether each batch loads the engine anew."""
        ...

    def place(self) -> Place:
        """This device, as far as engines depend on it."""
        ...

    def make(self, spec: BuildSpec, place: Place) -> Made:
        """Build an engine; it takes seconds to many minutes.

        Raises:
            AgentError: it cannot be built.
        """
        ...

    def open(self, plan: Path, spec: BuildSpec, dtype: str) -> Session:
        """Load an engine; ``dtype`` is that of its inputs, for those who cannot ask it."""
        ...


@dataclass(frozen=True)
class Bindings:
    """TensorRT's module for Python."""

    trt: Any
    name: str = "python"
    one_batch_a_process: bool = False

    def place(self) -> Place:
        return Place.here(str(self.trt.__version__))

    def make(self, spec: BuildSpec, place: Place) -> Made:
        folder = spec.timing_cache
        file = timing.cache_file(folder, place.tensorrt, place.gpu) if folder else None
        plan = builder.build(self.trt, spec, file)
        layers = layer_information(self.trt, load_engine(self.trt, plan.data, spec.onnx.name))
        return Made(plan.data, layers, plan.typed, plan.seconds, plan.timing_cache)

    def open(self, plan: Path, spec: BuildSpec, dtype: str) -> Session:
        return load("trt").open(plan, {})


@dataclass(frozen=True)
class Program:
    """NVIDIA's trtexec."""

    path: str
    version: trtexec.Version
    options: FrozenSet[str]
    """Those its help lists; empty if that cannot be read."""
    name: str = "trtexec"
    one_batch_a_process: bool = True

    def place(self) -> Place:
        return Place.here(probe.dotted(self.version), _cuda_version())

    def make(self, spec: BuildSpec, place: Place) -> Made:
        folder = own_folder(spec.onnx)
        try:
            built = trtexec.build(spec, self.path, folder, gpu=place.gpu)
            data = built.engine.read_bytes()
        except BaseException:  # what is not judged must not lie about; the log stays, to be read
            (folder / trtexec.Outputs().engine).unlink(missing_ok=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return Made(data, built.layers, built.typed, built.seconds, built.timing_cache)

    def open(self, plan: Path, spec: BuildSpec, dtype: str) -> Session:
        return TrtexecSession(self.path, self.version, self.options, plan, spec, dtype)


def here() -> Maker:
    """The bindings, or trtexec where there are none.

    Raises:
        AgentError: neither, or no GPU; with what to install.
    """
    trt, program = probe.tools()
    if program is None:
        return Bindings(trt)
    return Program(program, *trtexec.ask(program))


def own_folder(onnx: Path) -> Path:
    """A folder beside the graph that no other build uses."""
    try:
        name = tempfile.mkdtemp(prefix=f"{onnx.stem}.", suffix=".trtexec", dir=onnx.parent)
    except OSError as error:
        raise AgentError(
            "output",
            f"{onnx.parent} cannot be written to ({error}). Make room on the device's disk, or "
            "make that folder writable.",
        ) from error
    return Path(name)


def _cuda_version() -> str:
    """Of the runtime library; the driver's where only trtexec knows its place."""
    try:
        return cuda.Cuda().version
    except AgentError:
        return cuda.probe().version
