"""Every method teaches every kind of student from every kind of teacher, and leaves no trace."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from edgekd import plugins
from edgekd.data import Batch, Images
from edgekd.export import Order
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

QUICK = ("another family", "a coarser teacher", "a CNN teaches a ViT", "a ViT teaches a CNN")
EXPORTED = ("narrower and shallower", "a CNN teaches a ViT", "a Swin teaches a CNN")
"""A CIFAR network, a transformer and a network of timm's; any other is exported elsewhere."""


def unless_quick(*names: str) -> list[Any]:
    """Parameters of tests; those of the other pairs are slow."""
    return [
        pytest.param(PAIRS[name], id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name in names
    ]


@dataclass(frozen=True)
class Lesson:
    """Two networks and a batch, fresh for each method except for the teacher."""

    student: nn.Module
    untaught: nn.Module
    keys: dict[str, torch.Size]
    shown: Preprocess
    teacher: Backbone
    before: dict[str, Tensor]
    batch: Batch


@pytest.fixture(scope="module", params=unless_quick(*PAIRS))
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


@dataclass(frozen=True)
class Course:
    """A student, its adapters and their optimiser."""

    learner: Learner
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, learner: Learner) -> Course:
        learner.train().to(memory_format=torch.channels_last)
        return cls(learner, create_optimizer_v2(learner, "sgd", 1e-3, weight_decay=0, momentum=0.9))

    def step(self, number: int, teacher: Features, batch: Batch) -> Tensor:
        """One step, the second of them in half precision; the loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=number == 1):
            loss: Tensor = self.learner(replace(batch, progress=number / STEPS), teacher)[0]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.learner.constrain()
        return loss.detach()

    def save(self) -> bytes:
        state = io.BytesIO()
        parts = {"learner": self.learner.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**parts, "generator": torch.get_rng_state()}, state)
        return state.getvalue()

    def load(self, state: bytes) -> None:
        found = torch.load(io.BytesIO(state), weights_only=True)
        self.learner.load_state_dict(found["learner"])
        self.optimizer.load_state_dict(found["optimizer"])
        torch.set_rng_state(found["generator"])


def teach(learner: Learner, teacher: Features, batch: Batch) -> None:
    course = Course.begin(learner)
    for number in range(STEPS):
        course.step(number, teacher, batch)


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

    course = Course.begin(learner)
    losses = [course.step(0, shown, batch)]
    saved = course.save()
    losses += [course.step(number, shown, batch) for number in range(1, STEPS)]

    assert all(loss.isfinite() for loss in losses)
    assert all(parameter.isfinite().all() for parameter in learner.parameters())
    taught = dict(learner.student.named_parameters())
    assert any(not torch.equal(untaught[key], value) for key, value in taught.items())
    assert all(parameter.grad is None for parameter in pair.teacher.model.parameters())
    for key, value in pair.teacher.model.state_dict().items():
        assert torch.equal(value, pair.before[key]), key
    bare = {key: value.shape for key, value in learner.student.state_dict().items()}
    assert bare == pair.keys  # nothing of the method is in it

    again = Learner(copy.deepcopy(pair.untaught), Method.from_table({name: 1.0}), batch.image[:1])
    again.method.build(first, shown, TARGETS)
    studying.freeze(again.method)
    resumed = Course.begin(again)
    resumed.load(saved)
    assert [resumed.step(number, shown, batch) for number in range(1, STEPS)] == losses[1:]
    for key, value in again.state_dict().items():
        assert torch.equal(value, learner.state_dict()[key]), key


def test_both_networks_show_what_any_method_may_ask_for(pair: Lesson) -> None:
    seen = [(pair.student, pair.shown), (pair.teacher.model, pair.teacher.preprocess)]
    for model, preprocess in seen:
        image = torch.zeros(1, 3, *preprocess.size)
        with torch.no_grad():
            shown = Tap(model, DEPTHS, image).eval()(image)
        assert len(shown.stages) == len(shown.preacts) == len(shown.blocks) >= 3
        assert shown.embedding is not None


@pytest.mark.parametrize("kept", unless_quick(*EXPORTED), indirect=True)
def test_a_student_that_was_watched_is_exported_bare(pair: Lesson, tmp_path: Path) -> None:
    method = Method.parse("ce + kr + ofd + vkd + mgd")
    assert {"blocks", "preacts", "stages", "embedding"} <= method.needs
    shown = Teacher(pair.teacher, pair.shown, method)(pair.batch.image)
    learner = Learner(pair.student, method, pair.batch.image[:1])
    method.build(probe(learner, pair.batch), shown, TARGETS)
    teach(learner, shown, pair.batch)
    draw, size = np.random.default_rng(0), pair.shown.size
    pixels = draw.integers(0, 256, (40, *size, 3), dtype=np.uint8)
    backbone = Backbone("student", learner.student.eval(), pair.shown, LABELS)
    images = Images(pixels, np.zeros(40, dtype=np.int64))
    written = plugins.load("format", "onnx")(backbone, tmp_path, Order(Export(samples=16), images))
    assert written.kind == "onnx"
    graph = onnx.load(tmp_path / "model.onnx").graph
    (out,) = graph.output
    assert out.type.tensor_type.shape.dim[-1].dim_value == CLASSES
    assert not [node.name for node in graph.node if "method" in node.name]
