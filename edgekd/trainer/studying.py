"""Studying: what belongs to a frozen teacher learns from it once, for every later student."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import SGD

from edgekd.data import Batch
from edgekd.errors import DivergedError, UsageError, WeightsError
from edgekd.features import Features
from edgekd.files import aside, cache_folder
from edgekd.methods import Method, Term
from edgekd.models import weights
from edgekd.trainer import collective
from edgekd.world import world

VERSION = 1
"""Of how is studied; another one's results are not taken."""

Teachings = Callable[[int], Iterator[tuple[Features, Batch]]]
"""What the teacher shows for each batch of an epoch."""


@dataclass(frozen=True)
class Library:
    """Where results are kept, one small file a term; anyone may delete them."""

    folder: Path
    key: Callable[[], str]
    """Makes a hash of all that decides what the teacher shows: its weights, the images, the seed.

    It is asked for only where a term studies at all.
    """

    @classmethod
    def of_user(cls, key: Callable[[], str]) -> Library:
        """In the user's own cache."""
        return cls(cache_folder("studies"), key)

    def place(self, method: Method, name: str, epochs: int) -> Path:
        """The file of one term, studied for so many epochs with these options."""
        term = method.named[name]
        assert term.of_teacher is not None
        shapes = {key: list(value.shape) for key, value in term.of_teacher.state_dict().items()}
        options = {key: str(value) for key, value in method.options[name].items()}
        content = [VERSION, self.key(), name, options, epochs, term.study_lr, repr(term.of_teacher)]
        text = json.dumps([*content, shapes], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / f"{name}-{digest[:32]}.safetensors"


def study(
    method: Method,
    teachings: Teachings,
    steps: int,
    epochs: int,
    library: Library | None,
    say: Callable[[str], None],
) -> None:
    """Let every term that has something of the teacher's learn it, unless it is kept already.

    Several processes learn alike from the same batches; the main one alone looks into the library.

    Args:
        method: built; what has studied is frozen afterwards.
        teachings: told an epoch's number; whole batches, in every process.
        steps: batches an epoch has.
        epochs: of the student's training, of which each term studies its share.
        library: where to look, and to keep what is new; ``None`` keeps nothing.
        say: told what is done.

    Raises:
        DivergedError: what was learned is not finite.
    """
    lessons = []
    for name, term in _students(method).items():
        count = max(1, round(term.study_share * epochs))
        # the main process alone looks, and keeps what is new
        place = library.place(method, name, count) if library and world().is_main else None
        if collective.shared(place is not None and _recall(term, place)):
            assert library is not None
            say(f"{name}: what it learned from this teacher is taken from {library.folder}")
        else:
            lessons.append(_Lesson(name, term, count, steps * count, place))
    with torch.random.fork_rng():  # whether it was kept must not change what comes after
        torch.manual_seed(torch.initial_seed())
        for epoch in range(max((lesson.epochs for lesson in lessons), default=0)):
            going = [lesson for lesson in lessons if epoch < lesson.epochs]
            _say_epoch(going, epoch, say)
            for features, batch in teachings(epoch):
                for lesson in going:
                    lesson.learn(features, batch)
    for lesson in lessons:
        lesson.keep(say)
    _hand_out(method)
    freeze(method)


def freeze(method: Method) -> None:
    """Let what has studied change no more."""
    for term in _students(method).values():
        assert term.of_teacher is not None
        term.of_teacher.requires_grad_(False).eval()


def _hand_out(method: Method) -> None:
    """What the main process learned or found is everybody's."""
    for term in _students(method).values() if world().size > 1 else ():
        assert term.of_teacher is not None
        for value in term.of_teacher.state_dict().values():
            value.copy_(collective.broadcast(value))


def _students(method: Method) -> dict[str, Term]:
    return {name: term for name, term in method.named.items() if term.of_teacher is not None}


def _say_epoch(going: list[_Lesson], epoch: int, say: Callable[[str], None]) -> None:
    names, last = ", ".join(lesson.name for lesson in going), max(le.epochs for le in going)
    if epoch in (0, last - 1) or (epoch + 1) % 10 == 0:
        say(f"{names} studies the teacher: epoch {epoch + 1} of {last}")


class _Lesson:
    """One term's studying: SGD, a tenth of the rate after half the steps, and of the rest."""

    def __init__(self, name: str, term: Term, epochs: int, steps: int, place: Path | None) -> None:
        assert term.of_teacher is not None
        self.name, self.epochs = name, epochs
        self._term, self._module, self._place = term, term.of_teacher, place
        self._module.train()
        learned = list(self._module.parameters())
        self._optimizer = (
            SGD(learned, term.study_lr, 0.9, weight_decay=5e-4, nesterov=True) if learned else None
        )
        self._drops = {steps // 2, steps * 3 // 4}
        self._step = 0

    def learn(self, features: Features, batch: Batch) -> None:
        loss: Tensor = self._term.study(features, batch)
        self._step += 1
        if self._optimizer is None:
            return
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._step in self._drops:
            for group in self._optimizer.param_groups:
                group["lr"] /= 10

    def keep(self, say: Callable[[str], None]) -> None:
        """Check what was learned and, if there is a place for it, write it there."""
        values = [v for v in self._module.state_dict().values() if v.is_floating_point()]
        if not all(bool(value.isfinite().all()) for value in values):
            raise DivergedError(
                f"what {self.name} learned from the teacher is not finite. "
                "Leave the term out, or give it other options."
            )
        if self._place is not None:
            try:
                with aside(self._place) as draft:
                    weights.write(self._module, draft)
            except UsageError as error:  # it costs the next student time, and this one nothing
                reason = str(error).partition(". ")[0]
                say(f"{self.name}: what it learned is not kept for later students: {reason}")


def _recall(term: Term, place: Path) -> bool:
    """Take what was kept; a file that is damaged is as good as none."""
    assert term.of_teacher is not None
    if not place.is_file():
        return False
    try:
        term.of_teacher.load_state_dict(weights.read(place))
    except (WeightsError, UsageError, RuntimeError):
        return False
    return True
