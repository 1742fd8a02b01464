"""Networks, images and a trained artifact to export; batch norms are never left at 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekd.artifact import Artifact, create
from edgekd.data import Images
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
