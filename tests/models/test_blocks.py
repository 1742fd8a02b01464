"""The depths between the stages: each block's output, and what the last activation was given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.errors import UsageError
from edgekd.features import Features
from edgekd.models import Tap, zoo

DEEP = frozenset({"logits", "stages", "preacts", "blocks"})
CIFAR = {
    "resnet8": (1, 1, 1),
    "resnet20": (3, 3, 3),
    "resnet56": (9, 9, 9),
    "resnet8x4": (1, 1, 1),
    "wrn_16_2": (2, 2, 2),
    "wrn_40_2": (6, 6, 6),
    "vgg8": (1, 1, 1, 2),
    "vgg13_cifar": (2, 2, 2, 4),
    "mobilenetv2_cifar": (2, 3, 7, 4),
    "shufflenetv1_cifar": (4, 8, 4),
    "shufflenetv2_cifar": (4, 8, 4),
}
OTHERS = {  # with the stem in front, where timm counts its map
    "resnet18": (1, 2, 2, 2, 2),
    "resnet50": (1, 3, 4, 6, 3),
    "wide_resnet50_2": (1, 3, 4, 6, 3),
    "resnetv2_18": (1, 2, 2, 2, 2),
    "regnetx_002": (1, 1, 1, 4, 7),
    "repvgg_a0": (1, 2, 4, 14, 1),
    "efficientnet_lite0": (1, 2, 2, 6, 5),
    "mobilenetv2_035": (1, 2, 3, 7, 4),
    "mobilenetv3_small_050": (1, 1, 2, 5, 4),
    "mobilenetv4_conv_small_050": (1, 2, 2, 6, 7),
    "ghostnet_050": (1, 1, 1, 1, 1),
    "convnext_atto": (2, 2, 6, 2),
    "edgenext_xx_small": (2, 2, 6, 2),
    "poolformer_s12": (2, 2, 6, 2),
    "swin_tiny_patch4_window7_224": (2, 2, 6, 2),
    "maxvit_rmlp_pico_rw_256": (1, 2, 2, 5, 2),
    "mobilevit_xxs": (1, 3, 2, 2, 3),
    "pvt_v2_b0": (2, 2, 2, 2),
    "levit_128s": (2, 3, 4),
    "efficientformerv2_s0": (2, 2, 6, 4),
    "tiny_vit_5m_224": (2, 2, 6, 2),
    "vit_tiny_patch16_224": (3, 3, 3, 3),
    "deit_tiny_distilled_patch16_224": (3, 3, 3, 3),
    "mixer_s32_224": (2, 2, 2, 2),
    "xcit_nano_12_p16_224": (3, 3, 3, 3),
    "torchvision/resnet18": (1, 2, 2, 2, 2),
    "torchvision/mobilenet_v3_small": (1, 1, 2, 5, 4),
    "torchvision/swin_t": (2, 2, 6, 2),
}
UNKNOWN = ("densenet121", "tnt_s_patch16_224", "torchvision/densenet121")
ACTIVE = ("resnet20", "vgg8", "shufflenetv1_cifar", "resnet18", "regnetx_002", "repvgg_a0")
REUSED = ("torchvision/resnet18",)  # one ReLU, in place, twice a block
PASSIVE = ("wrn_16_2", "mobilenetv2_cifar", "convnext_atto", "vit_tiny_patch16_224", "resnetv2_18")
CLASSES, SIDE = 5, 64

Make = Callable[[str], nn.Module]


@pytest.fixture(scope="module")
def made() -> Make:
    """A network by name, with random norms, so that no branch starts as zero."""

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        model = zoo.create(name, CLASSES, SIDE).eval()
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.uniform_(parameter, *((-0.5, 0.3) if key.endswith("bias") else (0.2, 0.6)))
        return model

    return make


def image(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def ask(model: nn.Module, x: Tensor, needs: frozenset[str] = DEEP) -> Features:
    with torch.no_grad():
        shown: Features = Tap(model, needs, x[:1])(x)
    return shown


def kept(model: nn.Module, names: list[str], x: Tensor) -> list[Tensor]:
    """What these modules give, copied before anyone can write over it."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        return lambda module, args, output: found.update({name: output.clone()})

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [found[name] for name in names]


