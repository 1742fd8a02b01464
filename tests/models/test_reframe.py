"""A teacher sees what its own preprocessing would have made of the image the student sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.loading.memory import Normalise
from edgekd.methods import Method
from edgekd.models import Backbone, zoo
from edgekd.models.reframe import Reframe
from edgekd.preprocess import RGB, Preprocess
from edgekd.trainer.learner import Teacher

IMAGENET: tuple[RGB, RGB] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR: tuple[RGB, RGB] = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
INCEPTION: tuple[RGB, RGB] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
PLAIN: tuple[RGB, RGB] = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def pixels(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(side).integers(0, 256, (4, side, side, 3), dtype=np.uint8)


def preprocess(side: int, values: tuple[RGB, RGB]) -> Preprocess:
    return Preprocess((side, side), *values)


def resized(image: Tensor, side: int) -> Tensor:
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True)


@pytest.mark.parametrize("shown", [IMAGENET, CIFAR, PLAIN])
@pytest.mark.parametrize("wanted", [IMAGENET, INCEPTION, PLAIN])
def test_values_are_those_of_the_wanted_preprocess(
    shown: tuple[RGB, RGB], wanted: tuple[RGB, RGB]
) -> None:
    raw = pixels(16)
    batch = Normalise(preprocess(16, shown))(raw)
    found = Reframe(preprocess(16, shown), preprocess(16, wanted))(batch)
    expected = Normalise(preprocess(16, wanted))(raw)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("small", "large"), [(16, 32), (24, 16), (32, 224)])
def test_sizes_are_those_of_the_wanted_preprocess(small: int, large: int) -> None:
    raw = pixels(small)
    batch = Normalise(preprocess(small, CIFAR))(raw)
    found = Reframe(preprocess(small, CIFAR), preprocess(large, IMAGENET))(batch)
    whole = Normalise(preprocess(small, PLAIN))(raw)  # in [0, 1]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    assert (found - (resized(whole, large) - mean) / std).abs().max() < 1e-5


def test_the_same_preprocess_is_handed_through() -> None:
    batch = Normalise(preprocess(16, CIFAR))(pixels(16))
    before = batch.clone()
    assert Reframe(preprocess(16, CIFAR), preprocess(16, CIFAR))(batch) is batch
    Reframe(preprocess(16, CIFAR), preprocess(16, IMAGENET))(batch)
    assert torch.equal(batch, before)  # the student still needs it


def test_reframing_adds_nothing_to_what_is_saved() -> None:
    reframe = Reframe(preprocess(16, CIFAR), preprocess(32, IMAGENET))
    assert not reframe.state_dict()
    assert not list(reframe.parameters())


def test_a_teacher_answers_as_it_would_to_images_of_its_own() -> None:
    torch.manual_seed(0)
    model = zoo.create("resnet8", 5).eval()
    own = preprocess(32, INCEPTION)
    teacher = Teacher(
        Backbone("resnet8", model, own, tuple("abcde")),
        preprocess(32, IMAGENET),
        Method.parse("ce + kd + at"),
    )
    raw = pixels(32)
    shown = teacher(Normalise(preprocess(32, IMAGENET))(raw).requires_grad_())
    with torch.no_grad():
        expected = model(Normalise(own)(raw))
    assert torch.allclose(shown.logits, expected, atol=1e-5)
    assert not shown.logits.requires_grad
    assert not teacher.training
    assert not any(p.requires_grad for p in model.parameters())
    assert [stage.shape[1] for stage in shown.stages] == [16, 32, 64]
