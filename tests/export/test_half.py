"""fp16: near the float network, float32 only where half floats end, and the same file after all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

from edgekd.data import Images
from edgekd.errors import GateError
from edgekd.export._exporters import EXPORTERS
from edgekd.export._graph import facts, finish
from edgekd.export._halving.half import half_network
from edgekd.export._network import Baked, reference, reparameterised
from edgekd.models import zoo
from edgekd.preprocess import Preprocess

Draw = Callable[[int, int], Images]
Normalise = Callable[[int], Preprocess]
Randomise = Callable[[nn.Module], nn.Module]


def vit(spoil: Callable[[Any], None] | None = None) -> nn.Module:
    """A small transformer of 2 blocks for 32 pixels."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(
        "deit_tiny_patch16_224", num_classes=10, img_size=32, depth=2
    )
    if spoil:
        with torch.no_grad():
            spoil(model)
    return reference(model)


class Stem(nn.Module):
    """A first layer whose values only the norm behind it brings back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.deeper = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 10)
        self.conv.weight.data *= 3e5
        self.norm.running_var.fill_(1e11)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        features = self.deeper(self.act(self.norm(self.conv(images))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class Loud(nn.Module):
    """It overflows in its own code, where no layer can help."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head((self.conv(images) * 1e6).mean((2, 3)) * 1e-6)
        return logits


def kept(record: dict[str, Any]) -> dict[str, str]:
    return {entry["layer"]: entry["why"] for entry in record["float32"]}


def written(
    exporter: str, half: nn.Module, preprocess: Preprocess, folder: Path, opset: int = 18
) -> Path:
    file = folder / "a.onnx"
    example = torch.zeros(2, *preprocess.size, 3, dtype=torch.uint8)
    EXPORTERS[exporter](Baked(half, preprocess).eval(), example, "images", file, opset)
    finish(file, "a", "", {})
    return file


def worst(file: Path, network: nn.Module, preprocess: Preprocess, pictures: Images) -> float:
    """Largest error at batch 1 and 5, relative to the largest logit."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    errors = []
    for count in (1, 5):
        pixels = pictures.pixels[:count]
        with torch.no_grad():
            right = Baked(network, preprocess)(torch.from_numpy(pixels)).numpy()
        (found,) = session.run(None, {"images": pixels})
        errors.append(float(np.abs(found - right).max() / np.abs(right).max()))
    return max(errors)


FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "resnet8": (32, {}),
    "mobilenetv3_small_100": (64, {}),
    "deit_tiny_patch16_224": (32, {"img_size": 32, "depth": 2}),
    "edgenext_xx_small": (64, {}),  # the converters of graphs fail at it
}
BOTH = [
    pytest.param(
        name,
        exporter,
        opset,
        marks=pytest.mark.slow if (exporter, opset) != ("torchscript", 18) else (),
    )
    for name in FAMILIES
    for exporter, opset in (("torchscript", 18), ("torchscript", 16), ("dynamo", 18))
]


@pytest.mark.parametrize(("name", "exporter", "opset"), BOTH)
def test_families_stay_near_float(
    name: str,
    exporter: str,
    opset: int,
    randomise: Randomise,
    preprocess: Normalise,
    images: Draw,
    tmp_path: Path,
) -> None:
    side, arguments = FAMILIES[name]
    torch.manual_seed(0)
    model = (
        zoo.create(name, 10)
        if name == "resnet8"
        else timm.create_model(name, num_classes=10, **arguments)
    )
    network = reparameterised(reference(randomise(model)))
    normalise, pictures = preprocess(side), images(12, side)
    half, record = half_network(network, normalise, pictures.pixels)
    assert (record["float32"], record["float32_parameters"]) == ([], 0)
    assert (record["images"], record["half_images"]) == (12, 12)
    assert 0 < record["headroom"] < 0.5
    assert record["snr_db"] > 50
    file = written(exporter, half, normalise, tmp_path, opset)
    found = facts(file)
    assert (found["opset"], found["precision"]) == (opset, "fp16")
    assert worst(file, network, normalise, pictures) < 3e-3
    if name == "resnet8":  # of the pixels, and one at either end of the half network
        assert found["types"]["Cast"] == {"fp32": 2, "fp16": 1}
        assert found["bytes"] < 1.2 * sum(2 * p.numel() for p in network.parameters())


def squares(model: Any) -> None:
    model.blocks[0].mlp.fc2.weight *= 1e3


def stream(model: Any) -> None:
    model.blocks[0].mlp.fc2.weight *= 3e5


def huge(model: Any) -> None:
    model.head.weight *= 1e6


def tiny(model: Any) -> None:
    model.blocks[0].mlp.fc1.weight *= 1e-7


def scores(model: Any) -> None:
    model.blocks[1].attn.qkv.weight *= 3000
    model.blocks[1].attn.proj.weight *= 1e-3


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            squares,
            {
                "blocks.1.norm1": "a square inside native_layer_norm reaches",
                "blocks.1.norm2": "a square inside native_layer_norm reaches",
                "norm": "a square inside native_layer_norm reaches",
            },
        ),
        (
            stream,  # the sum of the block itself stays float32 because its summand is
            {
                "blocks.0.mlp.fc2": "addmm reaches",
                "blocks.1.norm1": "its input reaches",
                "blocks.1.norm2": "its input reaches",
                "norm": "its input reaches",
            },
        ),
        (huge, {"head": "its weights reach"}),
        (tiny, {"blocks.0.mlp.fc1": "half floats would change its weights by 100%"}),
        (scores, {"blocks.1.attn": "bmm reaches"}),
    ],
)
def test_only_what_overflows_stays_in_float32(
    spoil: Callable[[Any], None],
    expected: dict[str, str],
    preprocess: Normalise,
    images: Draw,
    tmp_path: Path,
) -> None:
    network, normalise, pictures = vit(spoil), preprocess(32), images(12, 32)
    half, record = half_network(network, normalise, pictures.pixels)
    found = kept(record)
    assert found.keys() == expected.keys()
    assert all(found[layer].startswith(why) for layer, why in expected.items())
    assert 0 < record["float32_parameters"] < 0.25
    assert record["snr_db"] > 50
    file = written("torchscript", half, normalise, tmp_path)
    assert worst(file, network, normalise, pictures) < 3e-3


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_islands_survive_both_exporters(
    exporter: str, preprocess: Normalise, images: Draw, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, normalise, pictures = reference(Stem()), preprocess(32), images(12, 32)
    half, record = half_network(network, normalise, pictures.pixels)
    assert kept(record).keys() == {"conv", "norm"}
    assert record["headroom"] > 1
    assert record["peak"]["layer"] == "conv"
    file = written(exporter, half, normalise, tmp_path)
    found = facts(file)
    assert found["types"]["Conv"] == {"fp32": 1, "fp16": 1}
    assert found["batch_norms"]["left"] == 0  # both on the island, so they could be folded
    assert worst(file, network, normalise, pictures) < 3e-3


def test_overflow_that_only_the_half_network_shows_is_found_too(
    preprocess: Normalise, images: Draw
) -> None:
    """A constant that half floats cannot hold is no value of the float network's operations."""

    class Divided(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features / torch.tensor(1e-9, dtype=features.dtype) * 1e-9

    network = reference(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), Divided()))
    network = reference(nn.Sequential(network, nn.AdaptiveAvgPool1d(1), nn.Flatten()))
    _, record = half_network(network, preprocess(32), images(8, 32).pixels)
    assert kept(record).keys() == {"0.2"}


