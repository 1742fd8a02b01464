"""Asking: a frozen teacher shows what it showed before from memory, and only the rest is computed.

What is remembered is exact. A row of a network's answers does not depend on the images beside it as
long as there are enough of them: so what is missing is computed in part of a batch, and every size
of such a part is tried against the whole batch, bit for bit, before anything is remembered. A
machine on which they differ is found out by that, and told; there the teacher is asked each time.
What fills up such a part is compared with what was kept of it, and all is deleted if it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Batch, Indices, Loader
from edgekd.features import Features
from edgekd.trainer.late import Late
from edgekd.trainer.learner import Teacher
from edgekd.trainer.memo import Memo, Store
from edgekd.trainer.parts import (
    SMALL,
    differs,
    features_of,
    milliseconds,
    placed,
    seen_share,
    sent,
    sizes_of,
    tables_of,
    taken,
)

KINDS = ("logits", "embedding")
"""What is small enough to be remembered, in the words of ``needs``."""
LEAST = 0.01
"""Share of all views that a training must both see and have room for."""
CHANGED = (
    "are not what it says now: images, the machine or its libraries have changed; they are deleted"
)
LARGEST_COST = 0.5
"""Of finding answers, as a share of what computing all of them takes."""
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Asker:
    """Asks a frozen teacher about batches.

    Args:
        teacher: on its device.
        autocast: what computes in the precision of the training.
        precision: ``fp32``, ``bf16`` or ``fp16``: answers of a narrow one are kept as narrow, where
            they come back the same.
        memo: where answers are kept; ``None`` asks each time, and says nothing of it.
        loader: where the batches come from.
        epochs: how many there will be.
        say: told why answers are not kept, and how many were there already.
    """

    def __init__(
        self,
        teacher: Teacher,
        autocast: Callable[[], AbstractContextManager[Any]],
        *,
        precision: str = "fp32",
        memo: Memo | None = None,
        loader: Loader | None = None,
        epochs: int = 0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.teacher = teacher
        self._autocast, self._narrow = autocast, NARROW.get(precision)
        self._memo, self._loader, self._epochs, self._say = memo, loader, epochs, say
        self._store: Store | None = None
        self._sizes: tuple[int, ...] = ()
        self._late = Late()
        self._wrong: Tensor | None = None
        self._seen = _Share()
        self._since = _Share()
        if memo is not None and loader is not None:
            self._refuse(_unfit(teacher, loader))

    def ask(self, batch: Batch) -> Features:
        """What the teacher shows for a batch on its device, in float32, without a way back."""
        if self._memo is None or self._loader is None or batch.key is None:
            return self._shown(batch.image)
        if self._store is None:
            return self._first(batch, batch.key.numpy())
        if len(batch.image) != self._sizes[-1]:
            return self._shown(batch.image)
        return self._recalled(batch.image, batch.key.numpy(), self._store)

    def hits(self) -> float | None:
        """Share of the answers since the last call that were there; ``None`` where none are kept.

        For a log point: what the device has finished is written by now.
        """
        if self._store is None or self._is_given_up():
            return None
        self._late.write(self._store)
        self._store.touch()
        found, self._since = self._since.value, _Share()
        return found

    @property
    def share(self) -> float | None:
        """Share of all answers so far that were there; ``None`` where none are kept."""
        return None if self._store is None else round(self._seen.value, 4)

    def finish(self) -> None:
        """At the end: write what is not written yet, and say how many answers were there."""
        if self._store is None or self._is_given_up():
            return
        assert self._memo is not None
        self._late.write(self._store, wait=True)
        self._memo.close(self._store)
        if self._seen.value:
            self._say(f"teacher: {self._seen.value:.0%} of its answers were there already")

    def _shown(self, image: Tensor) -> Features:
        with self._autocast():
            features: Features = self.teacher(image)
        return features

    def _refuse(self, reason: str) -> None:
        if reason:
            self._memo = None
            self._say(f"teacher: its answers are not kept: {reason}")

    def _first(self, batch: Batch, keys: Indices) -> Features:
        """The first batch is computed whole: by it the parts are tried, and what was kept."""
        assert self._memo is not None
        assert self._loader is not None
        whole = self._shown(batch.image)
        wrong = self._differing(batch.image, whole)
        if wrong - {SMALL}:
            self._refuse(
                f"of {min(wrong - {SMALL})} images alone they are not, to the last bit, what they "
                f"are in a batch of {len(keys)} on this machine"
            )
            return whole
        store = self._opened(whole, keys)
        if store is None or (batch.image.device.type == "cuda" and self._is_slow(batch, store)):
            return whole
        self._store = store
        self._sizes = tuple(size for size in sizes_of(len(keys)) if size not in wrong)
        return whole

    def _opened(self, whole: Features, keys: Indices) -> Store | None:
        """What is kept, which is what the teacher just said; ``None`` where it is of no use."""
        assert self._memo is not None
        assert self._loader is not None
        count, views = len(self._loader.targets) * self._loader.views, self._loader.views
        seen = seen_share(views, self._epochs)
        tables = {kind: table.cpu() for kind, table in tables_of(whole).items()}
        given = tables, self._narrow, count, len(keys), self._say
        store, there = self._memo.open(*given, make=seen >= LEAST), None
        while not isinstance(store, str) and (there := _agreeing(store, keys, tables)) is None:
            self._say(f"teacher: its answers in {store.folder} {CHANGED}, and kept anew")
            store.forget()
            store = self._memo.open(*given, make=seen >= LEAST)
        if isinstance(store, str) or there is None:
            few = f"{self._epochs} epochs show {seen:.1%} of the {views} views of an image"
            self._refuse(str(store) if seen >= LEAST else few)
            return None
        part = store.share * seen
        if part < LEAST and not there.any():
            store.let_go()
            room = f"{part:.1%} of all views of the images would be seen and have room in "
            self._refuse(room + "train.cache_gb")
            return None
        missing = np.flatnonzero(~there)
        store.put(keys[missing], {k: t[torch.from_numpy(missing)] for k, t in tables.items()})
        self._count(len(keys), int(there.sum()))
        return store

    def _is_slow(self, batch: Batch, store: Store) -> bool:
        """A GPU may compute answers faster than a processor finds them; it changes none of them."""
        assert batch.key is not None
        keys, device = batch.key.numpy(), batch.image.device
        asking = milliseconds(lambda: self._shown(batch.image), device)
        finding = milliseconds(lambda: sent(store.get(keys, pinned=True)[0], device), device)
        if finding <= LARGEST_COST * asking:
            return False
        store.let_go()
        self._refuse(f"finding them takes {finding:.2f} ms a batch, and asking {asking:.2f} ms")
        return True

    def _differing(self, image: Tensor, whole: Features) -> set[int]:
        """The sizes of a part that answers differently from the whole batch."""
        draw, wrong = np.random.default_rng(len(image)), set()
        for size in sizes_of(len(image)):
            rows = torch.from_numpy(draw.permutation(len(image))[:size]).to(image.device)
            part = tables_of(self._shown(taken(image, rows)))
            if any(bool(differs(part[k], table[rows])) for k, table in tables_of(whole).items()):
                wrong.add(size)
        return wrong

    def _recalled(self, image: Tensor, keys: Indices, store: Store) -> Features:
        kept, there = store.get(keys, pinned=image.device.type == "cuda")
        missing = np.flatnonzero(~there)
        self._count(len(keys), len(keys) - len(missing))
        found, count = sent(kept, image.device), len(missing)
        if not count:
            return features_of(found)
        size = next(size for size in self._sizes if size >= count)
        filled = np.concatenate([missing, np.flatnonzero(there)[: size - count]])
        rows, is_whole = placed(filled, image.device), size == len(keys)
        shown = self._shown(image if is_whole else taken(image, rows))
        new = {kind: t[rows] if is_whole else t for kind, t in tables_of(shown).items()}
        if count < size and self._is_wrong(
            [differs(table[count:], found[kind][rows[count:]]) for kind, table in new.items()]
        ):
            return shown if is_whole else self._shown(image)
        new = {kind: table[:count] for kind, table in new.items()}
        self._keep(keys[missing], new)
        if is_whole:
            return shown
        for kind, table in found.items():
            table.index_copy_(0, rows[:count], new[kind])
        return features_of(found)

    def _is_wrong(self, found: Sequence[Tensor]) -> bool:
        """Whether what fills up a part is not what was kept of it; of a GPU, a log point tells."""
        wrong = torch.stack(list(found)).any()
        self._wrong = wrong if self._wrong is None else self._wrong | wrong
        return wrong.device.type == "cpu" and self._is_given_up()

    def _is_given_up(self) -> bool:
        """Whether what was kept turned out to be wrong: it is deleted, and this told."""
        assert self._store is not None
        if self._wrong is None or not self._wrong.cpu().numpy().any():
            return False
        self._say(
            f"teacher: its answers in {self._store.folder} {CHANGED}, and it is asked each time "
            "from here on. This training has learned from some of them: to be sure, begin it again "
            "with --restart"
        )
        self._store.forget()
        self._store, self._memo, self._late = None, None, Late()
        return True

    def _keep(self, keys: Indices, tables: Mapping[str, Tensor]) -> None:
        assert self._store is not None
        self._late.add(keys, tables)
        self._late.write(self._store)

    def _count(self, asked: int, there: int) -> None:
        for share in (self._seen, self._since):
            share.asked += asked
            share.there += there


@dataclass
class _Share:
    """How many answers were asked for, and how many of them were there."""

    asked: int = 0
    there: int = 0

    @property
    def value(self) -> float:
        return self.there / max(1, self.asked)


def _unfit(teacher: Teacher, loader: Loader) -> str:
    """Why answers cannot be kept ; empty where they may be."""
    large = sorted(teacher.tap.needs.difference(KINDS))
    if large:
        return f"the method looks at {' and '.join(large)}, too"
    if not loader.views:
        return "the views of an image cannot be counted (data.teacher_views makes so many of them)"
    return ""


def _agreeing(
    store: Store, keys: Indices, tables: Mapping[str, Tensor]
) -> NDArray[np.bool_] | None:
    """Which of (B,) keys are kept; ``None`` where one of them is not what the tables say."""
    kept, there = store.get(keys)
    rows = torch.from_numpy(np.flatnonzero(there))
    if len(rows) and any(bool(differs(kept[k][rows], t[rows])) for k, t in tables.items()):
        return None
    return there
