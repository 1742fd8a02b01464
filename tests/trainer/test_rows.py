"""Rows: what was written comes back to the last bit, or is not there."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.trainer import rows as module
from edgekd.trainer.rows import Rows, checksums

KEYS = 1000


def opened(path: Path, slots: int = KEYS, width: int = 10, dtype: Any = torch.float32) -> Rows:
    size = 8 * (1 + module.words_of(width, dtype))
    return Rows(path / "some.rows", width, dtype, KEYS, slots * size)


def some(keys: Any, width: int = 10) -> Tensor:
    """Values that belong to these keys, whoever makes them."""
    made = [np.random.default_rng(int(key)).standard_normal(width) for key in keys]
    return torch.tensor(np.array(made), dtype=torch.float32)


@pytest.mark.parametrize("width", [1, 2, 10, 101])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_put_comes_back(tmp_path: Path, width: int, dtype: torch.dtype) -> None:
    rows, keys = opened(tmp_path, width=width, dtype=dtype), np.arange(0, KEYS, 3)
    values = some(keys, width).to(dtype).float()
    assert not rows.get(keys)[1].any()
    rows.put(keys, values)
    found, there = opened(tmp_path, width=width, dtype=dtype).get(keys)
    assert there.all()
    assert torch.equal(found, values)
    assert found.dtype == torch.float32
    assert found.is_contiguous()  # as a network's are: strides change what is rounded
    assert not rows.get(keys + 1)[1].any()


def test_signs_and_odd_numbers_come_back(tmp_path: Path) -> None:
    values = torch.tensor([[-0.0, float("nan"), float("inf"), 1e-45]])
    rows = opened(tmp_path, width=4)
    rows.put(np.array([5]), values)
    found, _ = rows.get(np.array([5]))
    assert torch.equal(found.view(torch.int32), values.view(torch.int32))


def test_what_a_narrow_number_would_round_is_not_kept(tmp_path: Path) -> None:
    rows, keys = opened(tmp_path, dtype=torch.bfloat16), np.array([1, 2])
    values = some(keys)
    values[0] = values[0].bfloat16().float()
    rows.put(keys, values)
    assert rows.get(keys)[1].tolist() == [True, False]


@pytest.mark.parametrize("slots", [1, 7, 100, 999])
def test_with_fewer_places_than_keys_the_first_one_stays(tmp_path: Path, slots: int) -> None:
    rows, keys = opened(tmp_path, slots), np.arange(KEYS)
    for part in np.split(np.random.default_rng(0).permutation(keys), 20):
        before = rows.get(keys)[1]
        rows.put(part, some(part))
        assert rows.get(keys)[1][before].all()
    found, there = rows.get(keys)
    assert there.sum() == rows.slots == slots
    assert torch.equal(found[torch.from_numpy(there)], some(keys[there]))


def test_every_torn_row_is_found_out(tmp_path: Path) -> None:
    """Cut after each byte: what was there before, zeros or another row, is what follows."""
    rows, keys = opened(tmp_path), np.array([3])
    rows.put(keys, some(keys))
    path = tmp_path / "some.rows"
    whole = path.read_bytes()
    place = slice(3 * rows.row_bytes, 4 * rows.row_bytes)
    for old in (bytes(rows.row_bytes), os.urandom(rows.row_bytes)):
        for cut in range(rows.row_bytes):
            torn = whole[place][:cut] + old[cut:]
            with path.open("r+b") as file:
                file.seek(place.start)
                file.write(torn)
            assert rows.get(keys)[1].all() == (torn == whole[place])
    rows.put(keys, some(keys))
    assert torch.equal(rows.get(keys)[0], some(keys))


def test_a_checksum_knows_its_key_and_every_bit() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (1, 6)).astype(np.uint64)
    own = checksums(words, np.array([9]))
    assert own != checksums(words, np.array([10]))
    for bit in range(64):
        for place in range(6):
            other = words.copy()
            other[0, place] ^= np.uint64(1 << bit)
            assert checksums(other, np.array([9])) != own
            other[0, (place + 1) % 6] ^= np.uint64(1 << bit)  # the same bit of two words
            assert checksums(other, np.array([9])) != own
    nothing = np.zeros((KEYS, 6), np.uint64)
    assert checksums(nothing, np.arange(KEYS)).all()


def test_what_was_not_written_takes_no_space(tmp_path: Path) -> None:
    rows = opened(tmp_path, width=1000)
    rows.put(np.array([0]), torch.zeros(1, 1000))
    made = (tmp_path / "some.rows").stat()
    assert made.st_size == KEYS * rows.row_bytes
    assert made.st_blocks * 512 < made.st_size / 10


def test_a_full_disk_is_an_error_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, keys = opened(tmp_path), np.arange(3)
    write = os.pwrite

    def part(file: int, data: Any, place: int) -> int:
        if place >= rows.row_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(data)[:20] if place else data, place)

    monkeypatch.setattr(os, "pwrite", part)
    with pytest.raises(OSError, match="No space"):
        rows.put(keys, some(keys))
    assert rows.get(keys)[1].tolist() == [True, False, False]


def test_a_file_that_was_cut_short_has_no_rows_there(tmp_path: Path) -> None:
    rows, keys = opened(tmp_path), np.arange(50)
    rows.put(keys, some(keys))
    os.truncate(tmp_path / "some.rows", 10 * rows.row_bytes + 9)
    found, there = rows.get(keys)
    assert there.tolist() == [True] * 10 + [False] * 40
    assert torch.equal(found[:10], some(keys[:10]))


def _write(path: Path, seed: int) -> None:
    rows = opened(path, 400)
    draw = np.random.default_rng(seed)
    for _ in range(40):
        keys = draw.permutation(KEYS)[:50]
        rows.put(keys, some(keys))
        found, there = rows.get(keys)
        assert torch.equal(found[torch.from_numpy(there)], some(keys[there]))


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    """The file is made by whoever comes first; nobody ever reads another key's row."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    rows, keys = opened(tmp_path, 400), np.arange(KEYS)
    found, there = rows.get(keys)
    assert there.sum() > 300
    assert torch.equal(found[torch.from_numpy(there)], some(keys[there]))
    assert [file.name for file in tmp_path.iterdir()] == ["some.rows"]
