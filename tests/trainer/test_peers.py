"""Two networks that learn beside each other, each the teacher of the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.trainer import Task, Trainer
from edgekd.trainer.learner import Peers
from tests.trainer.test_resume import KilledError, assert_equal, killed_at, state
from tests.trainer.test_studying import Branch, method

MakeTask = Callable[..., Task]


@pytest.fixture
def beside(task: MakeTask, network: Callable[..., Backbone]) -> MakeTask:
    def make(text: str = "ce + kd", folder: str = "one", **settings: float) -> Task:
        return replace(task(text, folder, **settings), peer=network("resnet14", seed=1))

    return make


def test_each_learns_from_the_labels_and_from_the_other(beside: MakeTask) -> None:
    made = beside()
    trainer = Trainer(made)
    peers = trainer._engine.bare
    assert isinstance(peers, Peers)
    batch = next(iter(made.loaders.train.epoch(0)))
    peers.eval()
    loss, losses = peers(batch, None)
    one, two = peers.first.student(batch.image), peers.second.student(batch.image)

    def towards(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        divergence = F.kl_div(
            F.log_softmax(student / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean"
        )
        return F.cross_entropy(student, batch.target) + 16 * divergence

    assert torch.allclose(sum(losses, torch.tensor(0.0)), towards(one, two), rtol=1e-5)
    assert torch.allclose(loss, towards(one, two) + towards(two, one), rtol=1e-5)


@pytest.mark.parametrize("text", ["kd", "at", "fitnet"])
def test_no_gradient_of_one_s_loss_reaches_the_other(beside: MakeTask, text: str) -> None:
    made = beside(text)
    peers = Trainer(made)._engine.bare
    assert isinstance(peers, Peers)
    batch = next(iter(made.loaders.train.epoch(0)))
    together, _ = peers.eval()(batch, None)
    found = torch.autograd.grad(together, list(peers.parameters()), allow_unused=True)
    mine, theirs = peers.first.tap(batch.image), peers.second.tap(batch.image)
    for who, shown, other in ((peers.first, mine, theirs), (peers.second, theirs, mine)):
        own, _ = who.judge(shown, other.float().detached(), batch)
        own.backward()  # type: ignore[no-untyped-call]
    assert sum(gradient is not None for gradient in found) > 20
    for gradient, parameter in zip(found, peers.parameters(), strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert torch.allclose(gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def test_both_learn_and_both_are_left(beside: MakeTask) -> None:
    made = beside("ce + kd + fitnet")
    assert made.peer is not None
    before = [
        {key: value.clone() for key, value in network.model.state_dict().items()}
        for network in (made.student, made.peer)
    ]
    trained = Trainer(made).run()
    assert trained.peer is not None
    for network, old in zip((trained.model, trained.peer), before, strict=True):
        assert not network.training
        assert not torch.equal(network.state_dict()["head.fc.weight"], old["head.fc.weight"])
        assert list(network.state_dict()) == list(old)
    assert trained.validation.top1 > 0.15


def test_killed_and_started_again(beside: MakeTask) -> None:
    settings = {"checkpoint_minutes": 0.0}
    expected = Trainer(beside("ce + kd + fitnet", "whole", **settings)).run()
    with pytest.raises(KilledError):
        Trainer(beside("ce + kd + fitnet", "cut", **settings), killed_at(8)).run()
    again = Trainer(beside("ce + kd + fitnet", "cut", **settings)).run()
    assert_equal(state(again), state(expected))
    assert again.peer is not None
    assert expected.peer is not None
    assert_equal(dict(again.peer.state_dict()), dict(expected.peer.state_dict()))


def test_what_belongs_to_a_peer_studies_all_the_time(beside: MakeTask) -> None:
    made = replace(beside(), method=method(b=Branch()) + Method.parse("ce"))
    said = list[str]()
    trainer = Trainer(made, say=said.append)
    first = made.method.named["b"].of_teacher
    assert first is not None
    before = {key: value.clone() for key, value in first.state_dict().items()}
    trainer.run()
    assert not [text for text in said if "studies" in text]
    assert not torch.equal(first.state_dict()["0.weight"], before["0.weight"])
    assert all(p.requires_grad for p in first.parameters())


def test_the_same_architecture_twice_begins_with_two_sets_of_weights(
    task: MakeTask, network: Callable[..., Backbone]
) -> None:
    made = task("ce + kd")
    made = replace(made, peer=network("resnet8", seed=5))
    trained = Trainer(made).run()
    assert trained.peer is not None
    ours, theirs = trained.model.state_dict(), trained.peer.state_dict()
    assert list(ours) == list(theirs)
    assert not torch.equal(ours["head.fc.weight"], theirs["head.fc.weight"])
