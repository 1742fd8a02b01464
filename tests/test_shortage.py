"""Memory that ran out is told from all else, in whatever words a library says it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.errors import CrewError, DeviceError, GateError, ShortageError, UsageError
from edgekd.export._exporters import reason_of
from edgekd.shortage import check_shortage, is_shortage, room_for_threads, shortage_of

CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
)
GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
RUN_OUT = [
    MemoryError(),
    MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    RuntimeError(CPU),
    RuntimeError("std::bad_alloc"),
    RuntimeError("can't start new thread"),
    RuntimeError("could not create a primitive"),
    RuntimeError("decoding failed:\nTraceback (most recent call last):\nMemoryError"),
    torch.OutOfMemoryError(GPU),
    ImportError("libtorch_cuda.so: failed to map segment from shared object"),
    ValueError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad allocation"),
    ValueError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer"),
]
NOT = [
    RuntimeError("could not create a primitive descriptor for a convolution"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    DeviceError("board: the device ran out of memory (MemoryError). Use a smaller batch."),
    CrewError("a process that decodes images was ended by signal 9; where memory runs out"),
    UsageError("cannot allocate"),
    RuntimeError("missing: MemoryErrorBlock.weight"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", RUN_OUT, ids=repr)
def test_memory_that_ran_out(error: Exception) -> None:
    assert is_shortage(error)
    words = str(shortage_of(error))
    assert words.startswith("the GPU's memory ran out" if "CUDA" in str(error) else "memory ran")
    assert len(words) < 200
    assert "\n" not in words
    with pytest.raises(ShortageError):
        reason_of(error)  # no exporter or runtime is refused for that


@pytest.mark.parametrize("error", NOT, ids=repr)
def test_what_is_something_else(error: BaseException) -> None:
    assert not is_shortage(error)
    check_shortage(error)


def test_behind_an_error_of_edgekds_own() -> None:
    """As a checkpoint that cannot be read for want of memory is not one that is damaged."""
    said = UsageError("the checkpoint cannot be read; start again with --restart.")
    said.__cause__ = RuntimeError(CPU)
    assert is_shortage(said)
    assert "4398046511104 bytes" in str(shortage_of(said))
    said.__cause__, said.__context__ = None, MemoryError()  # "from None": it was dealt with
    assert not is_shortage(said)
    around = GateError("one")
    around.__context__ = around.__cause__ = around  # a ring is no reason to hang
    assert not is_shortage(around)


def test_what_is_really_said_here() -> None:
    for ask in (lambda: torch.empty(2**50), lambda: np.empty(2**50), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            ask()
        assert is_shortage(raised.value)


def test_a_candidate_is_not_refused_for_good_where_memory_ran_out(tmp_path: Path) -> None:
    from edgekd.scouting.candidates import read_candidates
    from edgekd.scouting.keeping import Store
    from edgekd.scouting.ranking import Entry
    from edgekd.scouting.writing import Files

    def sketch(entry: Entry, folder: Path) -> Path:
        raise RuntimeError(CPU)

    entry = Entry(read_candidates(("resnet8",), (), 8, 10)[0], "fp32")
    store = Store({"device": str(tmp_path)}, 10)
    with pytest.raises(ShortageError):
        Files(sketch, store, tmp_path, apart=False).file(entry)
    assert store.refused(entry) is None


def test_threads_are_not_begun_where_python_would_wait_for_ever() -> None:
    room_for_threads(4)
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        room_for_threads(2**30)
    assert is_shortage(caught.value)
