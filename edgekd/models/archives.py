"""PyTorch's files: read without ever running what they say, or unpacking more than they hold."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["load"]

ZIPPED = b"PK\x03\x04"
PROGRAM = "constants.pkl"
"""In the archives of TorchScript alone, which are programs."""


def load(file: Path | BytesIO, *, whole: bool = False, mapped: bool = False) -> Any:
    """What :func:`torch.save` wrote.

    Args:
        file: or its content.
        whole: compare the checksums as well, which files that edgekd wrote always have.
        mapped: of a file: read tensors when they are looked at.

    Raises:
        ValueError: it is damaged, not PyTorch's, or claims to hold more than it has room for.
        pickle.UnpicklingError: it holds more than tensors; loading that could run code.
        MemoryError: it is too large for the memory there is.
    """
    size, refusal = 0, None
    try:
        size = _check_members(file, whole=whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what is refused
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a damaged file makes the readers raise a dozen unrelated classes
        refusal = _plainly(error, size)
    if refusal is not None:  # by itself: of memory that is claimed, none ran out
        raise refusal
    held = sum({store.data_ptr(): store.nbytes() for store in _stores(found)}.values())
    if held > size:
        raise ValueError(f"its tensors claim {held:,} bytes, and it has {size:,}")
    return found


def _plainly(error: Exception, size: int) -> Exception:
    """What a reader's error means, of a file of so many bytes."""
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, pickle.UnpicklingError):
        if "Unsupported operand" not in str(error):  # which only a file that is no pickle has
            return error
        return ValueError("it is no file of PyTorch")
    wanted = re.search(r"allocate (\d+) bytes", said)
    if wanted is not None and int(wanted[1]) <= size:
        return MemoryError(said)
    if wanted is not None:
        return ValueError(f"a tensor claims {int(wanted[1]):,} bytes, and it has {size:,}")
    if "legacy .tar" in said:
        return pickle.UnpicklingError(said)
    if isinstance(error, EOFError | LookupError | AttributeError | TypeError) or not said:
        return ValueError("it is damaged, or no file of PyTorch")  # whose reader stumbled
    return ValueError(said)


def _check_members(file: Path | BytesIO, *, whole: bool) -> int:
    """Look at what an archive says of itself, before anything of it is unpacked.

    Returns:
        The bytes of the file.
    """
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        head = content.read(len(ZIPPED))
        content.seek(0)
        if head != ZIPPED:  # as PyTorch tells them from its older files
            return size
        with zipfile.ZipFile(content) as archive:
            members = archive.infolist()
            claimed = sum(member.file_size for member in members)
            if claimed > size:
                raise ValueError(f"it claims to unpack to {claimed:,} bytes, and it has {size:,}")
            if any(member.filename.endswith(f"/{PROGRAM}") for member in members):
                raise pickle.UnpicklingError("it is a program of TorchScript's")
            damaged = archive.testzip() if whole else None
            if damaged:
                raise ValueError(f"{damaged} in it was changed")
        content.seek(0)
        return size


def _stores(found: Any) -> Iterator[torch.UntypedStorage]:
    """The memory behind all tensors in tables, lists and tuples, however deep."""
    left, seen = [found], {id(found)}
    while left:
        each = left.pop()
        if isinstance(each, Tensor):
            if each.layout is torch.strided and not each.is_meta and not each.is_nested:
                yield each.untyped_storage()
            continue
        inner = each.values() if isinstance(each, Mapping) else each
        if isinstance(each, Mapping | list | tuple):
            new = [one for one in inner if id(one) not in seen]
            seen.update(map(id, new))
            left += new