def test_network_is_not_changed(preprocess: Normalise, images: Draw) -> None:
    network = vit(squares)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    half, _ = half_network(network, preprocess(32), images(8, 32).pixels)
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
    dtypes = {n.removeprefix("network."): p.dtype for n, p in half.named_parameters()}
    assert dtypes["blocks.1.norm1.weight"] == torch.float32
    assert dtypes["blocks.1.mlp.fc1.weight"] == torch.float16


def test_hardest_images_are_run_in_half(
    preprocess: Normalise, images: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(network: nn.Module, batch: Tensor, *rest: Any) -> Any:
        seen.append(batch)
        return None, torch.zeros(len(batch), 10)

    monkeypatch.setattr("edgekd.export._halving.half.first_break", watched)
    pixels = images(48, 32).pixels
    pixels[40:] = 255  # the last batch goes furthest
    _, record = half_network(vit(), preprocess(32), pixels)
    assert (record["images"], record["half_images"]) == (48, 16)
    (batch,) = seen
    assert (batch[:8] == batch[0]).all()


def test_what_cannot_be_helped_is_refused(preprocess: Normalise, images: Draw) -> None:
    pixels = images(8, 32).pixels
    with pytest.raises(GateError, match=r"mul reaches .* own forward.*--precision int8 or fp32"):
        half_network(reference(Loud()), preprocess(32), pixels)
    layer = nn.Linear(32 * 32 * 3, 10)
    layer.weight.data *= 1e6
    only = nn.Sequential(nn.Flatten(), layer)
    with pytest.raises(GateError, match=r"no layer is left .* addmm in layer 1; .* 65504"):
        half_network(reference(only), preprocess(32), pixels)


def test_float_network_that_is_broken_itself_is_refused(
    preprocess: Normalise, images: Draw
) -> None:
    layer = nn.Linear(32 * 32 * 3, 10)
    layer.bias.data[3] = torch.nan
    network = nn.Sequential(nn.Flatten(), layer)
    with pytest.raises(GateError, match="not finite on 8 images"):
        half_network(reference(network), preprocess(32), images(8, 32).pixels)
