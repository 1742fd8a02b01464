"""One pass shows everything a method asks for, and leaves the network as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from edgekd.errors import UsageError
from edgekd.features import DEPTHS
from edgekd.models import zoo
from edgekd.models.places import find_places
from edgekd.models.probe import record
from edgekd.models.tap import Tap, stage_indices

ALL = frozenset({"logits", "embedding", "stages"})
TIMM = [
    "resnet8",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2_cifar",
    "shufflenetv1_cifar",
    "resnet18",
    "mobilenetv3_small_050",
    "tinynet_e",
    "lcnet_050",
    "regnetx_002",
    "ghostnet_050",
    "convnext_atto",
    "densenet121",
    "edgenext_xx_small",
    "fastvit_t8",
    "mobilevit_xxs",
    "repvit_m0_9",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
]
WATCHED = ["torchvision/resnet18", "torchvision/mobilenet_v3_small", "torchvision/mnasnet0_5"]
PLAIN_HEAD = ("resnet8", "resnet18", "convnext_atto", "vit_tiny_patch16_224", *WATCHED)
SIDE, CLASSES = 64, 7

Make = Callable[[str], nn.Module]


@pytest.fixture(scope="module")
def made() -> Make:
    """A network by name, the same weights every time."""
    kept: dict[str, nn.Module] = {}

    def make(name: str) -> nn.Module:
        if name not in kept:
            torch.manual_seed(0)
            kept[name] = zoo.create(name, CLASSES, SIDE).eval()
        return copy.deepcopy(kept[name])

    return make


def image(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TIMM + WATCHED)
def test_the_logits_are_the_network_s_and_the_shapes_agree(made: Make, name: str) -> None:
    model, x = made(name), image()
    with torch.no_grad():
        expected = model(x)
        shown = Tap(model, ALL, x[:1])(x)
    assert torch.allclose(shown.logits, expected, atol=1e-5)
    assert shown.logits.shape == (2, CLASSES)
    assert shown.embedding is not None
    assert shown.embedding.ndim == 2
    assert len(shown.stages) >= 3
    assert all(stage.ndim == 4 and stage.isfinite().all() for stage in shown.stages)
    sides = [stage.shape[-1] for stage in shown.stages]
    assert sides == sorted(sides, reverse=True)
    if name.startswith("torchvision/"):
        assert len(set(sides)) == len(sides)  # one map a resolution
    else:
        _check_against_timm(model, shown.stages, shown.embedding)


def _check_against_timm(model: Any, stages: tuple[Tensor, ...], embedding: Tensor) -> None:
    described = [(i["num_chs"], SIDE // i["reduction"]) for i in model.feature_info]
    assert embedding.shape[1] == model.head_hidden_size
    assert {(stage.shape[1], stage.shape[-1]) for stage in stages} <= set(described)
    last = {side: channels for channels, side in described}  # of each resolution
    assert (stages[-1].shape[1], stages[-1].shape[-1]) == described[-1]
    if len(last) > 1:
        assert list(last.items()) == [(stage.shape[-1], stage.shape[1]) for stage in stages]


@pytest.mark.parametrize("name", PLAIN_HEAD)
def test_the_embedding_is_what_the_classifier_sees(made: Make, name: str) -> None:
    model, x = made(name), image()
    with torch.no_grad():
        shown = Tap(model, ALL, x)(x)
    *_, classifier = (m for m in model.modules() if isinstance(m, nn.Linear))
    assert torch.allclose(classifier(shown.embedding), shown.logits, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet8", "torchvision/resnet18"])
def test_what_nobody_asked_for_is_not_shown(made: Make, name: str) -> None:
    model, x = made(name), image()
    shown = Tap(model, {"logits"}, x)(x)
    assert (shown.embedding, shown.stages, shown.preacts, shown.blocks) == (None, (), (), ())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for need in ("embedding", "stages", "preacts", "blocks"):
        shown = Tap(model, {need}, x)(x)
        for other in ("embedding", "stages", "preacts", "blocks"):
            assert bool(getattr(shown, other) not in (None, ())) is (other == need), other


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "torchvision/resnet18"])
def test_a_pass_runs_the_network_once(made: Make, name: str) -> None:
    model, x = made(name), image()
    tap = Tap(model, ALL, x).train()
    tap(x)
    counts = {int(v) for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    assert counts == {1}


@pytest.mark.parametrize("name", ["resnet8", "vit_tiny_patch16_224", "torchvision/mnasnet0_5"])
def test_gradients_reach_the_network_through_every_depth(made: Make, name: str) -> None:
    model, x = made(name), image()
    shown = Tap(model, ALL, x).train()(x)
    assert shown.embedding is not None
    for seen in (shown.logits, shown.embedding, *shown.stages):
        first = next(model.parameters())
        (gradient,) = torch.autograd.grad(seen.square().sum(), first, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "mobilenetv3_small_050"])
def test_the_parameters_keep_the_names_timm_gives_them(made: Make, name: str) -> None:
    model = made(name)
    tap = Tap(model, ALL, image())
    assert list(tap.model.state_dict()) == list(timm.create_model(name).state_dict())
    assert list(tap.state_dict()) == [f"model.{key}" for key in model.state_dict()]


@pytest.mark.parametrize("name", WATCHED)
def test_a_watched_network_can_be_run_and_copied_beside_the_tap(made: Make, name: str) -> None:
    """Evaluating the bare student, or its moving average, must not trip over the hooks."""
    model, x = made(name), image()
    tap = Tap(model, ALL, x)
    average = copy.deepcopy(model)
    with torch.no_grad():
        before = tap(x)
        for _ in range(2):
            assert torch.allclose(model(x), before.logits, atol=1e-5)
            assert torch.allclose(average(x), before.logits, atol=1e-5)
        after = tap(x)
    assert all(torch.equal(a, b) for a, b in zip(before.stages, after.stages, strict=True))


def test_a_watched_network_that_fails_can_be_asked_again(made: Make) -> None:
    model, x = made("torchvision/resnet18"), image()
    tap = Tap(model, ALL, x)
    with pytest.raises(RuntimeError):
        tap(x[:, :1])
    assert len(tap(x).stages) == 5


class Odd(nn.Module):
    """A network of the user's own, whose ``relu`` runs twice and whose ``deep`` only once."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.twice = twice
        self.wide = nn.Conv2d(3, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.wide(x))
        x = self.relu(self.deep(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits + self.head(x.mean((2, 3))) if self.twice and self.training else logits


def test_modules_that_run_twice_are_not_watched() -> None:
    net = Odd()
    places, head = find_places(net, record(net, net, image())[1], image())
    assert ([place.name for place in places], head) == (["wide", "deep"], "head")
    shown = Tap(Odd(), ALL, image())(image())
    assert [stage.shape for stage in shown.stages] == [(2, 4, 64, 64), (2, 6, 32, 32)]


def test_a_module_that_runs_twice_after_all_is_refused() -> None:
    tap = Tap(Odd(twice=True), ALL, image()).train()
    with pytest.raises(UsageError, match="module 'head' ran twice in one pass"):
        tap(image())


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv3_small_050", "torchvision/resnet18"])
@pytest.mark.parametrize("training", [True, False])
def test_making_a_tap_leaves_the_network_as_it_was(made: Make, name: str, training: bool) -> None:
    model = made(name).train(training)
    before = copy.deepcopy(model.state_dict())
    Tap(model, ALL, image())
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["resnet8", "torchvision/resnet18"])
def test_making_a_tap_draws_no_random_numbers_and_keeps_each_module_s_mode(
    made: Make, name: str
) -> None:
    model = made(name).train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    before = torch.get_rng_state()
    Tap(model, DEPTHS, image())
    assert torch.equal(torch.get_rng_state(), before)
    assert [m for m in model.modules() if not m.training] == [frozen]


@pytest.mark.parametrize("name", ["resnet8", "torchvision/resnet18"])
def test_a_copy_of_a_tap_shows_what_the_first_shows(made: Make, name: str) -> None:
    tap = Tap(made(name), DEPTHS, image())
    with torch.no_grad():
        first, second = tap(image()), copy.deepcopy(tap)(image())
    assert torch.equal(first.logits, second.logits)
    for depth in ("stages", "preacts"):
        pairs = zip(getattr(first, depth), getattr(second, depth), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


PYRAMIDS = {  # channels and side of each map, as timm's networks of these names have them
    "resnet50": [(64, 32), (256, 16), (512, 8), (1024, 4), (2048, 2)],
    "mobilenet_v2": [(16, 32), (24, 16), (32, 8), (96, 4), (1280, 2)],
    "efficientnet_b0": [(16, 32), (24, 16), (40, 8), (112, 4), (320, 2)],
    "regnet_x_400mf": [(32, 32), (32, 16), (64, 8), (160, 4), (400, 2)],
    "convnext_tiny": [(96, 16), (192, 8), (384, 4), (768, 2)],
    "swin_t": [(96, 16), (192, 8), (384, 4), (768, 2)],
    "vgg11": [(64, 64), (128, 32), (256, 16), (512, 8), (512, 4), (512, 2)],
}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_a_watched_network_s_resolution_ends_with_its_last_block(made: Make, name: str) -> None:
    model = made(f"torchvision/{name}")
    with torch.no_grad():
        shown = Tap(model, {"stages"}, image())(image())
    assert [stage.shape[1:3] for stage in shown.stages] == PYRAMIDS[name]


def test_looking_for_places_leaves_no_hook(made: Make) -> None:
    model = made("torchvision/resnet18")
    record(model, model, image())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)), nn.Conv2d(3, 7, 3)],
    ids=["no maps", "no classifier"],
)
def test_a_network_that_shows_nothing_is_refused_in_words(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="shows no feature maps: expected a convolutional"):
        Tap(model, {"stages"}, image())


@pytest.mark.parametrize(
    ("reductions", "shown"),
    [
        ([2, 4, 8], [0, 1, 2]),
        ([2, 4, 4, 8, 8], [0, 2, 4]),
        ([16] * 12, [2, 5, 8, 11]),
        ([16] * 4, [0, 1, 2, 3]),
        ([16] * 2, [0, 1]),
        ([16], [0]),
    ],
)
def test_the_last_map_of_each_resolution_is_shown(reductions: list[int], shown: list[int]) -> None:
    assert stage_indices(reductions) == shown
