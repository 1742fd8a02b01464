"""Networks, images and a trained artifact to export; batch norms are never left at 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekd.artifact import Artifact, create
from edgekd.data import Images
from edgekd.export._exporters import EXPORTERS
from edgekd.export._graph import finish
from edgekd.export._network import Baked
from edgekd.models import Backbone, zoo
from edgekd.preprocess import Preprocess

LABELS = ("cat", "Kätzchen", *(f"class {i}" for i in range(8)))


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Give every batch norm statistics to fold.

    Fresh ones hide a fold that was forgotten; timm's zero_init_last even removes whole branches.
    """

    def apply(model: nn.Module) -> nn.Module:
        source = torch.Generator().manual_seed(0)
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.weight.data.uniform_(0.5, 1.5, generator=source)
                norm.bias.data.normal_(0, 0.2, generator=source)
                norm.running_mean.normal_(0, 0.2, generator=source)
                norm.running_var.uniform_(0.5, 1.5, generator=source)
        return model

    return apply


@pytest.fixture(scope="session")
def preprocess() -> Callable[[int], Preprocess]:
    """A normalisation that no other suspect shares."""
    return lambda side: Preprocess((side, side), (0.49, 0.41, 0.32), (0.2, 0.25, 0.3))


@pytest.fixture(scope="session")
def backbone(
    randomise: Callable[[nn.Module], nn.Module], preprocess: Callable[[int], Preprocess]
) -> Callable[[str | nn.Module, int], Backbone]:
    """A network by name, or one that is given, for images of so many pixels a side."""

    def make(network: str | nn.Module, side: int) -> Backbone:
        torch.manual_seed(0)
        model = zoo.create(network, len(LABELS)) if isinstance(network, str) else network
        name = network if isinstance(network, str) else "odd"
        return Backbone(name, randomise(model).eval(), preprocess(side), LABELS, "5" * 64)

    return make


@pytest.fixture(scope="session")
def images() -> Callable[[int, int], Images]:
    """Pictures of a few soft colours: unlike noise, they differ in mean and between channels."""

    def make(count: int, side: int) -> Images:
        source = np.random.default_rng(0)
        coarse = source.integers(0, 256, (count, 4, 4, 3)) * np.array([1.0, 0.8, 0.5])
        fine = coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
        noise = source.normal(0, 8, fine.shape)
        pixels = (fine + noise).clip(0, 255).astype(np.uint8)
        return Images(pixels, np.arange(count) % len(LABELS))

    return make


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, backbone: Callable[[str, int], Backbone]
) -> Artifact:
    """A ``resnet8`` as distill leaves it."""
    path: Path = tmp_path_factory.mktemp("trained") / "resnet8"
    network = backbone("resnet8", 32)
    manifest = {
        "kind": "network",
        "role": "student",
        "model": {"name": "resnet8", "arguments": {}, "parameters": network.parameters, "macs": 1},
        "input": network.preprocess.to_dict(),
        "labels": list(LABELS),
        "metrics": {"test": {"top1": 0.9, "top5": 1.0, "loss": 0.3, "n": 100}},
        "recipe": {"export": {"opset": 18}},
        "parent": None,
        "versions": {},
        "training": {"epochs": 1},
        "export": None,
    }
    with create(path, manifest) as folder:
        save_file(network.model.state_dict(), folder / "model.safetensors")
    return Artifact.open(path)


@pytest.fixture(scope="session")
def as_onnx() -> Callable[[nn.Module, Preprocess, Path], Path]:
    """Write a network as a float file, as the exporter that is quickest does it."""

    def write(network: nn.Module, preprocess: Preprocess, file: Path) -> Path:
        pixels = torch.zeros(2, *preprocess.size, 3, dtype=torch.uint8)
        graph = Baked(network, preprocess).eval()
        EXPORTERS["torchscript"](graph, pixels, "images", file, 17)
        finish(file, "tiny", "Takes images.", {"edgekd.precision": "fp32", "edgekd.labels": "[]"})
        return file

    return write


@pytest.fixture(scope="session")
def float_resnet(
    tmp_path_factory: pytest.TempPathFactory,
    backbone: Callable[[str, int], Backbone],
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
) -> Path:
    """``resnet8`` for 32 pixels, its batch norms randomised and folded; only to read."""
    made, folder = backbone("resnet8", 32), tmp_path_factory.mktemp("float")
    return as_onnx(made.model, made.preprocess, folder / "model.onnx")


@pytest.fixture(scope="session")
def digits() -> Callable[[int, int], Images]:
    """Handwritten digits from one number to another, 8x8 pixels of 0 to 240."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    grey = (loaded.images * 15).astype(np.uint8)
    pixels, targets = grey[..., None].repeat(3, axis=3), loaded.target.astype(np.int64)
    return lambda start, stop: Images(pixels[start:stop].copy(), targets[start:stop])


@pytest.fixture(scope="session")
def digit_net(digits: Callable[[int, int], Images]) -> nn.Sequential:
    """Seven convolutions, 0, 2, ... 12, that tell digits apart; takes pixels over 255. To copy."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(7):
        layers += [nn.Conv2d(16 if i else 3, 16, 3, 2 if i in (2, 5) else 1, 1), nn.ReLU()]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(cast("nn.Conv2d", layer).weight)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    data = digits(0, 1000)
    images = torch.from_numpy(data.pixels).permute(0, 3, 1, 2).float() / 255
    targets = torch.from_numpy(data.targets)
    optimiser = torch.optim.Adam(net.parameters(), 4e-3)
    for step in range(200):
        chosen = torch.randperm(1000, generator=torch.Generator().manual_seed(step))[:64]
        loss = nn.functional.cross_entropy(net(images[chosen]), targets[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval().requires_grad_(False)
