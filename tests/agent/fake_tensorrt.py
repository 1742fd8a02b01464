"""A TensorRT and a CUDA that are none, to run the agent's code where there is no GPU.

The names are those of the real bindings of seven releases (``tests/fixtures/tensorrt-api.json``,
dumped from NVIDIA's wheels); touching one that a release lacks raises AttributeError, as there. An
engine is its ONNX file behind a header, and ONNX Runtime computes it, so that what comes out of the
runner is right only if every address, shape and copy was.

What real TensorRT refuses, this refuses: an ONNX graph without explicit batch before 10 (and one of
an opset that it would misread), precision
flags on a strongly typed network, half weights or Q/DQ without their flag on a weakly typed one, a
free batch without a profile, an engine of another release.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

API: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures/tensorrt-api.json").read_text("utf-8")
)
# JetPack 5's release, of which there is no wheel: 8.6.1 without what its release notes list as new.
ADDED_IN_8_6 = {
    "builder_optimization_level",
    "hardware_compatibility_level",
    "engine_host_code_allowed",
    "VERSION_COMPATIBLE",
    "EXCLUDE_LEAN_RUNTIME",
    "HardwareCompatibilityLevel",
}
API["8.5.2.2"] = {
    kind: {
        name: [m for m in members or () if m not in ADDED_IN_8_6]
        for name, members in API["8.6.1"][kind].items()
        if name not in ADDED_IN_8_6
    }
    for kind in ("classes", "enums")
}
VERSIONS = sorted(API, key=lambda v: [int(part) for part in v.split(".")])
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
         "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}  # fmt: skip
WORDS = {"fp32": "FP32", "fp16": "FP16", "int8": "Int8"}
ENGINE_MS, COPY_MS = 3.0, 0.5
"""What an engine and a copy take by the GPU's clock."""
MULTIPLIERS = ("Conv", "Gemm", "MatMul")


