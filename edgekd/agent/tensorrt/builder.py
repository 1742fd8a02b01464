"""Make an engine of an ONNX file, with whatever this release of TensorRT offers.

Names are looked for rather than versions compared, because the releases between differ in single
names (8.5 to 11.4; NVIDIA, "TensorRT Python API Reference" of each). What decides:

- 8.x and 9.x default to a batch that is not in the shapes: EXPLICIT_BATCH has to be asked for. 10
  ignores it, 11 has no such name.
- Where STRONGLY_TYPED is, the graph's own types hold. Where it is not, precision is a permission
  (FP16, INT8), which 11 no longer has. For a DLA it stays one as long as there are permissions:
  so does trtexec (sampleEngines.cpp up to 10 sets FP16 for a DLA itself), and both build alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Set

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import timing
from edgekd.agent.tensorrt.messages import last_words, listener
from edgekd.agent.tensorrt.probe import start, version
from edgekd.agent.tensorrt.spec import BuildSpec

FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",)}
"""int8 alone: the rest of the graph stays in the float32 that its parity was proved in."""
HELD = {"HALF": "FP16", "INT8": "INT8"}
IMPLICIT_BATCH_UNTIL = 10


@dataclass(frozen=True)
class Plan:
    """A serialised engine, and how it came about."""

    data: bytes
    typed: bool
    """Whether the network was strongly typed."""
    seconds: float
    timing_cache: str
    """``none``, ``new``, ``used`` or ``refused``."""


def build(trt: Any, spec: BuildSpec, cache: Optional[Path] = None) -> Plan:
    """Build an engine; it takes seconds to many minutes.

    Args:
        trt: the module.
        spec: what is wanted.
        cache: file with what earlier builds measured; it is brought up to date.

    Raises:
        AgentError: no GPU, a graph that TensorRT cannot take, or a wish this release cannot grant.
    """
    logger = listener(trt)
    builder = start(trt, "Builder", logger)
    typed = _is_typed(trt, spec)
    network = builder.create_network(_network_flags(trt, typed))
    parser = trt.OnnxParser(network, logger)  # must outlive the network, which holds its weights
    if not parser.parse_from_file(str(spec.onnx)):
        raise _unparsed(trt, parser, spec)
    config = _configured(trt, builder, network, spec, typed)
    state = timing.attach(config, cache)
    started = time.perf_counter()
    data = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if data is None:
        raise AgentError(
            "model",
            f"TensorRT {trt.__version__} cannot build {spec.onnx.name} in {spec.precision}. "
            f"{last_words(logger)} Try another precision, or more workspace.",
        )
    timing.keep(config, cache)
    return Plan(bytes(data), typed, seconds, state)


def _is_typed(trt: Any, spec: BuildSpec) -> bool:
    """Whether the network is to be strongly typed; as ``trtexec_command.is_typed``."""
    offered = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    permitted = spec.dla_core is not None and hasattr(trt.BuilderFlag, "FP16")
    return spec.typed and offered and not permitted


def _network_flags(trt: Any, typed: bool) -> int:
    flags, names = 0, trt.NetworkDefinitionCreationFlag
    if version(trt)[0] < IMPLICIT_BATCH_UNTIL:
        flags |= 1 << int(names.EXPLICIT_BATCH)
    if typed:
        flags |= 1 << int(names.STRONGLY_TYPED)
    return flags


def _configured(trt: Any, builder: Any, network: Any, spec: BuildSpec, typed: bool) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace_mib << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the layers have names only
    # Ten bits of mantissa are not float32: neither in an fp32 engine, nor in the float layers that
    # an fp16 or int8 graph was proved with.
    config.clear_flag(trt.BuilderFlag.TF32)
    if not typed:
        _permit(trt, config, network, spec)
    if spec.dla_core is not None:
        _use_dla(trt, builder, config, spec)
    _set_batches(trt, builder, network, config, spec)
    return config


def _permit(trt: Any, config: Any, network: Any, spec: BuildSpec) -> None:
    """Permit the precision asked for; and that of the graph, where it has one of its own."""
    names = set(FLAGS[spec.precision])
    if spec.typed:
        names |= {HELD[dtype] for dtype in _types(network) if dtype in HELD}
    for name in sorted(names):
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is None:
            raise AgentError(
                "precision",
                f"TensorRT {trt.__version__} takes no {spec.precision} permission for a graph that "
                f"is not {spec.precision} itself. Export a typed graph: --precision "
                f"{spec.precision} for this device writes one.",
            )
        config.set_flag(flag)


def _types(network: Any) -> Set[str]:
    """Names of the types in a network."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return {
        layer.get_output(index).dtype.name for layer in layers for index in range(layer.num_outputs)
    }


def _use_dla(trt: Any, builder: Any, config: Any, spec: BuildSpec) -> None:
    """Build for a deep-learning accelerator; layers it cannot take run on the GPU."""
    cores = int(builder.num_DLA_cores)
    if spec.dla_core is None or spec.dla_core >= cores:
        here = f"has {cores}, numbered from 0" if cores else "has none"
        raise AgentError(
            "provider",
            f"DLA core {spec.dla_core} was asked for and this device {here}. Build for its GPU "
            "(leave the DLA core out), or name a device that has a DLA: Jetson Xavier, Orin.",
        )
    if spec.precision == "fp32":
        raise AgentError(
            "provider",
            "a DLA computes fp16 and int8 only, and fp32 was asked for. Ask for --precision fp16.",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = spec.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_batches(trt: Any, builder: Any, network: Any, config: Any, spec: BuildSpec) -> None:
    """One optimisation profile, where a batch is free at all."""
    free = [
        tensor
        for tensor in (network.get_input(index) for index in range(network.num_inputs))
        if -1 in tuple(tensor.shape)
    ]
    if not free:
        return
    profile = builder.create_optimization_profile()
    batch = spec.batch
    for tensor in free:
        sizes = spec.inputs.get(tensor.name, tuple(tensor.shape)[1:])
        if -1 in sizes:
            raise AgentError(
                "input",
                f"{spec.onnx.name} leaves more than the batch of {tensor.name} free: "
                f"{tuple(tensor.shape)}. Export it with a fixed height and width.",
            )
        shapes = ((size, *sizes) for size in (batch.least, batch.best, batch.most))
        profile.set_shape(tensor.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise AgentError(
            "input",
            f"TensorRT {trt.__version__} refuses batches of {batch.least} to {batch.most} for "
            f"{spec.onnx.name}, whose inputs are "
            f"{', '.join(f'{tensor.name} {tuple(tensor.shape)}' for tensor in free)}.",
        )


def _unparsed(trt: Any, parser: Any, spec: BuildSpec) -> AgentError:
    said = " / ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
    return AgentError(
        "model",
        f"TensorRT {trt.__version__} cannot read {spec.onnx.name}: {' '.join(said.split())[:600]}. "
        "Export it for this device's release, or with a lower --opset.",
    )
