"""What the orthogonal projection and the normalisations promise."""

from __future__ import annotations

import copy
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import Method
from edgekd.methods._orthogonal import KINDS, Orthogonal
from edgekd.methods.vkd import NORMALISE, VkD
from edgekd.models import zoo
from edgekd.trainer.learner import Learner
from tests.methods.conftest import TARGETS

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "vkd.py"))
WIDTHS = [(8, 32), (32, 32), (32, 8), (192, 512)]
OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 5e-2, momentum=0.9, weight_decay=5e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 5e-2, weight_decay=0.05),
}


def pooled(rows: Tensor) -> Features:
    """A network whose last map has one place."""
    return Features(rows, rows, (rows[:, :, None, None],))


def vkd(narrow: int, wide: int, **options: Any) -> VkD:
    torch.manual_seed(0)
    made = VkD(**options)
    made.build(pooled(torch.randn(2, narrow)), pooled(torch.randn(2, wide)), TARGETS)
    return made


def off(made: VkD) -> float:
    """How far the matrix is from orthonormal along its narrower side."""
    W = made.adapter.matrix().detach()
    gram = W.mT @ W if W.shape[0] >= W.shape[1] else W @ W.mT
    return float((gram - torch.eye(len(gram))).abs().max())


def ask(made: VkD, z: Tensor, t: Tensor, batch: Batch) -> Any:
    return made(pooled(z), pooled(t), batch)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("projection", KINDS)
def test_the_matrix_stays_orthonormal_whole_and_in_motion_under_any_optimiser(
    projection: str, optimiser: str, widths: tuple[int, int], batch: Batch
) -> None:
    made = vkd(*widths, projection=projection)
    first = made.adapter.matrix().detach()
    assert off(made) < 1e-4
    step = OPTIMISERS[optimiser](made.parameters())
    z, t = torch.randn(16, widths[0]), torch.randn(16, widths[1])
    slow = projection != "cholqr" and max(widths) > 100
    for done in range(1, 11 if slow else 61):
        step.zero_grad()
        ask(made, z, t, batch).backward()
        step.step()
        made.constrain()
        if done in (1, 10, 60):
            assert off(made) < 1e-4
    last = made.adapter.matrix().detach()
    assert float(last.square().sum()) == pytest.approx(min(widths), rel=1e-4)
    assert float((last - first).norm()) > 1e-3


@pytest.mark.parametrize("projection", ["cholqr", "newton_schulz"])
def test_putting_the_free_matrix_back_changes_nothing_that_is_seen(projection: str) -> None:
    made = vkd(8, 32, projection=projection).double()
    free = made.get_parameter("adapter.frame.free")
    with torch.no_grad():
        free.add_(0.05 * torch.randn(32, 8).double()).mul_(3)
    before = made.adapter.matrix().detach()
    assert torch.allclose(before.mT @ before, torch.eye(8).double(), atol=1e-6)
    made.constrain()
    assert torch.allclose(made.adapter.matrix(), before, atol=1e-6)
    assert torch.allclose(free, before, atol=1e-6)


@pytest.mark.parametrize("projection", KINDS)
def test_beside_a_network_in_half_precision_the_matrix_is_orthonormal_in_whole(
    projection: str,
) -> None:
    method = Method.from_table({"vkd": {"weight": 1.0, "projection": projection}})
    image = torch.randn(2, 3, 8, 8)
    learner = Learner(zoo.create("resnet8", 5), method, image)
    teacher = pooled(torch.randn(2, 96))
    with torch.no_grad():
        method.build(learner.tap(image).float(), teacher, TARGETS)
    made = method.terms["vkd"]
    assert isinstance(made, VkD)
    used: list[Tensor] = []

    def watch(module: nn.Module, args: tuple[Tensor], projected: Tensor) -> None:
        used.extend([made.adapter.matrix(), projected])

    made.adapter.register_forward_hook(watch)
    with torch.autocast("cpu", torch.bfloat16):
        learner(Batch(image, torch.zeros(2).long(), torch.arange(2)), teacher)
        half = made.adapter.matrix()  # what it would be, were the terms not shielded from it
    W, projected = used
    assert {W.dtype, projected.dtype} == {torch.float32}
    assert (W.mT @ W - torch.eye(64)).abs().max() < 1e-4
    assert not torch.allclose(half.float(), W, atol=1e-4)