@pytest.mark.parametrize("name", [*CIFAR, *OTHERS, *UNKNOWN])
def test_each_stage_shows_its_blocks_and_ends_with_its_map(made: Make, name: str) -> None:
    model, x = made(name), image()
    with torch.no_grad():
        expected = model(x)
    shown = ask(model, x)
    assert torch.allclose(shown.logits, expected, atol=1e-4)
    counts = tuple(len(blocks) for blocks in shown.blocks)
    assert counts == {**CIFAR, **OTHERS}.get(name, (1,) * len(shown.stages))
    assert len(shown.preacts) == len(shown.stages)
    for stage, preact, blocks in zip(shown.stages, shown.preacts, shown.blocks, strict=True):
        assert torch.equal(blocks[-1], stage)
        assert preact.shape == stage.shape
        assert preact.isfinite().all()
        assert all(block.ndim == 4 and block.shape[2:] == stage.shape[2:] for block in blocks)
        assert all(block.isfinite().all() for block in blocks)
        for one, other in pairwise(blocks):
            assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("name", [name for family in zoo.FAMILIES for name in family.__all__])
def test_the_blocks_of_a_cifar_network_are_those_its_stages_hold(made: Make, name: str) -> None:
    model, x = made(name), image()[..., :32, :32]
    shown = ask(model, x, frozenset({"blocks"}))
    stages: Any = model.stages
    names = [[f"stages.{i}.{j}" for j in range(len(stage))] for i, stage in enumerate(stages)]
    for blocks, row in zip(shown.blocks, names, strict=True):
        outputs = kept(model, row, x)
        assert all(torch.equal(a, b) for a, b in zip(blocks, outputs, strict=True))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("resnet50", "layer3"),
        ("convnext_atto", "stages.2.blocks"),
        ("efficientnet_lite0", "blocks.2"),
        ("torchvision/resnet18", "layer3"),
    ],
)
def test_a_block_is_shown_as_it_gave_it(made: Make, name: str, row: str) -> None:
    """Later layers that write in place do not reach it."""
    model = made(name)
    rows = model.get_submodule(row)
    outputs = kept(model, [f"{row}.{i}" for i, _ in enumerate(rows.children())], image())
    blocks = next(b for b in ask(model, image()).blocks if b[-1].shape == outputs[-1].shape)
    assert all(torch.equal(a, b) for a, b in zip(blocks, outputs, strict=True))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_the_blocks_of_a_vit_are_all_its_maps(made: Make, name: str) -> None:
    model: Any = made(name)
    with torch.no_grad():
        every = model.forward_intermediates(image(), intermediates_only=True)
    blocks = [block for blocks in ask(model, image()).blocks for block in blocks]
    assert all(torch.equal(a, b) for a, b in zip(blocks, every, strict=True))


def test_the_blocks_of_a_swin_are_turned_to_channels_first(made: Make) -> None:
    model = made("swin_tiny_patch4_window7_224")
    outputs = kept(model, [f"layers.2.blocks.{i}" for i in range(6)], image())
    blocks = ask(model, image()).blocks[2]
    assert all(torch.equal(a, b.permute(0, 3, 1, 2)) for a, b in zip(blocks, outputs, strict=True))


@pytest.mark.parametrize("name", [*ACTIVE, *REUSED])
def test_a_preact_is_the_map_before_its_relu(made: Make, name: str) -> None:
    shown = ask(made(name), image())
    for preact, stage in zip(shown.preacts, shown.stages, strict=True):
        assert torch.equal(F.relu(preact), stage)
        assert (preact < 0).any()


def test_a_preact_before_another_activation_is_found(made: Make) -> None:
    shown = ask(made("mobilenetv3_small_050"), image())
    first, *between, last = zip(shown.preacts, shown.stages, strict=True)
    for preact, stage in (first, last):
        assert torch.equal(F.hardswish(preact), stage)
        assert not torch.equal(preact, stage)
    assert all(torch.equal(preact, stage) for preact, stage in between)  # linear bottlenecks


@pytest.mark.parametrize("name", PASSIVE)
def test_a_map_no_activation_made_is_its_own_preact(made: Make, name: str) -> None:
    shown = ask(made(name), image())
    assert all(torch.equal(a, b) for a, b in zip(shown.preacts, shown.stages, strict=True))


