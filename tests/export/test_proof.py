"""Files beside their networks: faithful ones, and ones with a fault planted in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgekd.data import Images
from edgekd.errors import DataError
from edgekd.export._exporters import torchscript
from edgekd.export._network import Baked
from edgekd.export._proof import prove, sample
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

SIDE = 16


class Small(nn.Module):
    """Two convolutions with batch norm; not symmetric, so that every swap shows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, (3, 1), bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images).mean((2, 3)))
        return scores


@pytest.fixture(scope="module")
def network(randomise: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Small()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def rule(preprocess: Callable[[int], Preprocess]) -> Preprocess:
    return preprocess(SIDE)


@pytest.fixture(scope="module")
def pixels(images: Callable[[int, int], Images]) -> Images:
    return images(90, SIDE)


def write(module: nn.Module, file: Path, example: Tensor | None = None) -> Path:
    """Write any module with the old exporter, which takes a tenth of a second."""
    if example is None:
        example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    torchscript(module.eval(), example, "images", file, 17)
    return file


def test_faithful_file_passes_at_every_batch(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    parity = prove(write(Baked(network, rule), tmp_path / "a"), network, rule, pixels.pixels)
    assert parity.passed, parity.reasons
    assert (parity.images, parity.top1_agreement) == (90, 1.0)
    assert {1, 7, 32} <= set(parity.batches)


def test_few_images_still_run_in_large_batches(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    parity = prove(write(Baked(network, rule), tmp_path / "a"), network, rule, pixels.pixels[:3])
    assert (parity.passed, parity.images, parity.batches) == (True, 3, (1, 7, 32))


def test_float_file_is_fed_normalised_images(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    file = write(network, tmp_path / "a", torch.zeros(2, 3, SIDE, SIDE))
    assert prove(file, network, rule, pixels.pixels).passed


class Swapped(nn.Module):
    def __init__(self, network: nn.Module, rule: Preprocess, axes: str) -> None:
        super().__init__()
        self.inner, self.axes = Baked(network, rule), axes

    def forward(self, images: Tensor) -> Tensor:
        swapped = images.flip(3) if self.axes == "colours" else images.transpose(1, 2)
        logits: Tensor = self.inner(swapped)
        return logits


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
NONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


@pytest.mark.parametrize(
    ("rule_of_file", "axes", "named"),
    [
        (IMAGENET, "", "the mean and std of ImageNet"),
        (HALF, "", "a mean and std of 0.5"),
        (NONE, "", "no mean and std"),
        (RAW, "", "pixels that were not divided by 255"),
        ({}, "colours", "red and blue swapped"),
        ({}, "sides", "height and width swapped"),
        (IMAGENET, "colours", "the mean and std of ImageNet and red and blue swapped"),
    ],
)
def test_planted_mistake_is_caught_and_named(
    tmp_path: Path,
    network: nn.Module,
    rule: Preprocess,
    pixels: Images,
    rule_of_file: dict[str, tuple[float, float, float]],
    axes: str,
    named: str,
) -> None:
    wrong = replace(rule, **rule_of_file)  # type: ignore[arg-type]
    module = Swapped(network, wrong, axes) if axes else Baked(network, wrong)
    parity = prove(write(module, tmp_path / "a"), network, rule, pixels.pixels)
    assert not parity.passed
    assert f"behaves like the network with {named} (" in parity.reasons[-1]


def test_perturbed_weight_is_caught_and_blamed_on_nothing_else(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    file = write(Baked(network, rule), tmp_path / "a")
    model = onnx.load(file)
    (weight,) = (w for w in model.graph.initializer if w.name == "network.head.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, file)
    parity = prove(file, network, rule, pixels.pixels)
    assert not parity.passed
    assert not any("behaves like" in reason for reason in parity.reasons)


class Frozen(nn.Module):
    """Answers correctly for a batch of 2 alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits.reshape(2, 10)


class Mixing(Frozen):
    """Runs at every batch, but lets images see each other."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits - logits.mean(dim=0, keepdim=True)


def test_frozen_batch_is_caught(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    file = write(Frozen(Baked(network, rule)), tmp_path / "a")
    (reason,) = prove(file, network, rule, pixels.pixels).reasons
    assert reason.startswith("it does not run at batch 1")


def test_frozen_batch_in_the_signature_is_caught(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    file = write(Baked(network, rule), tmp_path / "a")
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, file)
    parity = prove(file, network, rule, pixels.pixels)
    assert parity.reasons == ("its batch is frozen at 1",)


def test_images_that_see_each_other_are_caught(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    file = write(Mixing(Baked(network, rule)), tmp_path / "a")
    assert not prove(file, network, rule, pixels.pixels).passed


def test_file_that_does_not_open_is_refused(
    tmp_path: Path, network: nn.Module, rule: Preprocess, pixels: Images
) -> None:
    (tmp_path / "a").write_bytes(b"not a model")
    parity = prove(tmp_path / "a", network, rule, pixels.pixels)
    assert parity.reasons[0].startswith("ONNX Runtime refuses it: ")
    assert not parity.to_dict()["passed"]


# The images


def test_sample_is_spread_over_all_images(rule: Preprocess) -> None:
    whole = Images(np.zeros((100, SIDE, SIDE, 3), np.uint8), np.arange(100))
    whole.pixels[:, 0, 0, 0] = np.arange(100)
    assert sample(whole, 4, rule)[:, 0, 0, 0].tolist() == [0, 33, 66, 99]
    assert len(sample(whole, 1000, rule)) == 100


@pytest.mark.parametrize(("count", "samples"), [(0, 256), (10, 0)])
def test_no_images_are_refused(rule: Preprocess, count: int, samples: int) -> None:
    empty = Images(np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros(count, np.int64))
    with pytest.raises(DataError, match="expected at least 1"):
        sample(empty, samples, rule)


def test_images_of_another_size_are_refused(rule: Preprocess) -> None:
    other = Images(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"\(32, 32, 3\) uint8; the network takes \(16, 16, 3\)"):
        sample(other, 2, rule)


def test_normalised_is_what_scale_and_shift_say(rule: Preprocess, pixels: Images) -> None:
    scale, shift = (np.reshape(v, (1, 3, 1, 1)) for v in (rule.scale, rule.shift))
    fused = pixels.pixels.transpose(0, 3, 1, 2) * scale + shift
    assert np.abs(normalised(pixels.pixels, rule) - fused).max() < 1e-6
