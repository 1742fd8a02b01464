"""What belongs to a frozen teacher is learned once, frozen, kept, and the same kept or learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.errors import DivergedError
from edgekd.features import Features
from edgekd.methods import Method, Term, Weight
from edgekd.trainer import Library, Task, Trainer
from edgekd.trainer.studying import study
from tests.trainer.test_resume import KilledError, assert_equal, killed_at, state

MakeTask = Callable[..., Task]


class Branch(Term):
    """Learns to repeat the teacher's logits from its embedding, and has the student do so too."""

    needs = frozenset({"embedding"})

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.study_share = share

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        assert teacher.embedding is not None
        assert student.embedding is not None
        width = teacher.embedding.shape[1]
        self.of_teacher = nn.Sequential(nn.Linear(width, 10), nn.BatchNorm1d(10))
        self.adapter = nn.Linear(student.embedding.shape[1], 10)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        assert self.of_teacher is not None
        loss: Tensor = (self.of_teacher(teacher.embedding) - teacher.logits).square().mean()
        return loss

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        assert self.of_teacher is not None
        with torch.no_grad():
            target = self.of_teacher(teacher.embedding)
        loss: Tensor = (self.adapter(student.embedding) - target).square().mean()
        return loss


class Counting(Term):
    """Counts the images it was shown."""

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        self.of_teacher = nn.BatchNorm1d(1, affine=False)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        assert isinstance(self.of_teacher, nn.BatchNorm1d)
        assert isinstance(self.of_teacher.running_mean, Tensor)
        self.of_teacher.running_mean += len(batch.target)
        return teacher.logits.new_zeros(())

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return student.logits.square().mean()


def method(**terms: Term) -> Method:
    return Method(terms, {name: Weight(1, 1) for name in terms})


@pytest.fixture
def with_branch(task: MakeTask) -> Callable[..., Task]:
    def make(folder: str = "one", library: Library | None = None, **settings: float) -> Task:
        made = task("ce", folder, teacher="resnet14", **settings)
        return replace(made, method=method(b=Branch()) + Method.parse("ce"), library=library)

    return make


def test_it_studies_its_share_and_is_frozen_then(with_branch: Callable[..., Task]) -> None:
    made, said = with_branch(epochs=4), list[str]()
    trainer = Trainer(made, say=said.append)
    term = made.method.named["b"]
    assert said == ["b studies the teacher: epoch 1 of 2", "b studies the teacher: epoch 2 of 2"]
    assert term.of_teacher is not None
    learned = {key: value.clone() for key, value in term.of_teacher.state_dict().items()}
    assert int(learned["1.num_batches_tracked"]) == 2 * len(made.loaders.train)
    trainer.run()
    assert_equal(learned, dict(term.of_teacher.state_dict()))
    assert not any(p.requires_grad for p in term.of_teacher.parameters())
    assert not term.of_teacher.training
    assert term.train().adapter.training  # type: ignore[union-attr]
    assert not term.of_teacher.training


def test_studying_lowers_its_loss(with_branch: Callable[..., Task]) -> None:
    losses = list[float]()

    class Curious(Branch):
        def study(self, teacher: Features, batch: Batch) -> Tensor:
            loss = super().study(teacher, batch)
            losses.append(float(loss.detach()))
            return loss

    Trainer(replace(with_branch(epochs=8), method=method(b=Curious())))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_kept_or_learned_the_student_is_the_same(
    with_branch: Callable[..., Task], tmp_path: Path
) -> None:
    library, said = Library(tmp_path / "kept", lambda: "key"), list[str]()
    expected = state(Trainer(with_branch("none")).run())
    assert_equal(state(Trainer(with_branch("fresh", library)).run()), expected)
    (file,) = (tmp_path / "kept").iterdir()
    assert file.name.startswith("b-")
    written = file.stat().st_mtime_ns
    again = Trainer(with_branch("kept", library), say=said.append)
    assert said == [f"b: what it learned from this teacher is taken from {tmp_path / 'kept'}"]
    assert_equal(state(again.run()), expected)
    assert file.stat().st_mtime_ns == written


def test_it_is_learned_anew_where_anything_differs_or_the_file_is_damaged(
    with_branch: Callable[..., Task], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    Trainer(with_branch("a", Library(folder, lambda: "key")))
    Trainer(with_branch("b", Library(folder, lambda: "another teacher")))
    Trainer(with_branch("c", Library(folder, lambda: "key"), epochs=8))
    assert len(list(folder.iterdir())) == 3
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    said = list[str]()
    Trainer(with_branch("d", Library(folder, lambda: "key")), say=said.append)
    assert said[0].startswith("b studies the teacher")
    said.clear()
    Trainer(with_branch("e", Library(folder, lambda: "key")), say=said.append)
    assert "is taken from" in said[0]


def test_a_training_that_goes_on_does_not_study_again(with_branch: Callable[..., Task]) -> None:
    settings = {"checkpoint_minutes": 0.0}
    expected = state(Trainer(with_branch("whole", **settings)).run())
    with pytest.raises(KilledError):
        Trainer(with_branch("cut", **settings), killed_at(8)).run()
    said = list[str]()
    trainer = Trainer(with_branch("cut", **settings), say=said.append)
    assert said == []
    assert_equal(state(trainer.run()), expected)


def test_terms_study_side_by_side_in_one_pass(task: MakeTask) -> None:
    epochs = list[int]()
    made = task("ce", teacher="resnet14")
    shown = Features(torch.zeros(4, 10), torch.randn(4, 3))
    batch = Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), torch.arange(4))
    both = method(long=Branch(1.0), short=Branch(0.3), once=Counting())

    def teachings(epoch: int) -> Iterator[tuple[Features, Batch]]:
        epochs.append(epoch)
        return iter([(shown, batch)] * 3)

    both.build(shown, shown, made.loaders.train.targets)
    study(both, teachings, 3, 4, None, lambda text: None)
    assert epochs == [0, 1, 2, 3]
    seen = {
        name: int(term.of_teacher.state_dict()["1.num_batches_tracked"])
        for name, term in both.named.items()
        if term.of_teacher is not None and name != "once"
    }
    assert seen == {"long": 12, "short": 3}
    assert both.get_buffer("terms.once.of_teacher.running_mean") == 12


def test_what_is_not_finite_is_never_kept(task: MakeTask, tmp_path: Path) -> None:
    class Wild(Branch):
        study_lr = 1e30

    made = replace(
        task("ce", teacher="resnet14"),
        method=method(b=Wild(1.0)),
        library=Library(tmp_path / "kept", lambda: "key"),
    )
    with pytest.raises(DivergedError, match="what b learned from the teacher is not finite"):
        Trainer(made)
    assert not (tmp_path / "kept").exists()


def test_a_cache_that_cannot_be_written_costs_nothing_now(
    with_branch: Callable[..., Task], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    said = list[str]()
    library = Library(tmp_path / "file" / "studies", lambda: "key")
    Trainer(with_branch("one", library), say=said.append)
    assert said[-1].startswith("b: what it learned is not kept for later students: cannot write")


def test_nobody_asks_what_the_teacher_shows_where_nothing_studies(task: MakeTask) -> None:
    def never() -> str:
        raise AssertionError

    made = task("ce + kd", teacher="resnet14")
    Trainer(replace(made, library=Library(made.folder, never)))
