"""Every method teaches every kind of student from every kind of teacher, and leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from edgekd import plugins
from edgekd.data import Batch, Images
from edgekd.features import DEPTHS, Features
from edgekd.methods import Method
from edgekd.models import Backbone, Tap, zoo
from edgekd.preprocess import Preprocess
from edgekd.recipe import Export
from edgekd.trainer import studying
from edgekd.trainer.learner import Learner, Teacher

NAMES = list(plugins.summaries("method"))
CLASSES, BATCH, STEPS = 5, 4, 3
TARGETS = torch.arange(20) % CLASSES
LABELS = tuple("abcde")


class Pair(NamedTuple):
    """Names of two networks, and the side of the images each is shown."""

    student: str
    side: int
    teacher: str
    teacher_side: int


PAIRS = {
    "narrower and shallower": Pair("resnet8", 16, "resnet32x4", 16),
    "another family": Pair("shufflenetv1_cifar", 32, "wrn_16_2", 32),
    "a coarser teacher": Pair("mobilenetv2_cifar", 32, "resnet20", 24),
    "a ViT teaches a CNN": Pair("resnet14", 32, "vit_tiny_patch16_224", 64),
    "a CNN teaches a ViT": Pair("vit_tiny_patch16_224", 64, "resnet18", 64),
    "a Swin teaches a CNN": Pair("mobilenetv3_small_050", 64, "swin_tiny_patch4_window7_224", 64),
    "a CNN teaches a hybrid": Pair("mobilevit_xxs", 64, "regnetx_002", 64),
    "a hybrid teaches a ConvNeXt": Pair("convnext_atto", 64, "mobilevitv2_050", 48),
    "a ConvNeXt teaches an EfficientNet": Pair("efficientnet_lite0", 48, "convnext_atto", 64),
    "torchvision's own": Pair("torchvision/mobilenet_v3_small", 64, "torchvision/resnet18", 64),
}


@dataclass(frozen=True)
class Lesson:
    """Two networks and a batch, fresh for each method except for the teacher."""

    student: nn.Module
    keys: dict[str, torch.Size]
    shown: Preprocess
    teacher: Backbone
    before: dict[str, Tensor]
    batch: Batch


@pytest.fixture(scope="module", params=list(PAIRS.values()), ids=list(PAIRS))
def kept(request: pytest.FixtureRequest) -> Lesson:
    pair: Pair = request.param
    torch.manual_seed(0)
    student = zoo.create(pair.student, CLASSES, pair.side)
    teacher = zoo.create(pair.teacher, CLASSES, pair.teacher_side)
    shown = Preprocess((pair.side, pair.side), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    wanted = Preprocess((pair.teacher_side, pair.teacher_side), (0.5,) * 3, (0.5,) * 3)
    image = torch.randn(BATCH, 3, pair.side, pair.side).to(memory_format=torch.channels_last)
    index = torch.tensor([3, 17, 5, 11])
    return Lesson(
        student,
        {key: value.shape for key, value in student.state_dict().items()},
        shown,
        Backbone(pair.teacher, teacher, wanted, LABELS),
        {key: value.clone() for key, value in teacher.state_dict().items()},
        Batch(image, TARGETS[index], index),
    )


@pytest.fixture
def pair(kept: Lesson) -> Lesson:
    """The same, with a student nobody has taught yet."""
    return replace(kept, student=copy.deepcopy(kept.student))


def probe(learner: Learner, batch: Batch) -> Features:
    """What the student shows in evaluation mode."""
    learner.eval()
    with torch.no_grad():
        features: Features = learner.tap(batch.image).float()
    return features


def ask(method: Method, student: Features, teacher: Features, batch: Batch) -> Tensor:
    """The loss, from the same random numbers and the same memory every time."""
    torch.manual_seed(1)
    losses = copy.deepcopy(method).eval()(student, teacher, batch)
    return torch.stack(list(losses.values())).detach()


def teach(learner: Learner, teacher: Features, batch: Batch) -> list[Tensor]:
    """A few steps of SGD, one of them in half precision; the losses."""
    optimizer = create_optimizer_v2(learner, "sgd", 1e-3, weight_decay=0, momentum=0.9)
    losses = []
    learner.train().to(memory_format=torch.channels_last)
    for step in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=step == 1):
            loss, _ = learner(replace(batch, progress=step / STEPS), teacher)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.constrain()
        losses.append(loss.detach())
    return losses


def tensors(features: Features) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    features.mapped(note)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_method_teaches_any_student_from_any_teacher(name: str, pair: Lesson) -> None:
    method, batch = Method.from_table({name: 1.0}), pair.batch
    teacher = Teacher(pair.teacher, pair.shown, method)
    shown = teacher(batch.image)
    assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in tensors(shown))
    learner = Learner(pair.student, method, batch.image[:1])
    first = probe(learner, batch)
    method.build(first, shown, TARGETS)
    studying.study(method, lambda epoch: iter([(shown, batch)] * 2), 2, 4, None, lambda text: None)
    untaught = copy.deepcopy(learner.student.state_dict())

    losses = teach(learner, shown, batch)

    assert all(loss.isfinite() for loss in losses)
    assert all(parameter.isfinite().all() for parameter in learner.parameters())
    taught = dict(learner.student.named_parameters())
    assert any(not torch.equal(untaught[key], value) for key, value in taught.items())
    assert all(parameter.grad is None for parameter in pair.teacher.model.parameters())
    for key, value in pair.teacher.model.state_dict().items():
        assert torch.equal(value, pair.before[key]), key
    bare = {key: value.shape for key, value in learner.student.state_dict().items()}
    assert bare == pair.keys  # nothing of the method is in it

    again = Method.from_table({name: 1.0})
    again.build(first, shown, TARGETS)
    again.to(memory_format=torch.channels_last)  # where noise is drawn in another order
    again.load_state_dict(method.state_dict())
    features = probe(learner, batch)
    expected = ask(method, features, shown, batch)
    assert expected.isfinite().all()
    assert torch.equal(ask(again, features, shown, batch), expected)


def test_both_networks_show_what_any_method_may_ask_for(pair: Lesson) -> None:
    seen = [(pair.student, pair.shown), (pair.teacher.model, pair.teacher.preprocess)]
    for model, preprocess in seen:
        image = torch.zeros(1, 3, *preprocess.size)
        with torch.no_grad():
            shown = Tap(model, DEPTHS, image).eval()(image)
        assert len(shown.stages) == len(shown.preacts) == len(shown.blocks) >= 3
        assert shown.embedding is not None


def test_a_distilled_student_is_exported_though_it_was_watched(
    tmp_path: Path, made_student: Callable[[], tuple[nn.Module, Preprocess]]
) -> None:
    model, shown = made_student()
    pixels = np.random.default_rng(0).integers(0, 256, (40, *shown.size, 3), dtype=np.uint8)
    backbone = Backbone("resnet8", model.eval(), shown, LABELS)
    images = Images(pixels, np.zeros(40, dtype=np.int64))
    written = plugins.load("format", "onnx")(backbone, tmp_path, Export(), images)
    assert written.kind == "onnx"
    assert (tmp_path / "model.onnx").is_file()


@pytest.fixture
def made_student() -> Callable[[], tuple[nn.Module, Preprocess]]:
    """A ``resnet8`` that was taught by a method that looks at blocks and preacts."""

    def make() -> tuple[nn.Module, Preprocess]:
        torch.manual_seed(0)
        shown = Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3)
        teacher = Backbone("resnet20", zoo.create("resnet20", CLASSES), shown, LABELS)
        method = Method.parse("ce + kr + ofd")
        assert {"blocks", "preacts"} <= method.needs
        student = zoo.create("resnet8", CLASSES)
        batch = Batch(torch.randn(4, 3, 32, 32), TARGETS[:4], torch.arange(4))
        features = Teacher(teacher, shown, method)(batch.image)
        learner = Learner(student, method, batch.image[:1])
        method.build(probe(learner, batch), features, TARGETS)
        teach(learner, features, batch)
        return learner.student, shown

    return make
