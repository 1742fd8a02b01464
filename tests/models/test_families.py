"""Every CIFAR network that edgekd registers keeps timm's contract and its paper's size."""

from __future__ import annotations

from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn

from edgekd.models import mobilenet, resnet, shufflenet, vgg, wrn
from edgekd.models._family import StagedNet

FAMILIES = (resnet, wrn, vgg, mobilenet, shufflenet)
NAMES = [name for family in FAMILIES for name in family.__all__]

PARAMETERS = {  # at 100 classes
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11_cifar": 9_277_284,
    "vgg13_cifar": 9_462_180,
    "vgg16_cifar": 14_774_436,
    "vgg19_cifar": 20_086_692,
    "mobilenetv2_cifar": 812_836,
    "shufflenetv1_cifar": 949_258,
    "shufflenetv2_cifar": 1_355_528,
}
LITERATURE = {  # millions at 100 classes, as the distillation papers print them
    "resnet20": "0.28",
    "resnet32": "0.47",
    "resnet56": "0.86",
    "resnet110": "1.74",
    "resnet8x4": "1.23",
    "resnet32x4": "7.43",
    "wrn_16_2": "0.70",
    "wrn_40_1": "0.57",
    "wrn_40_2": "2.26",
    "vgg8": "3.97",
    "vgg13_cifar": "9.46",
    "mobilenetv2_cifar": "0.81",
    "shufflenetv1_cifar": "0.95",
    "shufflenetv2_cifar": "1.36",
}
BLOCKS = {  # per stage, from the depth in the name
    "resnet8": [1, 1, 1],
    "resnet110": [18, 18, 18],
    "wrn_40_2": [6, 6, 6],
    "vgg8": [1, 1, 1, 2],
    "vgg19_cifar": [2, 2, 4, 8],
    "mobilenetv2_cifar": [2, 3, 7, 4],
    "shufflenetv1_cifar": [4, 8, 4],
    "shufflenetv2_cifar": [4, 8, 4],
}
EXPORTED_FAST = ("resnet8", "shufflenetv1_cifar")


def create(name: str, **options: Any) -> StagedNet:
    torch.manual_seed(0)
    return cast(StagedNet, timm.create_model(name, **options))


def images(size: int, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(size))


def maps_of(model: StagedNet, x: Tensor, norm: bool = False) -> tuple[Tensor, list[Tensor]]:
    found = model.forward_intermediates(x, norm=norm)
    assert isinstance(found, tuple)
    return found


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> StagedNet:
    """Each network in evaluation mode; tests leave it as it is."""
    return create(request.param).eval().requires_grad_(False)


def test_every_name_has_a_known_size() -> None:
    assert sorted(NAMES) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count_is_the_literatures(name: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in create(name, num_classes=100).parameters())
    assert count == PARAMETERS[name]
    assert f"{count / 1e6:.2f}" == LITERATURE.get(name, f"{count / 1e6:.2f}")


@pytest.mark.parametrize("name", NAMES)
def test_name_is_not_timms(name: str) -> None:
    assert timm.is_model(name)
    assert not hasattr(timm.models, name)


