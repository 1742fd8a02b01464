"""PyTorch's two ONNX exporters, in the order they are tried, silenced and made alike."""

from __future__ import annotations

import gc
import linecache
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from edgekd.errors import EdgeKDError, UsageError
from edgekd.export._branches import first_read
from edgekd.export._network import weight_bytes
from edgekd.export._opset import NATIVE, lower
from edgekd.shortage import check_shortage

__all__ = ["EXPORTERS", "LIMIT", "OUTPUT", "Exporter", "cause_of", "check_opset", "reason_of"]

LIMIT = 2_000_000_000
"""Bytes of weights beyond which they go into a second file, ``NAME.onnx.data``. The format ends at
2 GiB (2,147,483,648); the rest is for the graph."""

OUTPUT = "logits"
BATCH = "batch"

Exporter = Callable[[nn.Module, Tensor, str, Path, int], None]
"""(network, example input, the input's name, file, opset): writes the file or raises anything."""


def dynamo(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    """Capture with ``torch.export``: the fewest nodes; opsets 16 and up.

    It refuses a network whose way through the code depends on the values of its images.
    """
    with _quiet(), _forgetting():
        torch.onnx.export(
            network,
            (example,),
            str(file),
            input_names=[name],
            output_names=[OUTPUT],
            opset_version=max(opset, NATIVE),
            verbose=False,
            dynamo=True,
            external_data=weight_bytes(network) > LIMIT,
            dynamic_shapes=({0: BATCH},),
        )
    if opset < NATIVE:
        import onnx

        model = onnx.load(file, load_external_data=False)
        lower(model, opset)
        onnx.save(model, file)


def torchscript(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    """Trace with TorchScript: the old way, more nodes; opsets 7 to 20.

    Raises:
        UsageError: the code of the network looks at the values of its images. A trace follows one
            branch for ever, without a word, and one image is enough to see the other.
    """
    read = first_read(network, example)
    if read:
        raise UsageError(
            f"{read}, so what it computes depends on the image; a trace would keep one way for all "
            "images. Write it with torch.where, without if"
        )
    with _quiet(), TemporaryDirectory(prefix=".trace.", dir=file.parent) as folder:
        draft = Path(folder) / file.name
        torch.onnx.export(
            network,
            (example,),
            str(draft),
            input_names=[name],
            output_names=[OUTPUT],
            opset_version=opset,
            verbose=False,
            dynamo=False,
            dynamic_axes={name: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
        _keep(draft, file, weight_bytes(network) > LIMIT)


def _keep(draft: Path, file: Path, big: bool) -> None:
    """Move a file to its place; of a big one this exporter makes many, of which two are made."""
    if not big:
        draft.replace(file)
        return
    import onnx

    onnx.save(
        onnx.load(draft),
        file,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{file.name}.data",
    )


EXPORTERS: dict[str, Exporter] = {"dynamo": dynamo, "torchscript": torchscript}


def check_opset(opset: int, readable: tuple[int, int], target: str) -> None:
    """Refuse an opset that the runtime of a device does not read, before anything is written.

    Args:
        opset: what was asked for.
        readable: the lowest and the highest that it reads.
        target: the device's name.

    Raises:
        UsageError: it is outside.
    """
    lowest, highest = readable
    if not lowest <= opset <= highest:
        raise UsageError(
            f"opset {opset} was asked for; the runtime of {target} reads {lowest} to {highest}. "
            f"Choose --opset {min(max(opset, lowest), highest)}, or leave it out: the device's own "
            "is taken then."
        )


def cause_of(error: BaseException) -> BaseException:
    """What went wrong in the first place."""
    while error.__cause__ is not None and not isinstance(error, EdgeKDError):
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str:
    """One line that says why: PyTorch wraps the cause in a page of advice.

    Raises:
        ShortageError: memory ran out, which says nothing of a file or of who writes or runs it.
    """
    check_shortage(error)
    error = cause_of(error)
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0] if isinstance(error, EdgeKDError) else f"{type(error).__name__}: {lines[0]}"


@contextmanager
def _forgetting() -> Iterator[None]:
    """Give back what PyTorch learned of shapes, and the code that it wrote.

    It would keep it for good: a part of it in caches that nobody asks again, and the rest because
    it holds itself by way of C++, where the garbage collector does not look.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx import graph_module
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    def known() -> list[ShapeEnv]:
        return [each for each in gc.get_objects() if type(each) is ShapeEnv]

    others, sources = known(), graph_module._loader.eval_cache
    written = set(sources)
    try:
        yield
    finally:
        for name in sources.keys() - written:  # the code of graphs that are gone
            del sources[name]
            linecache.cache.pop(name, None)
        FakeTensorMode.cache_clear()
        for made in known():
            if not any(made is other for other in others):
                vars(made).clear()
        for remembering in vars(ShapeEnv).values():  # each up to 256 of them, by its arguments
            if hasattr(remembering, "cache_clear"):
                remembering.cache_clear()


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
