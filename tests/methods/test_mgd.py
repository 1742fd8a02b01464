"""Multi-granularity distillation: what the teacher's branches learn, and what others see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.errors import RecipeError
from edgekd.features import Features
from edgekd.methods import Method, Term
from edgekd.methods.mgd import MGD
from edgekd.models import zoo
from edgekd.models.reframe import Reframe
from edgekd.preprocess import Preprocess
from edgekd.trainer.learner import Learner, Peers
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
Built = Callable[[Term, Features, Features], Term]
NARROW, WIDE = [(4, 8), (8, 4)], [(5, 8), (16, 4)]


@pytest.fixture
def student(shown: Shown) -> Features:
    return shown(NARROW, 1)


@pytest.fixture
def teacher(shown: Shown) -> Features:
    return shown(WIDE, 2)


@pytest.fixture
def mgd(student: Features, teacher: Features, built: Built) -> MGD:
    made = built(MGD(), student, teacher)
    assert isinstance(made, MGD)
    return made


def told(mgd: MGD, teacher: Features) -> list[Tensor]:
    assert teacher.embedding is not None
    logits: list[Tensor] = mgd.of_teacher(teacher.embedding)
    return logits


def test_codes_are_as_wide_as_asked_and_decoders_speak_of_classes(
    mgd: MGD, teacher: Features
) -> None:
    assert teacher.embedding is not None
    codes = mgd.of_teacher.codes(teacher.embedding)
    assert [tuple(code.shape) for code in codes] == [(6, 64), (6, 256)]
    assert [tuple(logits.shape) for logits in told(mgd, teacher)] == [(6, 5), (6, 5)]


@pytest.mark.parametrize("width", [7, 64])
def test_it_has_the_paper_s_parameters(width: int, shown: Shown, built: Built) -> None:
    student, teacher = shown(NARROW, 1), shown([(width, 4)], 2)
    made = built(MGD(), student, teacher)

    def encoders(width: int) -> int:
        return sum(width * width + width + width * k + k for k in (64, 256))

    assert made.of_teacher is not None
    found = sum(parameter.numel() for parameter in made.of_teacher.parameters())
    decoders = sum(k * width + width + width * 5 + 5 for k in (64, 256))
    assert found == encoders(width) + decoders
    assert sum(p.numel() for p in made.parameters()) == found + encoders(8)  # and no decoder


def test_the_study_is_the_authors_loss_of_both_branches(
    mgd: MGD, teacher: Features, batch: Batch
) -> None:
    expected = 0.0
    for logits, T in zip(told(mgd, teacher), (2.0, 8.0), strict=True):
        p, q = F.softmax(logits / T, dim=1), F.softmax(teacher.logits / T, dim=1)
        divergence = (q * (q.log() - p.log())).sum() / len(q)
        loss = T * T * divergence + F.cross_entropy(logits, batch.target)
        expected += float(loss.detach())
    assert float(mgd.study(teacher, batch).detach()) == pytest.approx(expected, rel=1e-5)


def test_one_pass_teaches_each_branch_what_a_pass_of_its_own_would(
    mgd: MGD, teacher: Features, batch: Batch, built: Built, student: Features
) -> None:
    torch.autograd.backward(mgd.study(teacher, batch))
    for k, T in enumerate(mgd.temperatures):
        alone = told(mgd, teacher)[k]
        wanted = F.log_softmax(teacher.logits / T, dim=1)
        given = F.log_softmax(alone / T, dim=1)
        loss = T * T * F.kl_div(given, wanted, reduction="batchmean", log_target=True)
        loss = loss + F.cross_entropy(alone, batch.target)
        for part in (mgd.of_teacher.encoders, mgd.of_teacher.decoders):
            for name, parameter in part[k].named_parameters():
                own = torch.autograd.grad(loss, parameter, retain_graph=True)[0]
                assert parameter.grad is not None, name
                assert torch.allclose(own, parameter.grad, atol=1e-6), name
        others = list(mgd.of_teacher.encoders[1 - k].parameters())
        strangers = torch.autograd.grad(loss, others, allow_unused=True)
        assert all(gradient is None for gradient in strangers)


def test_study_makes_the_branches_say_what_the_teacher_says(
    mgd: MGD, teacher: Features, batch: Batch
) -> None:
    agreeing = Batch(batch.image, teacher.logits.argmax(1), batch.index, 0.0)
    optimiser = torch.optim.SGD(mgd.of_teacher.parameters(), mgd.study_lr, momentum=0.9)
    first = float(mgd.study(teacher, agreeing).detach())
    for _ in range(200):
        optimiser.zero_grad()
        torch.autograd.backward(mgd.study(teacher, agreeing))
        optimiser.step()
    assert float(mgd.study(teacher, agreeing).detach()) < 0.4 * first
    for logits in told(mgd, teacher):
        assert torch.equal(logits.argmax(1), teacher.logits.argmax(1))
        assert logits.std(0).min() > 0.01  # no constant answer


def test_the_loss_does_not_see_what_all_dimensions_of_a_code_share(
    mgd: MGD, student: Features, teacher: Features, batch: Batch
) -> None:
    before = mgd(student, teacher, batch)
    with torch.no_grad():
        for encoder in mgd.encoders:
            encoder.get_parameter("2.bias").add_(3.0)
    assert torch.allclose(mgd(student, teacher, batch), before, rtol=1e-4)
    with torch.no_grad():
        mgd.encoders[0].get_parameter("2.bias")[0].add_(3.0)
    assert mgd(student, teacher, batch) > before + 0.01


def test_equal_encoders_of_equal_embeddings_have_nothing_to_learn(
    student: Features, batch: Batch, built: Built
) -> None:
    made = built(MGD(), student, student)
    assert isinstance(made, MGD)
    assert made(student, student, batch) > 1e-4
    made.encoders.load_state_dict(made.of_teacher.encoders.state_dict())
    assert made(student, student, batch).abs() < 1e-6


def test_at_a_high_temperature_it_is_half_the_squared_distance_of_centred_codes(
    student: Features, teacher: Features, batch: Batch, built: Built
) -> None:
    made = built(MGD(dims=[64], temperatures=[500.0]), student, teacher).double()
    student, teacher = student.mapped(Tensor.double), teacher.mapped(Tensor.double)
    assert isinstance(made, MGD)
    assert student.embedding is not None
    assert teacher.embedding is not None
    codes = made.encoders[0](student.embedding), made.of_teacher.codes(teacher.embedding)[0]
    s, t = (code - code.mean(1, keepdim=True) for code in codes)
    expected = (s - t).square().sum(1).mean() / (2 * 64)
    found = float(made(student, teacher, batch).detach())
    assert found == pytest.approx(float(expected.detach()), rel=1e-2)


@pytest.mark.parametrize(("temperature", "within"), [(8.0, 1e-2), (80.0, 2e-4), (800.0, 1e-5)])
def test_codes_as_spread_as_noise_come_as_near_to_that_as_the_temperature_is_high(
    temperature: float, within: float
) -> None:
    s, t = torch.randn(2, 4096, 64, generator=torch.Generator().manual_seed(0)).double()
    expected = (s - s.mean(1, keepdim=True) - t + t.mean(1, keepdim=True)).square().sum(1).mean()
    found = MGD(dims=[64], temperatures=[temperature])._divergence([s], [t])
    assert float(found) == pytest.approx(float(expected) / (2 * 64), rel=within)
    assert float(found) == pytest.approx(0.97, abs=0.02)


def test_the_excitation_is_the_mean_of_three_logits_without_a_gradient(
    mgd: MGD, teacher: Features
) -> None:
    first, second = told(mgd, teacher)
    excited = mgd.excitation(teacher)
    assert excited is not None
    assert torch.allclose(excited, (teacher.logits + first + second) / 3)
    assert not excited.requires_grad


def formula(text: str, student: Features, teacher: Features, **options: Any) -> Method:
    method = Method.parse(text, {"mgd": options})
    method.build(student, teacher, TARGETS)
    return method


@pytest.mark.parametrize("text", ["mgd(ce + kd)", "ce + kd + mgd"])
def test_the_other_terms_learn_from_the_excitation(
    text: str, student: Features, teacher: Features, batch: Batch
) -> None:
    stable = formula(text, student, teacher)
    mgd = stable.named["mgd"]
    excited = mgd.excitation(teacher)
    assert excited is not None
    losses = stable(student, teacher, batch)
    shown = Features(excited)
    assert torch.equal(losses["kd"], Method.parse("kd")(student, shown, batch)["kd"])
    plain = formula(text, student, teacher, stable=False)
    other = plain(student, teacher, batch)
    assert torch.equal(other["kd"], Method.parse("kd")(student, teacher, batch)["kd"])
    assert not torch.equal(other["kd"], losses["kd"])
    assert torch.equal(other["mgd"], losses["mgd"])  # the codes are the teacher's either way
    assert torch.equal(other["ce"], losses["ce"])


def test_the_excitation_of_branches_that_agree_is_the_teacher(
    mgd: MGD, teacher: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mgd.of_teacher, "forward", lambda embedding: [teacher.logits] * 2)
    excited = mgd.excitation(teacher)
    assert excited is not None
    assert torch.allclose(excited, teacher.logits)


def test_with_a_peer_the_branches_learn_from_it_and_send_it_nothing(
    shown: Shown, batch: Batch
) -> None:
    student, peer = shown(NARROW, 1, grad=True), shown(WIDE, 2, grad=True)
    method = formula("ce + kd + mgd", student, peer)
    method.with_peer = True
    sum(method(student, peer.detached(), batch).values(), torch.tensor(0.0)).backward()
    assert student.embedding is not None
    assert student.embedding.grad is not None
    assert peer.logits.grad is None
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_peers_that_change_places_change_losses() -> None:
    torch.manual_seed(0)
    image = torch.randn(4, 3, 24, 24)
    batch = Batch(image, torch.tensor([0, 1, 2, 3]), torch.arange(4))
    learners = [
        Learner(zoo.create(name, 5), Method.parse("ce + kd + mgd"), image).eval()
        for name in ("resnet8", "wrn_16_1")
    ]
    with torch.no_grad():
        shown = [learner.tap(image).float() for learner in learners]
        for learner, own, other in zip(learners, shown, reversed(shown), strict=True):
            learner.method.build(own, other, TARGETS)
            learner.method.with_peer = True
        first, second = learners
        same = Preprocess((24, 24), (0.5,) * 3, (0.5,) * 3)
        total, mine = Peers(first, second, Reframe(same, same))(batch, None)
        again, theirs = Peers(second, first, Reframe(same, same))(batch, None)
    assert torch.allclose(total, again)
    assert torch.allclose(total, sum(mine, torch.tensor(0.0)) + sum(theirs, torch.tensor(0.0)))
    assert all((a - b).abs() > 1e-4 for a, b in zip(mine, theirs, strict=True))


def test_the_codes_of_peers_that_learn_keep_a_spread_over_the_batch() -> None:
    """Constant codes would agree at once; what the branches learn of the labels forbids them."""
    start, end = after_learning(0), after_learning(150)
    assert all(after > before for before, after in zip(start, end, strict=True))
    assert sum(end) > 1.5 * sum(after_learning(150, with_study=False))


def after_learning(steps: int, with_study: bool = True) -> list[float]:
    """How far the codes of two small networks spread that have taught each other for a while."""
    torch.manual_seed(0)
    image, target = torch.randn(40, 12), TARGETS
    batch = Batch(image, target, torch.arange(40))
    bodies = [nn.Sequential(nn.Linear(12, width), nn.ReLU()) for width in (8, 16)]
    heads = [nn.Linear(width, 5) for width in (8, 16)]
    methods = [Method.parse("ce + kd + mgd") for _ in bodies]

    def shown() -> list[Features]:
        pairs = zip(bodies, heads, strict=True)
        return [Features(head(body(image)), body(image)) for body, head in pairs]

    for method, own, other in zip(methods, shown(), reversed(shown()), strict=True):
        method.build(own, other, target)
        method.with_peer = with_study
    every = nn.ModuleList([*bodies, *heads, *methods])
    optimiser = torch.optim.SGD(every.parameters(), 0.02, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        features = shown()
        others = [own.detached() for own in reversed(features)]
        for method, own, other in zip(methods, features, others, strict=True):
            losses = list(method(own, other, batch).values())
            torch.autograd.backward(losses)
        optimiser.step()
    spreads = []
    for method, own, other in zip(methods, shown(), reversed(shown()), strict=True):
        mgd = method.named["mgd"]
        assert isinstance(mgd, MGD)
        assert own.embedding is not None
        assert other.embedding is not None
        codes = [e(own.embedding) for e in mgd.encoders] + mgd.of_teacher.codes(other.embedding)
        spreads += [float(code.detach().std(0).mean()) for code in codes]
    return spreads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": []}, "dims must be a list of whole numbers above 0"),
        ({"dims": [64, 0.5]}, "dims must be a list of whole numbers above 0"),
        ({"dims": [64, -1]}, "dims must be a list of whole numbers above 0"),
        ({"temperatures": [2.0, 0.0]}, "temperatures must be a list of numbers above 0"),
        ({"temperatures": 2.0}, "temperatures must be a list of numbers above 0, got 2.0"),
        ({"dims": [64]}, r"temperatures must be one for each of the 1 dims, got \(2.0, 8.0\)"),
        ({"stable": 1}, "stable must be true or false, got 1"),
        ({"study_share": 0.0}, r"study_share must be in \(0, 1\], got 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MGD(**options)


def test_a_network_without_an_embedding_is_refused() -> None:
    logits = Features(torch.zeros(6, 5))
    with pytest.raises(RecipeError, match="expected an embedding of both networks"):
        formula("mgd", logits, logits)
