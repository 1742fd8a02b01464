"""What every file on the shelf of methods keeps, whoever wrote it."""

from __future__ import annotations

import copy
import inspect
import runpy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd import plugins
from edgekd.data import Batch
from edgekd.errors import RecipeError
from edgekd.features import DEPTHS, Features
from edgekd.methods import Method, Term
from edgekd.models import Backbone, zoo
from edgekd.preprocess import Preprocess
from edgekd.trainer.learner import Learner, Teacher
from tests.methods.conftest import TARGETS

RULES = {
    "order": "the order of the batch does not matter",
    "mean": "twice the same batch at once has the loss of the batch",
    "sign": "the loss is never below 0",
    "self": "nothing is to be learned from a teacher that is the student",
}
"""What a method may break if its paper does; its reference then says why, in ``BREAKS``."""
NAMES = list(plugins.summaries("method"))
REFERENCES = Path(__file__).parents[1] / "reference"

Shown = Callable[..., Features]
Built = Callable[[Term, Features, Features], Term]


def term(name: str, **options: Any) -> Term:
    made: Term = plugins.load("method", name)(**options)
    return made


def reference(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REFERENCES / f"{name}.py"))


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Each term with each set of options that its reference wants tried."""
    return [(name, options) for name in NAMES for options in reference(name)["CASES"]]


def keeping(rule: str) -> list[str]:
    return [name for name in NAMES if rule not in reference(name).get("BREAKS", {})]


def ask(made: Term, student: Features, teacher: Features, batch: Batch) -> Tensor:
    """The loss, from the same random numbers and the same memory every time."""
    torch.manual_seed(1)
    loss: Tensor = copy.deepcopy(made)(student, teacher, batch)
    return loss


def tensors(features: Features) -> list[Tensor]:
    maps = *features.stages, *features.preacts, *(b for bs in features.blocks for b in bs)
    every = [features.logits, *maps]
    return every if features.embedding is None else [*every, features.embedding]


def test_the_shelf_is_not_empty() -> None:
    assert set(NAMES) >= {"at", "ce", "fitnet", "kd"}


@pytest.mark.parametrize("name", NAMES)
def test_a_term_says_what_it_needs_and_has_a_default_for_every_option(name: str) -> None:
    kind = plugins.load("method", name)
    assert issubclass(kind, Term)
    assert kind.needs <= set(DEPTHS)
    assert kind.needs
    made = term(name)
    assert not list(made.parameters())  # what is learned is made by build
    assert set(reference(name).get("BREAKS", {})) <= set(RULES)
    for option, parameter in inspect.signature(kind).parameters.items():
        assert parameter.default is not inspect.Parameter.empty, option
        assert f"{option}: " in (inspect.getdoc(kind) or ""), f"{option} is not explained"


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_one_finite_number(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    loss = built(term(name), student, teacher)(student, teacher, batch)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert loss >= 0 or "sign" in reference(name).get("BREAKS", {})


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_student_and_every_adapter(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1, grad=True), shown(shapes.teacher, 2)
    made = built(term(name), student, teacher)
    made(student, teacher, batch).backward()
    gradients = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    for key, parameter in made.named_parameters():
        if key.startswith("of_teacher."):
            assert parameter.grad is None, key
        else:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_what_studies_the_teacher_learns_by_its_own_loss_alone(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    made = built(term(name), student, teacher)
    if made.of_teacher is None:
        assert type(made).study is Term.study
        return
    loss = made.study(teacher, batch)
    assert loss.shape == ()
    assert loss.isfinite()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    for key, parameter in made.named_parameters():
        assert (parameter.grad is not None) is key.startswith("of_teacher."), key
    first = {key: value for key, value in made.state_dict().items() if key.startswith("of_t")}
    other = built(term(name), shown([(5, 16), (7, 8), (9, 4)], 1), teacher)
    if {k: v.shape for k, v in first.items()} == {
        k: v.shape for k, v in other.state_dict().items() if k.startswith("of_t")
    }:  # what is kept for every student starts the same for every student
        fresh = built(term(name), student, teacher).state_dict()
        assert all(torch.equal(fresh[key], other.state_dict()[key]) for key in first)


@pytest.mark.parametrize("name", keeping("order"))
def test_the_order_of_the_batch_does_not_matter(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    made = built(term(name), student, teacher)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = Batch(batch.image[order], batch.target[order], batch.index[order], batch.progress)
    shuffled = ask(
        made, student.mapped(lambda t: t[order]), teacher.mapped(lambda t: t[order]), turned
    )
    assert torch.allclose(shuffled, ask(made, student, teacher, batch), rtol=1e-5)


@pytest.mark.parametrize("name", keeping("mean"))
def test_the_loss_is_a_mean_over_the_batch(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    made = built(term(name), student, teacher)

    def twice(t: Tensor) -> Tensor:
        return torch.cat([t, t])

    double = Batch(twice(batch.image), twice(batch.target), twice(batch.index), batch.progress)
    again = ask(made, student.mapped(twice), teacher.mapped(twice), double)
    assert torch.allclose(again, ask(made, student, teacher, batch), rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), cases())
def test_a_term_says_whether_its_loss_of_an_image_depends_on_the_others_of_the_batch(
    name: str,
    options: dict[str, Any],
    shown: Shown,
    batch: Batch,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside batch norms and what is drawn, which the trainer sees to."""
    student, teacher = shown([(4, 8), (6, 4), (8, 2)], 1), shown([(8, 8), (10, 4), (16, 2)], 2)
    made = built(term(name, **options), student, teacher).eval()
    for module in made.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            monkeypatch.setitem(vars(module), "forward", torch.tanh)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.3))
    monkeypatch.setattr(torch, "randint", lambda high, size, **_: torch.full(size, 7))

    def loss(rows: slice) -> Tensor:
        part = Batch(batch.image[rows], batch.target[rows], batch.index[rows], batch.progress)
        features = (of.mapped(lambda t: t[rows]) for of in (student, teacher))
        found: Tensor = copy.deepcopy(made)(*features, part)
        return found.detach()

    halves = (loss(slice(0, 3)) + loss(slice(3, 6))) / 2
    is_mean = torch.allclose(loss(slice(0, 6)), halves, rtol=1e-5)
    assert is_mean is not made.whole_batch


