"""Tiny ONNX classifiers: the class depends on the mean colour, through known weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def classifier(
    path: Path,
    *,
    baked: bool = True,
    size: Sequence[int | str] = (8, 8),
    batch: int | str = "batch",
    classes: int = 6,
    channels: int = 3,
    seed: int = 0,
    metadata: bool = False,
    repeat: int = 0,
) -> Path:
    """Write a classifier.

    Args:
        path: where.
        baked: uint8 NHWC with the normalisation in the graph; else float32 NCHW.
        size: height and width; a word leaves one free.
        batch: a number, or a word to leave it free.
        classes: logits.
        channels: of the input.
        seed: of the weights; one more is another model.
        metadata: whether to write mean and std into the file.
        repeat: extra work, as many sines of the whole image.
    """
    rng = np.random.default_rng(seed)
    nodes, constants = (
        [],
        {
            "weight": rng.normal(size=(channels, classes)).astype(np.float32) * 10,
            "bias": rng.normal(size=classes).astype(np.float32),
        },
    )
    last = "x"
    if baked:
        constants["scale"] = np.array([1 / (255 * s) for s in STD], np.float32)
        constants["shift"] = np.array([-m / s for m, s in zip(MEAN, STD, strict=True)], np.float32)
        nodes += [
            helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["normal"]),
            helper.make_node("Transpose", ["normal"], ["nchw"], perm=[0, 3, 1, 2]),
        ]
        last = "nchw"
    for index in range(repeat):
        nodes.append(helper.make_node("Sin", [last], [f"sin{index}"]))
        last = f"sin{index}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    shape = [batch, *size, channels] if baked else [batch, channels, *size]
    kind = TensorProto.UINT8 if baked else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata:
        for name, values in (("mean", MEAN), ("std", STD)):
            model.metadata_props.add(key=f"edgekd.{name}", value=json.dumps(values))
    onnx.save(model, path)
    return path


def pictures(count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> np.ndarray:
    """Decoded images of many mean colours."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (count, 1, 1, 3))
    grain = rng.integers(-20, 21, (count, *size, 3))
    images: np.ndarray = np.clip(colours + grain, 0, 255).astype(np.uint8)
    return images
