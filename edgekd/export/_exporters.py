"""PyTorch's two ONNX exporters, in the order they are tried, silenced and made alike."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.errors import EdgeKDError
from edgekd.export._opset import NATIVE, lower

__all__ = ["EXPORTERS", "OUTPUT", "Exporter", "cause_of", "reason_of"]

OUTPUT = "logits"
BATCH = "batch"

Exporter = Callable[[nn.Module, Tensor, str, Path, int], None]
"""(network, example input, the input's name, file, opset): writes the file or raises anything."""


def dynamo(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    """Capture with ``torch.export``: the fewest nodes; opsets 16 and up."""
    with _quiet():
        torch.onnx.export(
            network,
            (example,),
            str(file),
            input_names=[name],
            output_names=[OUTPUT],
            opset_version=max(opset, NATIVE),
            verbose=False,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: BATCH},),
        )
    if opset < NATIVE:
        import onnx

        model = onnx.load(file)
        lower(model, opset)
        onnx.save(model, file)


def torchscript(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    """Trace with TorchScript: the old way, more nodes; opsets 7 to 20."""
    with _quiet():
        torch.onnx.export(
            network,
            (example,),
            str(file),
            input_names=[name],
            output_names=[OUTPUT],
            opset_version=opset,
            verbose=False,
            dynamo=False,
            dynamic_axes={name: {0: BATCH}, OUTPUT: {0: BATCH}},
        )


EXPORTERS: dict[str, Exporter] = {"dynamo": dynamo, "torchscript": torchscript}


def cause_of(error: BaseException) -> BaseException:
    """What went wrong in the first place."""
    while error.__cause__ is not None and not isinstance(error, EdgeKDError):
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str:
    """One line that says why: PyTorch wraps the cause in a page of advice."""
    error = cause_of(error)
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0] if isinstance(error, EdgeKDError) else f"{type(error).__name__}: {lines[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say off the terminal; what they refuse is raised all the same.

    They warn of their own deprecations, and where one fails it prints the whole graph, some of it
    from C++, before it raises: pages that hide the one line that matters.
    """
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        with _silenced(1), _silenced(2):
            yield


@contextmanager
def _silenced(descriptor: int) -> Iterator[None]:
    """Drop what is written to a file descriptor, past Python's own streams."""
    kept = os.dup(descriptor)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