@pytest.mark.parametrize("name", keeping("self"))
def test_nothing_is_to_be_learned_from_a_teacher_that_is_the_student(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    made, features = term(name), shown(shapes.student, 1)
    built(made, features, features)
    if not made.uses_teacher or list(made.parameters()):
        pytest.skip("it looks at the labels, or through an adapter that starts at random")
    other = ask(made, features, shown(shapes.student, 2), batch)
    assert ask(made, features, features, batch) <= 1e-6 * other


@pytest.mark.parametrize("name", NAMES)
def test_only_a_term_that_looks_at_the_teacher_depends_on_it(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    made = built(term(name), student, teacher)
    other = ask(made, student, shown(shapes.teacher, 3), batch)
    assert torch.equal(other, ask(made, student, teacher, batch)) is not made.uses_teacher


@pytest.mark.parametrize("name", NAMES)
def test_what_a_term_does_not_need_it_does_not_use(
    name: str, shapes: Any, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown(shapes.student, 1), shown(shapes.teacher, 2)
    loss = ask(built(term(name), student, teacher), student, teacher, batch)
    unasked = set(DEPTHS) - term(name).needs - {"logits"}
    nothing: Mapping[str, Any] = {"embedding": None, "stages": (), "preacts": (), "blocks": ()}
    empty = {depth: nothing[depth] for depth in unasked}
    student, teacher = replace(student, **empty), replace(teacher, **empty)
    again = ask(built(term(name), student, teacher), student, teacher, batch)
    assert torch.equal(again, loss)


@pytest.mark.parametrize(("name", "options"), cases())
def test_the_loss_is_the_paper_s(
    name: str,
    options: dict[str, Any],
    shapes: Any,
    shown: Shown,
    batch: Batch,
    built: Built,
) -> None:
    """Against a transcription in plain loops, in float64; every term has one."""
    student, teacher = (shown(s, i).mapped(Tensor.double) for i, s in enumerate(shapes))
    made = built(term(name, **options), student, teacher).double()
    learned = {key: value.clone().numpy() for key, value in made.state_dict().items()}
    torch.manual_seed(1)  # a reference that needs the same random numbers seeds torch with 1
    found = float(made(student, teacher, batch).detach())
    plain = [SimpleNamespace(**mapped_to_numpy(features)) for features in (student, teacher)]
    drawn = SimpleNamespace(
        image=batch.image.numpy(),
        target=batch.target.numpy(),
        index=batch.index.numpy(),
        progress=batch.progress,
    )
    expected = reference(name)["loss"](*plain, drawn, learned, **options)
    assert found == pytest.approx(expected, rel=1e-10)


def mapped_to_numpy(features: Features) -> dict[str, Any]:
    return {
        "logits": features.logits.numpy(),
        "embedding": None if features.embedding is None else features.embedding.numpy(),
        "stages": [stage.numpy() for stage in features.stages],
        "preacts": [preact.numpy() for preact in features.preacts],
        "blocks": [[block.numpy() for block in blocks] for blocks in features.blocks],
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"method '{name}' has no option 'temprature'\.") as no:
        Method.from_table({name: {"weight": 1.0, "temprature": 2}})
    assert no.value.key == f"method.{name}.temprature"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["hot", [], {}, -1e300])
def test_a_value_that_makes_no_sense_is_a_recipe_error_at_the_latest_when_building(
    name: str, value: Any, shown: Shown
) -> None:
    for option in inspect.signature(plugins.load("method", name)).parameters:
        features = shown([(4, 8), (6, 4), (8, 2)], 1)

        def make(table: dict[str, Any], features: Features = features) -> None:
            Method.from_table(table).build(features, features, TARGETS)

        with pytest.raises(RecipeError, match=f"method '{name}': "):
            make({name: {option: value}})


@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_saved_and_read_back(
    name: str, shown: Shown, batch: Batch, built: Built
) -> None:
    student, teacher = shown([(4, 8), (6, 4)], 1), shown([(8, 8), (10, 4)], 2)
    first = built(term(name), student, teacher)
    second = term(name)
    second.build(student, teacher, TARGETS)
    second.load_state_dict(first.state_dict())
    assert torch.equal(ask(first, student, teacher, batch), ask(second, student, teacher, batch))


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, Backbone]:
    """A student of 24 pixels and a teacher of 32, each with its own mean and std."""
    torch.manual_seed(0)
    wanted = Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3)
    teacher = Backbone("wrn_16_1", zoo.create("wrn_16_1", 5), wanted, tuple("abcde"))
    return zoo.create("resnet8", 5), teacher


@pytest.mark.parametrize("name", NAMES)
def test_a_step_teaches_the_student_and_leaves_the_teacher_alone(
    name: str, networks: tuple[nn.Module, Backbone]
) -> None:
    student, backbone = networks
    shown = Preprocess((24, 24), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    method = Method.from_table({name: 1.0})
    image = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(backbone, shown, method)
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    learner = Learner(student, method, image).train()
    with torch.no_grad():
        method.build(learner.tap(image).float(), teacher(image), TARGETS)
    student.zero_grad()
    batch = Batch(image, torch.tensor([0, 1, 2, 3]), torch.arange(4))
    ran: list[torch.dtype] = []
    watch = student.get_submodule("stages.0.0").register_forward_hook(
        lambda module, args, output: ran.append(output.dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = learner(batch, teacher(image))
    watch.remove()
    assert loss.dtype == torch.float32  # though the network ran in half:
    assert ran == [torch.bfloat16]
    loss.backward()
    first = next(student.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    assert all(p.grad is None for p in backbone.model.parameters())
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[key]), key