@pytest.mark.parametrize("size", [8, 32, 96])
def test_any_size_gives_logits_and_the_maps_of_feature_info(model: StagedNet, size: int) -> None:
    final, maps = maps_of(model, images(size))
    sides = [-(-size // info["reduction"]) for info in model.feature_info]
    widths = [info["num_chs"] for info in model.feature_info]
    expected = [(2, width, side, side) for width, side in zip(widths, sides, strict=True)]
    assert [tuple(map_.shape) for map_ in maps] == expected
    logits = model.forward_head(final)
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_feature_info_names_the_stages(model: StagedNet) -> None:
    named = [model.get_submodule(info["module"]) for info in model.feature_info]
    assert named == list(model.stages)


def test_head_completes_features_and_intermediates(model: StagedNet) -> None:
    x = images(16)
    logits = model(x)
    assert torch.equal(model.forward_head(model.forward_features(x)), logits)
    assert torch.equal(model.forward_head(maps_of(model, x)[0]), logits)


def test_norm_changes_the_last_map_only(model: StagedNet) -> None:
    x = images(16)
    final, normed = maps_of(model, x, norm=True)
    _, maps = maps_of(model, x)
    assert torch.equal(model.forward_head(final), model(x))
    expected = [*maps[:-1], model.norm(maps[-1])]
    assert [torch.equal(a, b) for a, b in zip(normed, expected, strict=True)] == [True] * len(maps)


def test_embedding_precedes_the_classifier(model: StagedNet) -> None:
    x = images(16)
    embedding = model.forward_head(model.forward_features(x), pre_logits=True)
    assert embedding.shape == (2, model.head_hidden_size)
    assert torch.equal(model.get_classifier()(embedding), model(x))


def test_intermediates_select_and_stop_early(model: StagedNet) -> None:
    x = images(16)
    _, maps = maps_of(model, x)
    stopped = model.forward_intermediates(x, indices=[0, 1], stop_early=True)
    assert isinstance(stopped, tuple)
    assert len(stopped[1]) == 2
    assert torch.equal(stopped[0], maps[1])
    alone = model.forward_intermediates(x, indices=2, intermediates_only=True)
    assert isinstance(alone, list)
    assert [torch.equal(a, b) for a, b in zip(alone, maps[-2:], strict=True)] == [True, True]


def test_a_stages_last_block_gives_its_map(model: StagedNet) -> None:
    seen: list[Tensor] = []
    handles = [
        cast(nn.Sequential, stage)[-1].register_forward_hook(lambda _m, _i, out: seen.append(out))
        for stage in model.stages
    ]
    _, maps = maps_of(model, images(16))
    for handle in handles:
        handle.remove()
    assert [torch.equal(a, b) for a, b in zip(seen, maps, strict=True)] == [True] * len(maps)


@pytest.mark.parametrize("name", BLOCKS)
def test_stages_have_the_papers_blocks(name: str) -> None:
    with torch.device("meta"):
        stages = create(name).stages
    assert [len(cast(nn.Sequential, stage)) for stage in stages] == BLOCKS[name]


def test_configuration_is_cifars(model: StagedNet) -> None:
    config = model.default_cfg
    assert config["input_size"] == (3, 32, 32)
    assert config["mean"] == (0.4914, 0.4822, 0.4465)
    assert config["std"] == (0.2470, 0.2435, 0.2616)
    assert (config["crop_pct"], config["interpolation"]) == (1.0, "bilinear")
    assert config["pool_size"] == tuple(model.forward_features(images(32, batch=1)).shape[2:])


def test_configuration_names_first_and_last_layer(model: StagedNet) -> None:
    config = model.default_cfg
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert model.get_submodule(config["first_conv"]) is first
    assert model.get_submodule(config["classifier"]) is model.get_classifier()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter_of_grey_digits(name: str) -> None:
    model = create(name, in_chans=1, num_classes=7, drop_rate=0.1).train()
    model(images(8, batch=4, channels=1)).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} >= {0.1}


@pytest.mark.parametrize("name", NAMES)
def test_reset_classifier(name: str) -> None:
    model = create(name).eval()
    model.reset_classifier(4, global_pool="catavgmax")
    assert (model.num_classes, model.head_hidden_size) == (4, 2 * model.num_features)
    assert model(images(8)).shape == (2, 4)
    model.reset_classifier(0, "avg")
    assert isinstance(model.get_classifier(), nn.Identity)
    assert model(images(8)).shape == (2, model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_features_only_gives_the_maps(name: str) -> None:
    options = {"features_only": True}
    tapped, whole = create(name, **options).eval(), create(name).eval()
    with torch.no_grad():
        found, (_, maps) = tapped(images(16)), maps_of(whole, images(16))
    assert [torch.equal(a, b) for a, b in zip(found, maps, strict=True)] == [True] * len(maps)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in EXPORTED_FAST else [pytest.mark.slow])
        for name in NAMES
    ],
)
def test_exports_with_any_batch(name: str) -> None:
    model = create(name).eval().requires_grad_(False)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (images(8),), dynamic_shapes=shapes)
    x = images(8, batch=5)
    torch.testing.assert_close(program.module()(x), model(x))


def test_other_map_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="'NHWC'; a CIFAR network gives 'NCHW' only"):
        create("resnet8").forward_intermediates(images(8), output_fmt="NHWC")


def test_pretrained_weights_are_refused() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        create("resnet8", pretrained=True)


def test_shuffle_interleaves_groups() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shufflenet.shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
