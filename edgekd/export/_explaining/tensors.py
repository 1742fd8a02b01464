"""Run an ONNX file with the values between its nodes shown.

ONNX Runtime's graph optimisations are off, so that each node is computed as the file has it,
whichever values are shown. A quantised file hence computes with the numbers its integers stand for,
not with integer kernels, and what a cast to half precision cannot hold is lost where it is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Pixels
from edgekd.errors import UsageError
from edgekd.export._exporters import reason_of
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

__all__ = ["Shown", "Value", "flowing", "tensors"]

Value = NDArray[np.floating[Any]]
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


class Shown:
    """A file opened so that its floating-point values can be read.

    Args:
        file: an ONNX file with one input.
        names: which values; all that depend on the input unless told. What the file does not have,
            or has as integers, is left out.

    Raises:
        UsageError: ONNX Runtime, or ONNX itself, refuses the file.
    """

    def __init__(self, file: Path, names: Collection[str] | None = None) -> None:
        import onnx

        self.file = file
        try:
            self.model: ModelProto = onnx.load(file, load_external_data=False)
            self._session = _open(file, self.model, names)
        except Exception as error:  # neither has one class for its errors
            raise UsageError(f"ONNX Runtime refuses {file.name}: {reason_of(error)}") from error
        (self._entry,) = self._session.get_inputs()
        found = {o.name for o in self._session.get_outputs() if o.type in FLOATS}
        self.names = tuple(n for n in flowing(self.model.graph) if n in found)
        if names is not None:
            self.names = tuple(n for n in names if n in found)

    @property
    def entry(self) -> str:
        """Name of the file's input."""
        return str(self._entry.name)

    @property
    def output(self) -> str:
        """Name of the file's output."""
        return str(self.model.graph.output[0].name)

    @property
    def baked(self) -> bool:
        """Whether it takes pixels as they are, the preprocessing inside."""
        return bool(self._entry.type == "tensor(uint8)")

    def run(self, feed: Any) -> dict[str, Value]:
        """The values for one batch, as the file takes it.

        Raises:
            UsageError: it does not run.
        """
        try:
            found = self._session.run(list(self.names), {self._entry.name: feed})
        except Exception as error:  # see __init__
            raise UsageError(
                f"{self.file.name} does not run at batch {len(feed)}: {reason_of(error)}"
            ) from error
        return dict(zip(self.names, found, strict=True))

    def each(self, pixels: Pixels, preprocess: Preprocess) -> Iterator[dict[str, Value]]:
        """The values image by image, so that only those of one are in memory.

        A file whose batch is frozen gets as many copies of the image; its first answer counts.

        Args:
            pixels: (N, H, W, 3).
            preprocess: what a file without it inside is fed.

        Yields:
            values by name, the batch 1 in front.
        """
        frozen = self._entry.shape[0]
        for image in pixels[:, None]:
            feed = image if self.baked else normalised(image, preprocess)
            if not isinstance(frozen, int) or frozen == 1:
                yield self.run(feed)
            else:
                found = self.run(feed.repeat(frozen, axis=0))
                found = {name: np.atleast_1d(value) for name, value in found.items()}
                yield {name: value[: -(-len(value) // frozen)] for name, value in found.items()}


def tensors(file: Path, feed: Any, names: Collection[str] | None = None) -> dict[str, Value]:
    """Every floating-point value that a file computes from its input, by name, in order.

    All are in memory at once; :meth:`Shown.each` goes image by image.

    Args:
        file: an ONNX file with one input.
        feed: a batch as the file takes it.
        names: only these, constants too.

    Raises:
        UsageError: ONNX Runtime refuses the file or the batch.
    """
    return Shown(file, names).run(feed)


def flowing(graph: GraphProto) -> list[str]:
    """What depends on the graph's input, in the order it is computed: no weights, no constants."""
    constants = {tensor.name for tensor in graph.initializer}
    found = dict.fromkeys(entry.name for entry in graph.input if entry.name not in constants)
    for node in graph.node:
        if any(name in found for name in node.input):
            found.update(dict.fromkeys(filter(None, node.output)))
    return list(found)


def _open(file: Path, model: ModelProto, names: Collection[str] | None) -> Any:
    """A session of a copy of the model in memory, the values among its outputs."""
    import onnx
    import onnxruntime
    import torch

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    made = {name for node in graph.node for name in node.output}
    wanted = flowing(graph) if names is None else names
    shown = {output.name for output in graph.output}
    for name in wanted:
        if name in made and name not in shown:
            graph.output.append(onnx.ValueInfoProto(name=name))  # ONNX Runtime infers the type
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = min(2, torch.get_num_threads())
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised as well
    options.add_session_config_entry(FOLDER_OF_WEIGHTS, str(file.parent.resolve()))
    return onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
