"""Knowledge diffusion: its schedule, its way back to a clean map, and who learns from what."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.features import Features
from edgekd.methods import _diffusion
from edgekd.methods._diffusion import KEPT, Branch, Gate
from edgekd.methods.diffkd import DiffKD
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
TIMES = {1: [0], 2: [250, 0], 3: [332, 166, 0], 5: [400, 300, 200, 100, 0]}
TIMES[10] = [450, 400, 350, 300, 250, 200, 150, 100, 50, 0]


class Says(nn.Module):
    """A noise network with one answer, or one for each time; writes the times down."""

    def __init__(self, answer: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.answer, self.asked = answer, list[int]()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.asked.append(int(time[0]))
        return self.answer(x, self.asked[-1])


class Keeps(nn.Module):
    """A gate that is always open, or always shut."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), 1, 1, 1), self.share)


def maps(channels: int, *size: int, batch: int = 6, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=source).double()


def branch(
    s: Tensor,
    t: Tensor,
    latent: int = 0,
    vector: bool = False,
    steps: int = 5,
    freeze: bool = False,
) -> Branch:
    torch.manual_seed(0)
    return Branch(s, t, latent, vector, steps, freeze).double()


def cleans(answer: Callable[[Tensor, int], Tensor], x: Tensor, steps: int = 5) -> Tensor:
    made = branch(x, x, steps=steps)
    made.net = Says(answer)  # type: ignore[assignment]
    return made.denoised(x)


def test_the_schedule_is_the_linear_one() -> None:
    assert len(KEPT) == 1000
    assert [KEPT[0], KEPT[400]] == pytest.approx([0.99990, 0.19357], abs=5e-6)
    assert KEPT[999] == pytest.approx(4.0e-5, rel=0.02)


@pytest.mark.parametrize("steps", TIMES)
def test_the_noise_is_asked_for_at_the_second_half_of_the_times(steps: int) -> None:
    x = maps(8, 2, 2)
    made = branch(x, x, steps=steps)
    made.net = says = Says(lambda x, t: 0 * x)  # type: ignore[assignment]
    made.denoised(x)
    assert says.asked == TIMES[steps]


def test_a_map_is_recovered_when_its_noise_is_known() -> None:
    clean, noise = maps(8, 5, 9), maps(8, 5, 9, seed=1)
    noisy = KEPT[400] ** 0.5 * clean + (1 - KEPT[400]) ** 0.5 * noise
    assert torch.allclose(cleans(lambda x, t: noise, noisy), clean, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("steps", "gain"), [(1, 1.0001), (2, 1.385), (3, 1.766), (5, 2.273), (10, 2.819), (20, 3.169)]
)
def test_without_noise_found_a_map_is_only_scaled(steps: int, gain: float) -> None:
    x = maps(8, 3, 3)
    found = cleans(lambda x, t: torch.zeros_like(x), x, steps)
    assert torch.allclose(found, gain * x, rtol=5e-4)


def test_five_steps_have_their_closed_form() -> None:
    said = {400: 1.5, 300: -0.3, 200: 0.7, 100: 2.0, 0: -1.1}
    x = maps(8, 3, 3)
    found = cleans(lambda x, t: torch.full_like(x, said[t]), x)
    weights = {400: 0.800926, 300: 0.516570, 200: 0.381331, 100: 0.332259, 0: 0.010001}
    expected = 2.272892 * x - sum(weights[t] * said[t] for t in said)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latent", [0, 16])
@pytest.mark.parametrize("size", [(7, 7), (5, 9), (1, 1)])
def test_the_refined_map_has_the_shape_of_the_target(latent: int, size: tuple[int, int]) -> None:
    s, t = maps(3, *size), maps(10, *size, seed=1)
    found = branch(s, t, latent, vector=size == (1, 1))(s, t)
    assert found.refined.shape == found.target.shape == (6, latent or 10, *size)


PARTS = ["adapter", "gate", "net", "last", "encoder", "decoder"]
REACHED = {
    "refined": ["adapter", "gate", "net", "last"],
    "noise_loss": ["net"],
    "code_loss": ["encoder", "decoder"],
}


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("loss", REACHED)
def test_who_learns_from_what(loss: str, freeze: bool) -> None:
    s, t = maps(3, 4, 4).requires_grad_(), maps(10, 4, 4, seed=1).requires_grad_()
    made = branch(s, t, latent=16, freeze=freeze)
    found = made(s, t)
    wanted = getattr(found, loss)
    if loss == "refined":
        wanted = (wanted - found.target).square().mean()
    wanted.backward()
    reached = [
        part
        for part in PARTS
        if any(p.grad is not None and p.grad.any() for p in made.get_submodule(part).parameters())
    ]
    expected = [
        part for part in REACHED[loss] if not (freeze and loss == "refined" and part == "net")
    ]
    assert reached == expected
    assert (s.grad is not None) is (loss == "refined")
    assert t.grad is None  # whatever the caller asked for


