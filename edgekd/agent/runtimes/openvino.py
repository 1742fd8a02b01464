"""OpenVINO on the CPU, in the precision of the file rather than that of its own choice."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Mapping, Optional, Sequence

from edgekd.agent.failures import AgentError, explain_import
from edgekd.agent.onnx_file import read_onnx
from edgekd.agent.runtimes import Arrays, Layer, Session, TensorSpec

__all__ = ["OpenVino"]

DEVICE, PRECISION = "CPU", "f32"
NEWEST_OPSET = 24  # the highest that was compared with ONNX Runtime (OpenVINO 2026.4.1)
PROFILED_RUNS = 5


class OpenVino:
    """OpenVINO, which reads the same ONNX file as ONNX Runtime.

    On CPUs with bfloat16 it computes in that unless told otherwise, 100 to 10 000 times further
    from the float network (measured): here float32 is asked for, and int8 runs where the file says
    so. A batch size that the file leaves free is fixed before compiling, as one would deploy it.

    Options:
        threads: as many compute a run, pinned to cores; opening fails if OpenVINO takes fewer.
        batch_size: for a file that leaves it free; without it, it stays free.
    """

    def prepare(self, model: Path, options: Mapping[str, Any]) -> Path:
        _load()  # importing takes longer than many a model does to load, and is not its time
        return model

    def made(self, model: Path, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
        return None  # the file itself is run

    def open(self, model: Path, options: Mapping[str, Any]) -> Session:
        return _Session(model, options, _load())

    def layers(self, model: Path, options: Mapping[str, Any], feed: Arrays) -> List[Layer]:
        session = _Session(model, options, _load(), profile=True)
        spent: Dict[str, List[float]] = {}
        types: Dict[str, str] = {}
        session.run(feed)  # the first one is cold
        for _ in range(PROFILED_RUNS):
            session.run(feed)
            for node in session.profiled():
                spent.setdefault(node.node_name, []).append(1000 * node.real_time.total_seconds())
                types[node.node_name] = node.node_type
        session.close()
        where = session.info["provider"]
        return [Layer(name, types[name], where, median(ms)) for name, ms in spent.items()]


class _Session:
    def __init__(
        self, model: Path, options: Mapping[str, Any], openvino: Any, profile: bool = False
    ) -> None:
        version = str(openvino.__version__).partition("-")[0]
        _check_opset(model, version)
        core = openvino.Core()
        try:
            graph = core.read_model(str(model))
            _fix_batch(graph, options.get("batch_size"))
            compiled = core.compile_model(graph, DEVICE, _config(options, profile))
        except RuntimeError as error:  # what all of OpenVINO's own become in Python
            raise _bad_model(model, str(error), version) from error
        _check_found(compiled, options)
        self.info: Mapping[str, str] = {
            "name": "openvino",
            "version": version,
            "provider": f"{DEVICE} ({PRECISION})",
        }
        self.inputs: Sequence[TensorSpec] = [_spec(value) for value in graph.inputs]
        self.metadata: Mapping[str, str] = _metadata(graph)
        self._outputs = [value.any_name for value in compiled.outputs]
        self._request = compiled.create_infer_request()

    def run(self, feed: Arrays) -> Arrays:
        # Inputs are read where they lie, as ONNX Runtime does; outputs are copied out.
        found = self._request.infer(feed, share_inputs=True, share_outputs=False)
        return dict(zip(self._outputs, found.to_tuple()))

    def profiled(self) -> List[Any]:
        """What ran in the last run, in order; nodes that were folded away are left out."""
        nodes = self._request.get_profiling_info()
        return [node for node in nodes if node.status == node.EXECUTED]

    def close(self) -> None:
        self._request = None


def _load() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise explain_import(str(error)) or AgentError("module", str(error)) from error
    return openvino


def _config(options: Mapping[str, Any], profile: bool) -> Dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": int(options["threads"]),
        "INFERENCE_PRECISION_HINT": PRECISION,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "PERF_COUNT": profile,
    }


def _fix_batch(graph: Any, batch: Any) -> None:
    """Give the inputs the batch size they leave free: free sizes cost OpenVINO time each run."""
    shapes = {}
    for value in graph.inputs:
        shape = value.partial_shape
        if batch and shape.rank.is_static and len(shape) and shape[0].is_dynamic:
            shape[0] = int(batch)
            shapes[value.any_name] = shape
    if shapes:
        graph.reshape(shapes)


def _check_opset(model: Path, version: str) -> None:
    """OpenVINO reads an operator set that it does not know as an older one, and says nothing."""
    found = read_onnx(model).opset
    if found > NEWEST_OPSET:
        raise AgentError(
            "model",
            f"{model.name} has ONNX opset {found}; OpenVINO {version} would read one it does not "
            f"know as an older one, without saying so, and up to {NEWEST_OPSET} was tried. "
            "Export the model with a lower opset (edgekd writes 18 unless told).",
        )


def _check_found(compiled: Any, options: Mapping[str, Any]) -> None:
    """Refuse to measure anything else than what was asked for."""
    wanted = {"EXECUTION_DEVICES": DEVICE, "INFERENCE_NUM_THREADS": str(options["threads"])}
    found = {
        "EXECUTION_DEVICES": ",".join(compiled.get_property("EXECUTION_DEVICES")),
        "INFERENCE_NUM_THREADS": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        "INFERENCE_PRECISION_HINT": compiled.get_property(
            "INFERENCE_PRECISION_HINT"
        ).get_type_name(),
    }
    for key, value in {**wanted, "INFERENCE_PRECISION_HINT": PRECISION}.items():
        if found[key] != value:
            raise AgentError(
                "provider",
                f"{key} was asked to be {value} and OpenVINO took {found[key]}; that is not "
                "measured in its place. Ask for what it takes (--threads), or use --runtime ort.",
            )


def _spec(value: Any) -> TensorSpec:
    shape = value.partial_shape
    sizes = (
        [] if shape.rank.is_dynamic else [None if s.is_dynamic else s.get_length() for s in shape]
    )
    try:
        dtype = value.element_type.to_dtype().name
    except (RuntimeError, TypeError):  # numpy has none like it
        dtype = value.element_type.get_type_name()
    return TensorSpec(value.any_name, dtype, tuple(sizes))


def _metadata(graph: Any) -> Dict[str, str]:
    """The file's own properties, which OpenVINO keeps as what the framework said."""
    if not graph.has_rt_info("framework"):
        return {}
    table = graph.get_rt_info()["framework"]
    return {str(key): str(value.astype(str)) for key, value in table.items()}


def _bad_model(model: Path, said: str, version: str) -> AgentError:
    """Sort OpenVINO's refusals by what the reader can do about them."""
    told = " ".join(_NOISE.sub("", said).split())
    advice = next(text for words, text in _ADVICE if any(word in said for word in words))
    return AgentError(
        "model", f"OpenVINO {version} cannot load {model.name}: {advice} It said: {told[:500]}"
    )


_NOISE = re.compile(r"(Check '.*' failed at|Exception from) \S+:\d+:|FrontEnd API failed with \w+:")

_ADVICE = [
    (
        ["can't be parsed", "Unable to read the model", "isn't found for node", "graph cache"],
        "the file is not a whole ONNX model. Export it again, or copy it again and compare sizes.",
    ),
    (
        ["No conversion rule found", "does not support the following ONNX operations"],
        "it has operators that this release lacks. Update OpenVINO there, export the model with a "
        "lower opset (edgekd writes 18 unless told), or use --runtime ort.",
    ),
    (
        ["externally stored data", "external data"],
        "its weights are in a second file that did not come along. Export it into one file "
        "(external_data=False), or keep NAME.onnx.data beside NAME.onnx.",
    ),
    ([""], "the file was read and refused."),
]