def test_only_what_it_compares_is_asked_for(batch: Batch) -> None:
    assert VkD.needs == VkD().needs == VkD(where="dense").needs == {"stages"}
    blind, t = VkD(where="embedding"), torch.randn(6, 8)
    assert blind.needs == {"embedding"}
    without_maps = Features(t, t)
    blind.build(without_maps, without_maps, TARGETS)
    assert blind(without_maps, without_maps, batch).isfinite()


def test_no_parameter_of_it_decays() -> None:
    made = vkd(8, 32, affine=True)
    assert made.no_weight_decay() == {"adapter.frame.free", "scale", "bias"}
    assert made.no_weight_decay() == {name for name, _ in made.named_parameters()}


@pytest.mark.parametrize("projection", KINDS)
def test_lengths_angles_and_distances_survive_upwards_only(projection: str) -> None:
    z = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    up, down = vkd(8, 32, projection=projection), vkd(8, 4, projection=projection)
    assert torch.allclose(up.adapter(z) @ up.adapter(z).mT, z @ z.mT, atol=1e-4)
    assert torch.allclose(torch.pdist(up.adapter(z)), torch.pdist(z), atol=1e-4)
    assert not torch.allclose(down.adapter(z) @ down.adapter(z).mT, z @ z.mT, atol=1e-1)


@pytest.mark.parametrize("widths", [(3, 5), (4, 4), (5, 3)], ids=str)
@pytest.mark.parametrize("projection", KINDS)
def test_the_gradient_of_the_matrix_is_right(projection: str, widths: tuple[int, int]) -> None:
    made = Orthogonal(*widths, projection).double()
    given = list(made.parameters())
    with torch.no_grad():
        for parameter in given:
            parameter.add_(0.1 * torch.randn_like(parameter))

    def matrix(*parameters: Tensor) -> Tensor:
        return made.matrix()

    assert torch.autograd.gradcheck(matrix, given)


def test_the_thin_exponential_is_the_whole_one() -> None:
    made = Orthogonal(4, 11, "exp_thin").double()
    learned = made.state_dict()
    learned["frame.start"].copy_(torch.linalg.qr(learned["frame.start"]).Q)
    assert torch.allclose(made.matrix(), learned["frame.start"], atol=1e-12)  # nothing learned yet
    for size in (0.1, 10.0):
        learned["frame.inside"].normal_().mul_(size)
        learned["frame.outside"].normal_().mul_(size)
        arrays = {key: value.numpy() for key, value in learned.items()}
        whole = torch.from_numpy(REFERENCE["weight"](arrays, "exp_thin", 4))
        assert torch.allclose(made.matrix(), whole, atol=1e-10)


def test_a_backward_pass_at_the_width_of_a_large_teacher_takes_no_seconds(batch: Batch) -> None:
    made = vkd(192, 3024)
    began = time.perf_counter()
    ask(made, torch.randn(4, 192), torch.randn(4, 3024), batch).backward()
    assert time.perf_counter() - began < 5  # reflections take 26 s


