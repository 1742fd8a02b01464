"""Run the model with ONNX Runtime, on the provider and the threads it was measured with."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict


def open_model(file: Path, runtime: Dict[str, Any]) -> Callable[[Any], Any]:
    """The model, ready: from one input (1, ...) to its logits (1, K)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it tells its makers what it runs
    try:
        ort = import_module("onnxruntime")
    except ImportError as error:
        sys.exit(f"{error}: python3 -m pip install -r requirements.txt")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    options.intra_op_num_threads = runtime["threads"] or 0  # 0: one a core
    options.inter_op_num_threads = 1
    spinning = "1" if runtime["spinning"] else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    provider, offered = runtime["provider"], ort.get_available_providers()
    if provider not in offered:
        sys.exit(f"this ONNX Runtime has no {provider}, only {', '.join(offered)}.")
    session = ort.InferenceSession(str(file), options, providers=[provider])
    if session.get_providers()[0] != provider:
        sys.exit(f"{provider} does not work here: ONNX Runtime fell back to another one.")
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]