def test_the_diffusion_loss_reaches_the_rows_of_the_times_it_drew() -> None:
    t = maps(10, 4, 4)
    made = branch(t, t)
    torch.manual_seed(3)
    torch.randn_like(t)
    drawn = torch.randint(1000, (len(t),))
    torch.manual_seed(3)
    torch.autograd.backward(made.noise_loss(t))
    assert made.net.time.weight.grad is not None
    reached = made.net.time.weight.grad.abs().sum(1).nonzero()[:, 0]
    assert reached.tolist() == sorted(set(drawn.tolist()))
    assert len(reached) == 6


def test_batch_norm_cancels_a_time_that_all_images_share() -> None:
    x = maps(8, 3, 3)
    net = branch(x, x).net
    early, late, mixed = (
        net(x, torch.tensor(times)) for times in ([0] * 6, [900] * 6, [0, 900] * 3)
    )
    assert torch.allclose(early, late, rtol=0, atol=1e-9)
    assert not torch.allclose(early, mixed, atol=0.1)


@pytest.mark.parametrize("vector", [False, True])
def test_the_gate_gives_each_image_a_share(vector: bool) -> None:
    torch.manual_seed(0)
    shares = Gate(8, vector).double()(5 * maps(8, 1, 1))
    assert shares.shape == (6, 1, 1, 1)
    assert ((shares > 0) & (shares < 1)).all()
    assert len(shares.unique()) == 6