def test_each_normalisation_does_what_its_name_says() -> None:
    rows = torch.randn(4000, 6).double() @ torch.randn(6, 6).double() * 20 + 3
    layer, batch, white = (NORMALISE[name](rows) for name in ("layer", "batch", "whiten"))
    ones, eye = torch.ones(()).double(), torch.eye(6).double()
    assert layer.mean(1).abs().max() < 1e-12
    assert torch.allclose(layer.square().sum(1), 6 * ones, rtol=1e-4)
    assert batch.mean(0).abs().max() < 1e-12
    assert torch.allclose(batch.std(0), ones, rtol=1e-6)
    assert (torch.cov(white.mT) - eye).abs().max() < 0.05
    assert (torch.cov(batch.mT) - eye).abs().max() > 0.2
    assert torch.equal(NORMALISE["none"](rows), rows)


@pytest.mark.parametrize("normalise", NORMALISE)
def test_a_channel_that_never_changes_and_few_images_leave_the_loss_finite(
    normalise: str, batch: Batch
) -> None:
    z, t = torch.randn(3, 4, requires_grad=True), torch.randn(3, 8)
    t[:, 2] = 7
    made = vkd(4, 8, normalise=normalise, normalise_student="batch")
    ask(made, z, t, batch).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_nothing_is_lost_where_the_projected_student_is_the_normalised_teacher(
    batch: Batch,
) -> None:
    made, t = vkd(8, 8), torch.randn(5, 8)
    z = F.layer_norm(t, (8,)) @ made.adapter.matrix().detach()  # W^T N(t)
    assert ask(made, z, t, batch) < 1e-10
    assert ask(made, -z, t, batch) > 0.5


def test_errors_count_squared_up_to_one_and_absolutely_beyond(batch: Batch) -> None:
    made, t = vkd(2, 2, normalise="none"), torch.randn(1, 2)
    W = made.adapter.matrix().detach()

    def lost(error: float) -> float:
        return float(ask(made, (t + error) @ W, t, batch).detach())

    assert lost(0.5) == pytest.approx(0.125, abs=1e-5)
    assert lost(3.0) == pytest.approx(2.5, abs=1e-5)


def test_the_learned_scale_and_bias_start_at_nothing_and_are_learned(batch: Batch) -> None:
    z, t = torch.randn(6, 4), torch.randn(6, 8)
    plain, made = vkd(4, 8), vkd(4, 8, affine=True)
    loss = ask(made, z, t, batch)
    assert torch.equal(loss, ask(plain, z, t, batch))
    loss.backward()
    for parameter in (made.scale, made.bias):
        assert parameter is not None
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_copies_and_saved_states_give_the_same_loss(batch: Batch) -> None:
    z, t = torch.randn(6, 4), torch.randn(6, 8)
    for projection in KINDS:
        made, other = vkd(4, 8, projection=projection), VkD(projection=projection)
        other.build(pooled(z), pooled(t), TARGETS)
        other.load_state_dict(made.state_dict())
        assert torch.equal(ask(other, z, t, batch), ask(made, z, t, batch))
        assert torch.equal(ask(copy.deepcopy(made), z, t, batch), ask(made, z, t, batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "svd"}, "projection must be one of cholqr, exp_thin, newton_schulz, got"),
        ({"normalise": "group"}, "normalise must be one of auto, layer, batch, whiten, none, got"),
        ({"normalise_student": "layer"}, "normalise_student must be one of auto, batch, none, got"),
        ({"where": []}, r"where must be one of pooled, embedding, dense, got \[\]"),
        ({"distance": "l1"}, "distance must be one of smooth_l1, mse, got 'l1'"),
        ({"affine": 1}, "affine must be true or false, got 1"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VkD(**options)


def test_networks_it_cannot_serve_are_refused() -> None:
    wide = pooled(torch.zeros(1, 5000))
    with pytest.raises(ValueError, match="from 5000 to 5000 channels takes too long: expected"):
        VkD().build(wide, wide, TARGETS)
    with pytest.raises(ValueError, match="expected embeddings of both networks"):
        VkD(where="embedding").build(Features(torch.zeros(2, 3)), wide, TARGETS)
    VkD().build(pooled(torch.zeros(1, 2)), wide, TARGETS)  # a narrow student of a wide teacher
