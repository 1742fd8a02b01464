"""Refuse a graph that a release of TensorRT would misread without a word."""

from __future__ import annotations

from typing import Tuple

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import OnnxFile

TYPED = (10, 0)
"""From here on reductions are read rightly, and the types of a graph can be binding."""
REDUCES = 17
"""The last opset whose reductions have their axes as an attribute (ReduceSum had left at 13)."""
NORMALISES = (8, 6)
"""The first release with LayerNormalization."""
LAYER_NORM = "LayerNormalization"


def check_readable(name: str, graph: OnnxFile, release: str) -> None:
    """Compare a graph with a release.

    TensorRT 8 overlooks the axes of a reduction where they are an input, as from opset 18 on, and
    reduces over all of them, the batch included (onnx-tensorrt, ``reduceTensor`` of release/8.5-GA
    and 8.6-GA).

    Args:
        name: of the file, for the message.
        graph: what the file says of itself.
        release: such as ``8.6.1``.

    Raises:
        AgentError: it would be misread, or has an operator that the release lacks.
    """
    version = numbers(release)
    if version < TYPED and graph.opset > REDUCES:
        raise AgentError(
            "model",
            f"{name} has ONNX opset {graph.opset}, and TensorRT {release} reads up to {REDUCES}: "
            "it would take reductions of a later one over all axes, the batch included, without "
            "saying so. Export it for this device (edgekd export --trt --device ...), or with "
            f"--opset {REDUCES}.",
        )
    if version < NORMALISES and graph.operators.get(LAYER_NORM):
        raise AgentError(
            "model",
            f"{name} has {graph.operators[LAYER_NORM]} {LAYER_NORM} nodes, which TensorRT "
            f"{release} lacks. Export it for this device, or with --opset {REDUCES - 1}, where "
            "they are written out.",
        )


def numbers(release: str) -> Tuple[int, ...]:
    """``8.6.1`` or ``10.13.3.9``, to be compared."""
    return tuple(int(part) for part in release.split(".") if part.isdigit())