def refined(made: Branch, s: Tensor, t: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    found: Tensor = made(s, t).refined
    return found


def test_the_random_numbers_are_the_gates_and_a_seed_repeats_them() -> None:
    s, other, t = maps(8, 3, 3), maps(8, 3, 3, seed=1), maps(8, 3, 3, seed=2)
    made = branch(s, t)
    assert torch.equal(refined(made, s, t, 1), refined(made, s, t, 1))
    assert not torch.equal(refined(made, s, t, 1), refined(made, s, t, 2))
    made.gate = Keeps(1.0)  # type: ignore[assignment]
    assert torch.equal(refined(made, s, t, 1), refined(made, s, t, 2))
    made.gate = Keeps(0.0)  # type: ignore[assignment]
    assert torch.equal(refined(made, s, t, 1), refined(made, other, t, 1))


def test_who_finds_no_noise_is_wrong_by_the_noise_s_variance() -> None:
    x = maps(8, 8, 8, batch=64)
    made = branch(x, x)
    made.net = Says(lambda x, t: torch.zeros_like(x))  # type: ignore[assignment]
    assert float(made.noise_loss(x)) == pytest.approx(1, abs=0.02)


def test_an_autoencoder_that_loses_nothing_has_no_loss() -> None:
    t = maps(8, 4, 4)
    made = branch(t, t, latent=8)
    assert float(made.coded(t)[1].detach()) > 0.1
    eye, std = torch.eye(8).double(), (t.var((0, 2, 3), correction=0) + 1e-5).sqrt()
    values = {
        "encoder.0.weight": eye[:, :, None, None],
        "decoder.weight": (eye * std)[:, :, None, None],
        "decoder.bias": t.mean((0, 2, 3)),
    }
    made.load_state_dict(values, strict=False)
    assert float(made.coded(t)[1].detach()) < 1e-20


def count(s: int, t: int, latent: int, vector: bool = False) -> int:
    made = Branch(torch.empty(1, s, 1, 1), torch.empty(1, t, 1, 1), latent, vector, 5, False)
    return sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize(
    ("student", "teacher", "theirs"), [(512, 512, 7644418), (1024, 2048, 11315970)]
)
def test_a_branch_of_maps_is_as_large_as_the_authors(
    student: int, teacher: int, theirs: int
) -> None:
    C = 1024
    cancelled = C + 2 * (C // 4 + C // 4 + C) + C + (C // 8 + C // 8 + C) + C  # biases before norms
    assert count(student, teacher, C) == theirs - cancelled - 280 * C  # and rows of unused times


def test_a_branch_of_logits_is_as_large_as_the_authors() -> None:
    K = 1000
    cancelled = (4 * K + K + 4 * K) + (2 * K + K) + K
    assert count(K, K, 0, vector=True) == 23323002 - cancelled - 280 * K


def term(shown: Shown, width: int = 16, **options: Any) -> tuple[DiffKD, Features, Features]:
    student, teacher = shown([(4, 8), (6, 4)], 1), shown([(8, 8), (width, 4)], 2)
    made = DiffKD(**options)
    torch.manual_seed(0)
    made.build(student, teacher, TARGETS)
    return made, student, teacher


@pytest.mark.parametrize(
    ("width", "latent", "code"),
    [(10, 0, 0), (512, 0, 0), (514, 0, 264), (2048, 0, 1024), (10, 8, 8), (10, 9, 16)],
)
def test_wide_maps_are_met_in_a_code_of_a_multiple_of_8(
    shown: Shown, width: int, latent: int, code: int
) -> None:
    found = term(shown, width, on="maps", latent=latent)[0].state_dict()
    encoder = found.get("branches.maps.encoder.0.weight")
    assert (0 if encoder is None else len(encoder)) == code


def test_the_two_branches_add_up(shown: Shown, batch: Batch) -> None:
    both, student, teacher = term(shown, diffusion_weight=1e-30)
    losses = []
    for on in ("both", "maps", "logits"):
        made, _, _ = term(shown, on=on, diffusion_weight=1e-30)
        made.load_state_dict(both.state_dict(), strict=False)
        for part in made.branches.values():
            part.gate = Keeps(1.0)  # nothing is left to chance
        losses.append(float(made(student, teacher, batch).detach()))
    assert losses[0] == pytest.approx(losses[1] + losses[2])


def test_logits_alone_ask_for_no_maps(shown: Shown, batch: Batch) -> None:
    assert DiffKD().needs == {"stages"}
    made, student, teacher = DiffKD(on="logits"), shown([(4, 8)], 1), shown([(4, 8)], 2)
    assert made.needs == {"logits"}
    student, teacher = replace(student, stages=()), replace(teacher, stages=())
    made.build(student, teacher, TARGETS)
    assert made(student, teacher, batch).isfinite()


def test_the_table_of_times_does_not_decay(shown: Shown) -> None:
    made, _, _ = term(shown)
    assert made.no_weight_decay() == {key for key, _ in made.named_parameters() if "time" in key}
    assert len(made.no_weight_decay()) == 2


def test_three_steps_in_half_precision_stay_finite(shown: Shown, batch: Batch) -> None:
    made, student, teacher = term(shown)
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = made(student, teacher, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert {buffer.dtype for buffer in made.buffers()} == {torch.float32}


def test_the_schedule_is_not_saved(shown: Shown) -> None:
    made, _, _ = term(shown)
    assert set(made.state_dict()) == {key for key, _ in made.named_parameters()}


def test_training_lowers_both_losses() -> None:
    torch.manual_seed(0)
    base = torch.randn(8, 8).double()
    t = torch.einsum("oc,bchw->bohw", base, maps(8, 4, 4, batch=32)) / 8**0.5
    s = torch.einsum("oc,bchw->bohw", torch.randn(4, 8).double(), t)
    made = branch(s, t, steps=2)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        found = made(s, t)
        pair = torch.stack([(found.refined - found.target).square().mean(), found.noise_loss])
        optimizer.zero_grad()
        pair.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(pair.detach())
    first, last = torch.stack(losses[:10]).mean(0), torch.stack(losses[-10:]).mean(0)
    assert (last < 0.7 * first).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": "map"}, "on must be one of both, maps, logits, got 'map'"),
        ({"distance": "mse"}, "distance must be kl or dist, got 'mse'"),
        ({"latent": -8}, "latent must be a width, or 0, got -8"),
        ({"latent": 8.5}, "latent must be a width, or 0, got 8.5"),
        ({"steps": 0}, "steps must be a whole number from 1 to 500, got 0"),
        ({"steps": 501}, "steps must be a whole number from 1 to 500, got 501"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"diffusion_weight": 0}, "diffusion_weight must be above 0, got 0"),
        ({"autoencoder_weight": -1}, "autoencoder_weight must be above 0, got -1"),
        ({"freeze_noise_net": 1}, "freeze_noise_net must be true or false, got 1"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        DiffKD(**options)


def test_networks_without_maps_are_refused(shown: Shown) -> None:
    blind = replace(shown([(4, 8)], 1), stages=())
    with pytest.raises(ValueError, match="expected feature maps of both networks"):
        DiffKD().build(blind, blind, TARGETS)


def test_the_longest_schedule_still_has_a_stride() -> None:
    x = maps(8, 1, 1)
    assert cleans(lambda x, t: torch.zeros_like(x), x, _diffusion.TIMES // 2).isfinite().all()