DIFFERENT = ["resnet8", "resnet18", "vit_tiny_patch16_224", "torchvision/resnet18"]


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "autocast"])
def test_a_student_learns_through_every_depth(made: Make, name: str, half: bool) -> None:
    model = made(name).train().to(memory_format=torch.channels_last)
    x = image(count=4).contiguous(memory_format=torch.channels_last)
    tap = Tap(model, DEEP, x[:1])
    context = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with context:
        shown = tap(x).float()
    first = next(model.parameters())
    blocks = [block for blocks in shown.blocks for block in blocks]
    for seen in (shown.logits, *shown.stages, *shown.preacts, *blocks):
        (gradient,) = torch.autograd.grad(seen.square().sum(), first, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    for preact, stage in zip(shown.preacts, shown.stages, strict=True):
        assert torch.equal(preact, stage) or torch.equal(F.relu(preact), stage)


@pytest.mark.parametrize("name", DIFFERENT)
def test_showing_more_changes_neither_the_loss_nor_its_gradient(made: Make, name: str) -> None:
    plain, model = made(name).train(), made(name).train()
    loss = plain(image()).square().sum()
    shown = Tap(model, DEEP, image())(image()).logits.square().sum()
    loss.backward()
    shown.backward()
    assert torch.allclose(shown, loss, rtol=1e-4)
    pairs = zip(plain.named_parameters(), model.parameters(), strict=True)
    for (key, one), other in pairs:
        assert one.grad is not None, key
        assert other.grad is not None, key
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("training", [True, False])
def test_looking_for_blocks_leaves_the_network_as_it_was(
    made: Make, name: str, training: bool
) -> None:
    model = made(name).train(training)
    before = copy.deepcopy(model.state_dict())
    tap = Tap(model, DEEP, image())
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(tap.state_dict()) == [f"model.{key}" for key in before]


class Branch(nn.Module):
    """A residual block that adds in place, and activates with what it is given."""

    def __init__(self, width: int, act: nn.Module | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        if act is not None:
            self.act = act

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x) + x
        return self.act(out) if hasattr(self, "act") else F.relu(out)


class Own(nn.Module):
    """A network of the user's own: three blocks at each of two resolutions."""

    def __init__(self, shared: nn.Module | None, functional: bool = False) -> None:
        super().__init__()
        act = None if functional else shared or nn.ReLU(inplace=True)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.fine = nn.Sequential(*(Branch(8, act) for _ in range(3)))
        self.down = nn.Conv2d(8, 8, 2, stride=2)
        self.coarse = nn.Sequential(*(Branch(8, act) for _ in range(3)))
        self.again = 1
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fine(self.stem(x))
        for _ in range(self.again):
            x = self.coarse[0](x)
        x = self.coarse[2](self.coarse[1](self.down(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def test_one_activation_for_all_blocks_is_told_apart_by_its_turn() -> None:
    shown = ask(Own(nn.ReLU(inplace=True)), image())
    assert [len(blocks) for blocks in shown.blocks] == [4, 2]
    for preact, stage in zip(shown.preacts, shown.stages, strict=True):
        assert torch.equal(F.relu(preact), stage)
        assert (preact < 0).any()


def test_an_activation_that_is_a_function_is_not_found() -> None:
    shown = ask(Own(None, functional=True), image())
    assert all(torch.equal(a, b) for a, b in zip(shown.preacts, shown.stages, strict=True))


def test_a_block_that_runs_twice_is_not_shown() -> None:
    model = Own(nn.ReLU())
    model.again = 2
    shown = ask(model, image())
    assert [len(blocks) for blocks in shown.blocks] == [3, 2]
    tap = Tap(Own(nn.ReLU()), DEEP, image())
    tap.model.again = 2  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"module 'coarse\.0' ran twice in one pass"):
        tap(image())


def test_a_swin_whose_maps_are_as_wide_as_high_as_deep_is_turned_all_the_same() -> None:
    options: dict[str, Any] = {"img_size": 32, "embed_dim": 8, "num_heads": (1, 1, 1, 1)}
    torch.manual_seed(0)
    model = timm.create_model("swin_tiny_patch4_window7_224", **options, window_size=2).eval()
    x = image()[..., :32, :32]
    shown = ask(model, x)
    assert shown.stages[0].shape[1:] == (8, 8, 8)
    first, _ = kept(model, ["layers.0.blocks.0", "layers.0.blocks.1"], x)
    assert torch.equal(shown.blocks[0][0], first.permute(0, 3, 1, 2))
