"""Shortage: whether memory ran out, which every library says in words of its own."""

from __future__ import annotations

import errno
import mmap
import re
from collections.abc import Iterator

from edgekd.errors import EdgeKDError, ShortageError

WORDS = re.compile(
    "(?:can't|cannot|could not|failed to|unable to) (?:allocate|map segment|create (?:a )?thread)"
    "|out of memory|not enough memory|bad[_ ]alloc|\\bMemoryError\\b|can't start new thread"
    "|could not (?:create|execute) a primitive$"  # oneDNN's, where there is none for its code
    "|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation",
    re.IGNORECASE | re.MULTILINE,
)
GPU = re.compile("CUDA out of memory|CUBLAS|CUDNN|cudaError")
LONGEST = 160
"""Letters of what a library said."""
THREAD = 2**24
"""Bytes that a thread takes to begin: its stack, and what Python needs for its first call."""


def room_for_threads(count: int) -> None:
    """See that so many threads can begin; Python waits for ever for one that finds no memory.

    Raises:
        OSError: they cannot, as the system says it of memory.
    """
    mmap.mmap(-1, count * THREAD).close()  # asked for and given back, not written to


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out, behind an error or one that it was dealt with by."""
    return any(_says(one) for one in _behind(error))


def check_shortage(error: BaseException) -> None:
    """Refuse to go on where memory ran out: what else it would be taken for is wrong advice.

    Raises:
        ShortageError: it did.
    """
    if is_shortage(error):
        raise shortage_of(error) from error


def shortage_of(error: BaseException) -> ShortageError:
    """The same in words for a person."""
    first = next((one for one in _behind(error) if _says(one)), error)
    if isinstance(first, ShortageError):
        return first
    lines = str(first).strip().splitlines()
    said = next((line for line in lines if WORDS.search(line)), "".join(lines[:1]))
    whose = "the GPU's memory" if GPU.search(str(first)) else "memory"
    more = f" ({said.strip()[:LONGEST]})" if said else ""
    return ShortageError(f"{whose} ran out{more}.")


def _says(error: BaseException) -> bool:
    """An error of edgekd's own speaks of its memory by its class, and of a device's in words."""
    if isinstance(error, MemoryError | ShortageError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, EdgeKDError) or not isinstance(error, Exception):
        return False
    return WORDS.search(str(error)) is not None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """It, and what it came of."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        # what "from" was said of, even where it is None, did not come of what was dealt with
        one = one.__cause__ if one.__suppress_context__ else one.__context__
