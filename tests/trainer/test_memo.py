"""Memo: within its bound, shared by processes, and no training's undoing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.trainer.memo import Memo, Store
from edgekd.trainer.rows import Rows

KEYS = 1000
NAMES = {number: f"{number:032x}" for number in range(10)}


def memo(folder: Path, room: int = 10**6, key: int = 0) -> Memo:
    return Memo(folder, lambda: NAMES[key], room)


def tables(rows: int = 4, **widths: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {kind: torch.randn(rows, width) for kind, width in (widths or {"logits": 10}).items()}


def opened(made: Memo, given: dict[str, Tensor] | None = None, batch: int = 64) -> Store:
    store = made.open(given or tables(), None, KEYS, batch)
    assert isinstance(store, Store)
    return store


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.rows"))


def test_it_is_there_for_the_next_one(tmp_path: Path) -> None:
    keys, shown = np.array([5, 1, 7, 9]), tables(logits=10, embedding=32)
    opened(memo(tmp_path), shown).put(keys, shown)
    found, there = opened(memo(tmp_path), shown).get(keys)
    assert there.all()
    assert all(torch.equal(found[kind], shown[kind]) for kind in shown)
    found, there = opened(memo(tmp_path)).get(keys)  # of one kind alone
    assert list(found) == ["logits"]
    assert there.all()
    assert not opened(memo(tmp_path, key=1)).get(keys)[1].any()


def test_an_answer_is_there_if_all_its_kinds_are(tmp_path: Path) -> None:
    opened(memo(tmp_path)).put(np.arange(4), tables())
    both = tables(2, logits=10, embedding=32)
    store = opened(memo(tmp_path), both)
    assert not store.get(np.arange(4))[1].any()
    store.put(np.array([2, 3]), both)
    assert store.get(np.arange(4))[1].tolist() == [False, False, True, True]


def test_small_batches_keep_to_themselves(tmp_path: Path) -> None:
    opened(memo(tmp_path), batch=8).put(np.arange(4), tables())
    assert opened(memo(tmp_path), batch=8).get(np.arange(4))[1].all()
    assert not opened(memo(tmp_path), batch=9).get(np.arange(4))[1].any()
    assert not opened(memo(tmp_path), batch=16).get(np.arange(4))[1].any()


def test_narrow_answers_are_kept_narrow_where_they_come_back(tmp_path: Path) -> None:
    shown = {"logits": tables()["logits"].bfloat16().float(), "embedding": torch.randn(4, 6)}
    store = memo(tmp_path).open(shown, torch.bfloat16, KEYS, 64)
    assert isinstance(store, Store)
    names = sorted(file.name for file in store.folder.iterdir())
    assert names == ["embedding-6-float32.rows", "logits-10-bfloat16.rows"]


@pytest.mark.parametrize("room", [48, 100, 10_000, 30_000])
def test_the_bound_is_kept(tmp_path: Path, room: int) -> None:
    """With the kinds that come later, too; there may be no room left for those."""
    store = opened(memo(tmp_path, room))
    assert store.share == room // 48 / KEYS
    for part in np.split(np.arange(KEYS), 10):
        store.put(part, tables(100))
    assert store.get(np.arange(KEYS))[1].sum() == room // 48
    assert size(tmp_path) <= room
    found = memo(tmp_path, room).open(tables(logits=10, embedding=3), None, KEYS, 64)
    assert size(tmp_path) <= room
    if isinstance(found, str):
        assert "no room" in found
    assert isinstance(found, str) == (room - room // 48 * 48 < 24)


def test_both_kinds_have_their_share_of_the_room(tmp_path: Path) -> None:
    store = opened(memo(tmp_path, 30_000), tables(logits=10, embedding=30))
    assert size(tmp_path) <= 30_000
    assert store.share == 30_000 // (48 + 128) / KEYS


def test_with_less_room_than_before_it_begins_anew(tmp_path: Path) -> None:
    before = opened(memo(tmp_path))
    before.put(np.arange(4), tables())
    refused = memo(tmp_path, 10_000).open(tables(), None, KEYS, 64)
    assert "no room" in str(refused)
    before.put(np.arange(4, 8), tables())  # who has it open is not disturbed
    assert before.get(np.arange(8))[1].all()
    before.let_go()
    after = opened(memo(tmp_path, 10_000))
    assert size(tmp_path) <= 10_000
    assert not after.get(np.arange(4))[1].any()


def test_with_clearly_more_room_than_before_it_begins_anew(tmp_path: Path) -> None:
    before = opened(memo(tmp_path, 10_000))
    before.put(np.arange(4), tables())
    share = before.share
    beside = opened(memo(tmp_path))  # as long as it is in use, it stays as it is
    assert beside.share == share
    beside.let_go()
    before.let_go()
    same = opened(memo(tmp_path, 12_000))
    assert same.share == share
    same.let_go()
    assert opened(memo(tmp_path)).share == 1


def test_a_kind_that_comes_later_has_its_share_of_the_room(tmp_path: Path) -> None:
    first, room = opened(memo(tmp_path, 40_000)), 40_000
    assert first.share == room // 48 / KEYS
    first.let_go()
    both = opened(memo(tmp_path, room), tables(logits=10, embedding=30))
    assert both.share == room // (48 + 128) / KEYS
    assert size(tmp_path) <= room
    both.put(np.arange(4), tables(logits=10, embedding=30))
    both.let_go()
    again = opened(memo(tmp_path, room))  # and leaves it the other one's
    assert again.get(np.arange(4))[1].all()
    again.let_go()
    for _ in range(2):  # another kind, and they do not take turns for ever
        for batch in (8, 64):
            store = opened(memo(tmp_path, room), batch=batch)
            store.put(np.arange(4), tables())
            store.let_go()
    for batch in (8, 64):
        store = opened(memo(tmp_path, room), batch=batch)
        assert store.get(np.arange(4))[1].all()
        assert store.share == room // 96 / KEYS


def test_what_is_not_there_is_not_made_for_a_look(tmp_path: Path) -> None:
    found = memo(tmp_path / "none").open(tables(), None, KEYS, 64, make=False)
    assert isinstance(found, str)
    assert not (tmp_path / "none").exists()
    opened(memo(tmp_path)).put(np.arange(4), tables())
    hot = memo(tmp_path).open(tables(), None, KEYS, 64, make=False)
    assert isinstance(hot, Store)
    assert hot.get(np.arange(4))[1].all()


def test_other_teachers_make_room_the_oldest_first(tmp_path: Path) -> None:
    for number in range(4):
        store = opened(memo(tmp_path, key=number))
        store.put(np.arange(KEYS), tables(KEYS))
        if number:
            store.let_go()
        then = time.time() - 3600 * (10 - number)
        os.utime(store.folder, (then, then))
    busy = opened(memo(tmp_path))
    (tmp_path / "mine").mkdir()
    each = opened(memo(tmp_path, key=5)).share * KEYS * 48
    opened(memo(tmp_path, int(3.5 * each), key=5))
    left = {folder.name for folder in tmp_path.iterdir()}
    assert busy.share == 1
    # 0 is in use; of the others, only the latest has room beside the new one
    assert left == {"mine", NAMES[0], NAMES[3], NAMES[5]}


def test_the_bound_is_kept_by_several_teachers_at_once(tmp_path: Path) -> None:
    busy = opened(memo(tmp_path, 60_000, key=1))
    busy.put(np.arange(KEYS), tables(KEYS))
    second = opened(memo(tmp_path, 60_000, key=2))
    assert (busy.share, second.share) == (1, 250 / KEYS)
    third = memo(tmp_path, 60_000, key=3).open(tables(), None, KEYS, 64)
    assert "no room" in str(third)
    assert size(tmp_path) <= 60_000
    assert busy.folder.exists()
    busy.let_go()
    opened(memo(tmp_path, 60_000, key=3))
    assert not busy.folder.exists()
    assert size(tmp_path) <= 60_000


def test_a_process_that_was_forked_holds_nothing(tmp_path: Path) -> None:
    """As those that decode images are, while answers are open."""
    store = opened(memo(tmp_path))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # until the parent is done
        os._exit(0)
    assert not opened(memo(tmp_path))._hold.is_alone()
    store.let_go()
    assert opened(memo(tmp_path))._hold.is_alone()
    os.close(read)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0


def test_at_the_end_there_is_room_for_what_is_in_use(tmp_path: Path) -> None:
    """Trainings may have been given more room than this one."""
    made = memo(tmp_path, 10_000)
    own, other = opened(made), opened(memo(tmp_path, key=1))
    other.put(np.arange(KEYS), tables(KEYS))
    other.let_go()
    made.close(own)
    assert [folder.name for folder in tmp_path.iterdir()] == [NAMES[0]]


def test_what_is_forgotten_is_gone_for_all(tmp_path: Path) -> None:
    store, other = opened(memo(tmp_path)), opened(memo(tmp_path))
    store.put(np.arange(4), tables())
    store.forget()
    anew = opened(memo(tmp_path))
    assert not anew.get(np.arange(4))[1].any()
    other.forget()  # not what was begun since
    assert size(tmp_path) > 0


def test_no_room_given_is_no_memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Memo.of_user(lambda: "", 0.0) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = Memo.of_user(lambda: "", 2.0)
    assert made is not None
    assert made.folder == tmp_path / "edgekd" / "answers"
    assert made.room == 2_000_000_000


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = memo(tmp_path / "file").open(tables(), None, KEYS, 64)
    assert found == f"{tmp_path / 'file' / NAMES[0]} cannot be written (Not a directory)"


def begun(folder: Path) -> tuple[Store, list[str]]:
    """Four answers are in it; and what it says."""
    said: list[str] = []
    store = memo(folder).open(tables(), None, KEYS, 64, said.append)
    assert isinstance(store, Store)
    store.put(np.arange(4), tables())
    return store, said


def test_a_disk_that_fills_is_told_once_and_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = begun(tmp_path)
    full = OSError(28, "No space left on device")

    def refuse(self: Rows, keys: object, values: object) -> None:
        raise full

    monkeypatch.setattr(Rows, "put", refuse)
    store.put(np.arange(4, 8), tables())
    store.put(np.arange(4, 8), tables())
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert store.get(np.arange(8))[1].tolist() == [True] * 4 + [False] * 4


def test_a_disk_that_is_gone_is_told_once_and_has_no_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = begun(tmp_path)

    def refuse(file: int, size: int, place: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", refuse)
    for _ in range(2):
        assert not store.get(np.arange(4))[1].any()
        store.put(np.arange(4), tables())
    assert said == [
        f"teacher: {store.folder} cannot be read (Input/output error); it is asked anew"
    ]
