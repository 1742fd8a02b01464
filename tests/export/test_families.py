"""Twelve families of networks: the float file has the network's logits, and no batch norm left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from edgekd.data import Images
from edgekd.export._exporters import EXPORTERS
from edgekd.export._graph import facts, finish
from edgekd.export._network import Baked, parameters, reference, reparameterised
from edgekd.preprocess import Preprocess

Draw = Callable[[int, int], Images]
Normalise = Callable[[int], Preprocess]
Randomise = Callable[[nn.Module], nn.Module]

FAMILIES = {
    "resnet18": 224,
    "mobilenetv3_small_100": 224,
    "efficientnet_lite0": 224,
    "tf_efficientnetv2_b0": 192,
    "mobilevit_xs": 256,
    "deit_tiny_patch16_224": 224,
    "mobilenetv4_conv_small": 224,
    "fastvit_t8": 256,
    "repvgg_a0": 224,
    "ghostnetv3_100": 224,
    "edgenext_xx_small": 256,
    "convnext_atto": 224,
}
CASES = [
    *(pytest.param(n, side, "dynamo", marks=pytest.mark.slow) for n, side in FAMILIES.items()),
    *(pytest.param(n, side, "torchscript", marks=pytest.mark.slow) for n, side in FAMILIES.items()),
    ("mobilenetv3_small_100", 64, "torchscript"),
    ("repvgg_a0", 64, "torchscript"),
]
RELATIVE = 1e-4


@pytest.mark.parametrize(("name", "side", "exporter"), CASES)
def test_float_file_has_the_logits_of_the_network(
    name: str,
    side: int,
    exporter: str,
    randomise: Randomise,
    preprocess: Normalise,
    images: Draw,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = reference(randomise(timm.create_model(name, num_classes=10)))
    normalise, file = preprocess(side), tmp_path / "a.onnx"
    graph = Baked(reparameterised(network), normalise).eval()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    EXPORTERS[exporter](graph, example, "images", file, 18)
    finish(file, name, "", {})
    found = facts(file)
    assert found["opset"] == 18
    assert found["batch_norms"]["foldable"] == 0
    assert found["precision"] == "fp32"
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        pixels = images(count, side).pixels
        with torch.no_grad():
            right = Baked(network, normalise)(torch.from_numpy(pixels)).numpy()
        (logits,) = session.run(None, {"images": pixels})
        error = float(np.abs(logits - right).max() / np.abs(right).max())
        print(f"{name} at {side}, {exporter}, batch {count}: {error:.1e}")  # to be seen with -s
        assert logits.shape == right.shape
        assert error < RELATIVE


def test_mobileone_becomes_one_branch_and_stays_the_same(randomise: Randomise) -> None:
    """Its four branches a layer are for training only."""
    torch.manual_seed(0)
    network = reference(randomise(timm.create_model("mobileone_s0", num_classes=10)))
    merged = reparameterised(network)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right, found = network(pictures), merged(pictures)
    assert float((found - right).abs().max() / right.abs().max()) < 1e-5
    assert parameters(merged) < 0.5 * parameters(network)
    norms = [m for m in merged.modules() if isinstance(m, nn.BatchNorm2d)]
    convolutions = [m for m in merged.modules() if isinstance(m, nn.Conv2d)]
    assert not norms
    assert len(convolutions) < 0.35 * sum(isinstance(m, nn.Conv2d) for m in network.modules())
