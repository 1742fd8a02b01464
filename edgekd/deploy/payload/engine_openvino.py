"""Run the model with OpenVINO on the CPU, in the precision of its file, as it was measured."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict


def open_model(file: Path, runtime: Dict[str, Any]) -> Callable[[Any], Any]:
    """The model, ready: from one input (1, ...) to its logits (1, K)."""
    try:
        openvino = import_module("openvino")
    except ImportError as error:
        sys.exit(f"OpenVINO cannot be imported ({error}): python3 -m pip install openvino")
    core = openvino.Core()
    graph = core.read_model(str(file))
    shape = graph.input(0).partial_shape
    if shape[0].is_dynamic:  # a free batch size costs time in every run
        shape[0] = 1
        graph.reshape(shape)
    wanted = {
        "INFERENCE_PRECISION_HINT": "f32",  # else it computes in bf16 where the CPU can
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    if runtime["threads"]:
        wanted["INFERENCE_NUM_THREADS"] = runtime["threads"]
    request = core.compile_model(graph, "CPU", wanted).create_infer_request()
    return lambda values: request.infer([values]).to_tuple()[0]
