"""Copies of an exported artifact in another precision's name, with answers of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgekd.artifact import create


def copied(
    source: Path, out: Path, precision: str = "fp32", noise: float = 0.0, **sections: Any
) -> Path:
    """An artifact like another one.

    Args:
        source: exported as ONNX.
        out: the new folder.
        precision: the one its manifest says was asked for.
        noise: added to the weights of its last layer, as a share of their spread.
        sections: of the manifest, to replace.
    """
    manifest = json.loads((source / "manifest.json").read_text())
    del manifest["files"], manifest["created"]
    manifest["export"]["precision_asked"] = precision
    model = onnx.load(source / "model.onnx")
    last = model.graph.initializer[_last(model)]
    weights = numpy_helper.to_array(last)
    draw = np.random.default_rng(0).normal(0, noise * weights.std(), weights.shape)
    last.CopyFrom(numpy_helper.from_array((weights + draw).astype(weights.dtype), last.name))
    with create(out, manifest | sections) as folder:
        onnx.save(model, folder / "model.onnx")
    return out


def _last(model: onnx.ModelProto) -> int:
    """The place of the last layer's weights."""
    used = [name for node in model.graph.node for name in node.input]
    places = {tensor.name: i for i, tensor in enumerate(model.graph.initializer)}
    shapes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return places[[name for name in used if shapes.get(name) == 2][-1]]
