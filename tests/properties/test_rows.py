"""Rows come back as they were put, or not at all, whatever became of the file meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekd.trainer.rows import Rows

WIDTH, KEYS = 3, 16
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
ALL = np.arange(KEYS)


def opened(folder: str, dtype: torch.dtype, rows: int = KEYS) -> Rows:
    sizes = {torch.float32: 24, torch.float16: 16, torch.bfloat16: 16}
    return Rows(Path(folder, "a.rows"), WIDTH, dtype, KEYS, rows * sizes[dtype])


@given(st.binary(min_size=24, max_size=600), DTYPES)
def test_a_file_of_anything_holds_no_row(content: bytes, dtype: torch.dtype) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.rows").write_bytes(content)
        _, there = opened(folder, dtype).get(ALL)
    assert not there.any()


@given(
    st.lists(st.integers(0, KEYS - 1), unique=True, min_size=1),
    st.integers(0, 2**32 - 1),
    DTYPES,
    st.lists(st.tuples(st.integers(0, 24 * KEYS - 1), st.integers(1, 255)), max_size=4),
    st.integers(0, 24 * KEYS),
    st.integers(1, KEYS),
)
def test_a_row_is_as_it_was_put_or_absent(
    keys: list[int],
    seed: int,
    dtype: torch.dtype,
    flips: list[tuple[int, int]],
    end: int,
    rows: int,
) -> None:
    asked = np.array(keys)
    values = torch.randn(len(keys), WIDTH, generator=torch.Generator().manual_seed(seed))
    values = values.to(dtype).float()
    with tempfile.TemporaryDirectory() as folder:
        kept = opened(folder, dtype, rows)
        kept.put(asked, values)
        file = Path(folder, "a.rows")
        content = bytearray(file.read_bytes())
        for place, bits in flips:
            content[place % len(content)] ^= bits
        with file.open("r+b") as written:  # the same file, as another process would
            written.write(content[:end])
            written.truncate(max(end, 1))
        found, there = kept.get(asked)
    assert torch.equal(found[there], values[there])
    if not flips and end >= len(content) and rows == KEYS:
        assert there.all()