@dataclass
class World:
    """One release on one device, and all that was done to it."""

    version: str
    dla_cores: int = 0
    obedient: bool = True
    """Whether fp16 and int8 are taken where they are permitted."""
    refuses_caches: bool = False
    calls: list[tuple[str, str, tuple[Any, ...]]] = field(default_factory=list)
    module: Any = None
    cudart: Any = None
    """The CUDA beside it, whose time an engine takes."""

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def called(self, kind: str, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a method; of ``set NAME`` for an attribute."""
        return [arguments for k, n, arguments in self.calls if (k, n) == (kind, name)]


class Guarded:
    """An object that has the names its release has, and no others."""

    world: ClassVar[World]
    members: ClassVar[frozenset[str]]

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        kind = type(self)
        if name not in kind.members:
            raise AttributeError(f"{kind.__name__} has no {name} in {kind.world.version}")
        try:
            value = object.__getattribute__(self, name)
        except AttributeError:  # a name that it has, and that does nothing here
            value = _nothing
        return partial(_recorded, kind, name, value) if callable(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if not name.startswith("_"):
            if name not in kind.members:
                raise AttributeError(f"{kind.__name__} has no {name} in {kind.world.version}")
            kind.world.calls.append((kind.__name__, f"set {name}", (value,)))
        object.__setattr__(self, name, value)


def _nothing(*arguments: Any) -> None: ...


def _recorded(kind: type[Guarded], name: str, method: Callable[..., Any], *arguments: Any) -> Any:
    kind.world.calls.append((kind.__name__, name, arguments))
    return method(*arguments)


class ILogger:
    """Subclassed by the code under test."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, message: str) -> None:
        """Overridden."""


class IProfiler:
    """Subclassed by the code under test."""


class Builder(Guarded):
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        return type(self).world.dla_cores

    def create_network(self, flags: int) -> Any:
        return type(self).world.module.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return type(self).world.module.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return type(self).world.module.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        world = type(self).world
        graph, flags = network._graph, {flag.name for flag in config._flags}
        wrong = _objection(world, network, config, flags)
        if wrong:
            self._logger.log(ILogger.ERROR, wrong)
            return None
        permitted = "fp16" if "FP16" in flags else "fp32"
        kind = graph.kind if world.obedient and graph.kind != "fp32" else permitted
        header = {
            "version": world.version,
            "kind": kind if world.obedient else "fp32",
            "detailed": getattr(config.profiling_verbosity, "name", "") == "DETAILED",
            "shapes": config._profile._shapes if config._profile else {},
        }
        if config._cache is not None:
            config._cache = b"TIMED" + config._cache
        return bytes(json.dumps(header).encode() + b"\n" + graph.file.read_bytes())


def _objection(world: World, network: Any, config: Any, flags: set[str]) -> str:
    graph = network._graph
    if graph is None:
        return "the network is empty"
    if network._typed and flags & {"FP16", "INT8"}:
        return "precision flags are invalid for a strongly typed network"
    if not network._typed and graph.kind == "int8" and "INT8" not in flags:
        return "Q/DQ layers need the INT8 flag"
    if not network._typed and graph.kind == "fp16" and "FP16" not in flags:
        return "half weights need the FP16 flag"
    free = [name for name, shape in graph.inputs.items() if -1 in shape]
    if free and (config._profile is None or set(free) - set(config._profile._shapes)):
        return f"{free[0]} has dynamic dimensions but no optimization profile"
    return ""


class INetworkDefinition(Guarded):
    def __init__(self, flags: int) -> None:
        names = type(self).world.module.NetworkDefinitionCreationFlag
        asked = {flag.name for flag in names if flags >> int(flag) & 1}
        self._explicit = "EXPLICIT_BATCH" in asked or type(self).world.major >= 10
        self._typed = "STRONGLY_TYPED" in asked or type(self).world.major >= 11
        self._graph: Graph | None = None

    @property
    def num_inputs(self) -> int:
        return len(self._graph.inputs) if self._graph else 0

    def get_input(self, index: int) -> Any:
        assert self._graph is not None
        name, shape = list(self._graph.inputs.items())[index]
        return types.SimpleNamespace(name=name, shape=shape)

    @property
    def num_layers(self) -> int:
        return 1

    def get_layer(self, index: int) -> Any:
        assert self._graph is not None
        types_of = type(self).world.module.DataType
        held = {"fp32": types_of.FLOAT, "fp16": types_of.HALF, "int8": types_of.INT8}
        tensor = types.SimpleNamespace(dtype=held[self._graph.kind])
        return types.SimpleNamespace(num_outputs=1, get_output=lambda index: tensor)


class OnnxParser(Guarded):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network = network
        self._errors: list[str] = []

    def parse_from_file(self, path: str) -> bool:
        if not self._network._explicit:
            self._errors = ["the ONNX parser supports networks with explicit batch only"]
            return False
        try:
            graph = Graph(Path(path))
        except Exception as error:  # protobuf's errors have no class of their own
            self._errors = [f"not an ONNX file: {error}"]
            return False
        # the real one says nothing and reduces over the batch, which no code may rely on
        if type(self).world.major < 10 and graph.opset > 17:
            self._errors = [f"opset {graph.opset} would be misread"]
            return False
        self._network._graph = graph
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> str:
        return str(self._errors[index])


class IBuilderConfig(Guarded):
    def __init__(self) -> None:
        self._flags: set[Any] = {type(self).world.module.BuilderFlag.TF32}  # as the real default
        self._profile: Any = None
        self._cache: bytes | None = None
        self._verbosity: Any = None

    profiling_verbosity: Any = None
    default_device_type: Any = None
    DLA_core: int = -1

    def set_flag(self, flag: Any) -> None:
        assert flag in type(self).world.module.BuilderFlag
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None: ...

    def add_optimization_profile(self, profile: Any) -> int:
        shapes = profile._shapes.values()
        valid = all(list(least) <= list(most) for least, _, most in shapes)
        self._profile = profile
        return 0 if valid else -1

    def create_timing_cache(self, data: bytes) -> Any:
        return types.SimpleNamespace(data=data)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.data and type(self).world.refuses_caches:
            return False
        self._cache = cache.data
        return True

    def get_timing_cache(self) -> Any:
        if self._cache is None:
            return None
        return types.SimpleNamespace(serialize=lambda: self._cache)


class IOptimizationProfile(Guarded):
    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self._shapes[name] = [least, best, most]


class Runtime(Guarded):
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        world, (header, _, onnx) = type(self).world, plan.partition(b"\n")
        try:
            table = json.loads(header)
        except ValueError:
            table = {"version": "?"}
        if table["version"] != world.version:
            self._logger.log(ILogger.ERROR, f"serialized version {table['version']} does not match")
            return None
        return world.module.ICudaEngine(table, onnx)


class ICudaEngine(Guarded):
    def __init__(self, header: dict[str, Any], onnx: bytes) -> None:
        import onnxruntime

        self._header, self._onnx = header, onnx
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = {value.name: value for value in self._session.get_outputs()}
        self._tensors = {**self._inputs, **self._outputs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._tensors)[index])

    def get_tensor_mode(self, name: str) -> Any:
        modes = type(self).world.module.TensorIOMode
        return modes.INPUT if name in self._inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        words = {"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8", "tensor(float16)": "HALF",
                 "tensor(int64)": "INT64"}  # fmt: skip
        return type(self).world.module.DataType[words[self._tensors[name].type]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._tensors[name].shape
        return tuple(size if isinstance(size, int) else -1 for size in shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        return self._header["shapes"][name]

    def create_execution_context(self) -> Any:
        return type(self).world.module.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return type(self).world.module.EngineInspector(self)


class EngineInspector(Guarded):
    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        engine, eleven = self._engine, type(self).world.major >= 11
        layers: list[Any] = [
            _layer_json(name, kind, engine._header["kind"], eleven)
            for name, kind in _layers(engine._onnx)
        ]
        if not engine._header["detailed"]:
            layers = [layer["Name"] for layer in layers]
        names = list(engine._tensors)
        ends = {"I/O Tensors": [{"Name": n} for n in names]} if eleven else {"Bindings": names}
        return json.dumps({"Layers": layers, **ends})


class IExecutionContext(Guarded):
    profiler: Any = None

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._inferred = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        limits = self._engine._header["shapes"].get(name)
        if limits and not all(
            a <= n <= b for a, n, b in zip(limits[0], shape, limits[2], strict=True)
        ):
            return False
        self._shapes[name] = shape
        self._inferred = False
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        self._inferred = not missing
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0] if self._inferred else -1
        return tuple(batch if n == -1 else n for n in self._engine.get_tensor_shape(name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream, "the default stream"
        feed = {name: self._array(name, self._shapes[name]).copy() for name in self._engine._inputs}
        for name, values in zip(
            self._engine._outputs, self._engine._session.run(None, feed), strict=True
        ):
            self._array(name, values.shape)[...] = values
        if type(self).world.cudart is not None:
            type(self).world.cudart.now_ms += ENGINE_MS
        if self.profiler is not None:
            for name, _ in _layers(self._engine._onnx):
                self.profiler.report_layer_time(name, 0.25)
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        dtype = np.dtype(nptype(self._engine.get_tensor_dtype(name)))
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(buffer, dtype).reshape(shape)


class Graph:
    """What the fake parser reads of an ONNX file."""

    def __init__(self, file: Path) -> None:
        import onnx

        self.file, model = file, onnx.load(file)
        self.opset = next(one.version for one in model.opset_import if one.domain == "")
        self.inputs = {
            value.name: tuple(d.dim_value or -1 for d in value.type.tensor_type.shape.dim)
            for value in model.graph.input
        }
        half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
        quantised = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
        self.kind = "int8" if quantised else "fp16" if half else "fp32"


def _layers(data: bytes) -> list[tuple[str, str]]:
    import onnx

    nodes = onnx.load_from_string(data).graph.node
    return [(node.name or node.output[0], node.op_type) for node in nodes]


def _layer_json(name: str, kind: str, precision: str, eleven: bool) -> dict[str, Any]:
    """A layer as the inspector of either generation writes it."""
    words = WORDS[precision]
    tensor = (
        {"Format": "Row major linear", "DataType": words}
        if eleven
        else {"Format/Datatype": f"Row major linear {words} format"}
    )
    multiplies = kind in MULTIPLIERS
    layer_type = "CaskConvolution" if multiplies else "Reformat" if "Linear" in kind else kind
    weights = {"Weights": {"Type": words, "Count": 10}} if multiplies else {}
    ends = {side: [{"Name": f"{name} {side}", **tensor}] for side in ("Inputs", "Outputs")}
    return {"Name": name, "LayerType": layer_type, **ends, **weights}


def nptype(dtype: Any) -> Any:
    """As the real package has it, for the types there are."""
    return np.dtype(NUMPY[dtype.name]).type


BEHAVIOURS: tuple[type[Guarded], ...] = (
    Builder,
    EngineInspector,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    INetworkDefinition,
    IOptimizationProfile,
    OnnxParser,
    Runtime,
)


def make(version: str, **world: Any) -> World:
    """One release's module, in ``.module``, and the record of what is done to it."""
    made = World(version, **world)
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    for name, members in API[version]["enums"].items():
        if members:
            setattr(module, name, enum.IntEnum(name, {m: i for i, m in enumerate(members)}))
    for behaviour in BEHAVIOURS:
        name = behaviour.__name__
        members = frozenset(API[version]["classes"][name])
        setattr(module, name, type(name, (behaviour,), {"world": made, "members": members}))
    module.ILogger, module.IProfiler, module.nptype = ILogger, IProfiler, nptype

    def plugins(logger: Any, namespace: str) -> bool:
        """A function of every release: its library's initLibNvInferPlugins."""
        made.calls.append(("module", "init_libnvinfer_plugins", (namespace,)))
        return True

    module.init_libnvinfer_plugins = plugins
    made.module = module
    return made


class Libcuda:
    """The driver's library, with one GPU unless told."""

    def __init__(self, name: str = "Orin", gpus: int = 1, error: int = 0) -> None:
        self.name, self.gpus, self.error = name, gpus, error

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.error

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self.name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


class Libcudart:
    """The runtime's library; its device memory is this process's, and its clock its own."""

    def __init__(self, room: int = 1 << 30, integrated: bool = False) -> None:
        self.room, self.integrated, self.now_ms = room, integrated, 100.0
        self.events: dict[int, float] = {}
        errors = {2: b"out of memory"}
        # a function, as ctypes' own: what it returns can be declared
        self.cudaGetErrorString = lambda code: errors.get(code.value, b"unknown error")
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.pending: list[tuple[int, int, int]] = []

    def cudaRuntimeGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cudaMalloc(self, address: Any, size: Any) -> int:  # noqa: N802
        if size.value > self.room:
            return 2
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    def cudaFree(self, address: Any) -> int:  # noqa: N802
        del self.memory[address.value]
        return 0

    def cudaStreamCreateWithFlags(self, stream: Any, flags: Any) -> int:  # noqa: N802
        stream._obj.value = 7 + len(self.streams)
        self.streams.add(stream._obj.value)
        return 0

    def cudaStreamDestroy(self, stream: Any) -> int:  # noqa: N802
        self.streams.remove(stream.value)
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        for target, source, size in self.pending:
            ctypes.memmove(target, source, size)
        self.pending = []
        return 0

    def cudaMemcpyAsync(  # noqa: N802
        self, target: Any, source: Any, size: Any, kind: Any, stream: Any
    ) -> int:
        device = target if kind.value == 1 else source
        assert len(self.memory[device.value]) >= size.value, "outside of what was allocated"
        assert stream.value in self.streams
        self.now_ms += COPY_MS
        if kind.value == 1:
            ctypes.memmove(target.value, source.value, size.value)
        else:  # late, as on a GPU: who does not wait reads rubbish
            self.pending.append((target.value, source.value, size.value))
        return 0

    def cudaEventCreate(self, event: Any) -> int:  # noqa: N802
        event._obj.value = 1000 + len(self.events)
        self.events[event._obj.value] = 0.0
        return 0

    def cudaEventRecord(self, event: Any, stream: Any) -> int:  # noqa: N802
        assert stream.value in self.streams
        self.events[event.value] = self.now_ms
        return 0

    def cudaEventElapsedTime(self, ms: Any, first: Any, last: Any) -> int:  # noqa: N802
        assert not self.pending, "who does not wait gets cudaErrorNotReady"
        ms._obj.value = self.events[last.value] - self.events[first.value]
        return 0

    def cudaEventDestroy(self, event: Any) -> int:  # noqa: N802
        del self.events[event.value]
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value = self.room - sum(len(one) for one in self.memory.values())
        total._obj.value = self.room
        return 0

    def cudaDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:  # noqa: N802
        assert (attribute.value, device.value) == (18, 0)
        value._obj.value = int(self.integrated)
        return 0


def libraries(driver: Libcuda | None, runtime: Libcudart | None) -> Callable[..., Any]:
    """A ``ctypes.CDLL`` that knows these two; the others are real."""
    real = ctypes.CDLL

    def load(name: Any, *arguments: Any, **more: Any) -> Any:
        known = {"libcuda.so.1": driver, "libcudart.so": runtime}
        if str(name).startswith(("libcuda.", "libcudart.")):
            if known.get(str(name)) is None:
                raise OSError(f"{name}: cannot open shared object file")
            return known[str(name)]
        return real(name, *arguments, **more)

    return load


def install(version: str, bindings: bool = True, **world: Any) -> World:
    """For a process of its own: TensorRT and CUDA from now on, until it ends."""
    made = make(version, **world)
    sys.modules["tensorrt"] = made.module if bindings else None  # type: ignore[assignment]
    made.cudart = Libcudart()
    ctypes.CDLL = libraries(Libcuda(), made.cudart)  # type: ignore[misc,assignment]
    return made
