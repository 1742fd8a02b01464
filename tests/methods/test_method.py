"""A method is a weighted sum of terms: read, joined, built and asked in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.errors import RecipeError, UnknownNameError
from edgekd.features import Features, pair_stages, same_size
from edgekd.methods import Method, Term, Weight
from tests.methods.conftest import TARGETS

Shown = Callable[..., Features]
STAGES = [(4, 8), (6, 4)]
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


class Toy(Term):
    """Writes down what it is asked, and answers with the sum of the teacher's logits."""

    def __init__(self, name: str, diary: list[str]) -> None:
        super().__init__()
        self.name, self.diary = name, diary

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        self.diary.append(f"build {self.name}")
        self.adapter = nn.Linear(1, 1)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        self.diary.append(f"forward {self.name}")
        return teacher.logits.sum()

    def constrain(self) -> None:
        self.diary.append(f"constrain {self.name}")


class Learning(Toy):
    """Learns from the teacher beforehand."""

    needs = frozenset({"embedding"})

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        self.of_teacher = nn.Linear(1, 1)
        super().build(student, teacher, targets)

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        self.diary.append(f"study {self.name}")
        return teacher.logits.new_full((), 5.0)


class Exciting(Toy):
    """Shows the others a thousand in place of each of the teacher's logits."""

    needs = frozenset({"stages"})

    def excitation(self, teacher: Features) -> Tensor:
        self.diary.append(f"excitation {self.name}")
        return torch.full_like(teacher.logits, 1000.0)


def toys(diary: list[str], **kinds: type[Toy]) -> Method:
    terms = {name: kind(name, diary) for name, kind in kinds.items()}
    return Method(terms, {name: Weight(1, 1) for name in terms})


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("ce", "1*ce"),
        ("kd+at", "1*kd + 1*at"),
        ("ce + 0.9*kd + 0..1*at", "1*ce + 0.9*kd + 0..1*at"),
        ("1e16*ce", "1e16*ce"),
        ("0.1..0.1*ce", "0.1*ce"),
        ("0.30000000000000004*ce", "0.30000000000000004*ce"),
    ],
)
def test_a_method_is_printed_as_it_is_read(text: str, printed: str) -> None:
    assert str(Method.parse(text)) == printed
    assert str(Method.parse(printed)) == printed


@given(NUMBER, NUMBER)
@settings(max_examples=50, deadline=None)
def test_any_weights_survive_printing_and_reading(start: float, end: float) -> None:
    made = Method.from_table({"ce": start, "kd": [start, end]})
    again = Method.parse(str(made))
    assert again.weights == made.weights


def test_two_methods_are_joined() -> None:
    joined = Method.parse("ce") + Method.parse("0.9*kd + at")
    assert str(joined) == "1*ce + 0.9*kd + 1*at"
    assert list(joined.terms) == ["ce", "kd", "at"]


def test_joining_keeps_options_and_adapters(shown: Shown) -> None:
    hint = Method.parse("fitnet", {"fitnet": {"stage": -1}})
    hint.build(shown(STAGES, 1), shown(STAGES, 2), TARGETS)
    joined = Method.parse("ce") + hint
    assert joined.terms["fitnet"] is hint.terms["fitnet"]
    assert list(joined.state_dict()) == [
        "terms.fitnet.adapter.weight",
        "terms.fitnet.adapter.bias",
    ]


def test_joining_what_shares_a_term_is_refused() -> None:
    with pytest.raises(RecipeError, match="both methods have 'kd'; add up the weights"):
        Method.parse("ce + kd") + Method.parse("0.5*kd")


def test_options_reach_the_terms_from_text_and_from_tables() -> None:
    parsed = Method.parse("ce + kd", {"kd": {"temperature": 2, "weight": 0.5}})
    table = Method.from_table({"ce": 1, "kd": {"temperature": 2, "weight": 0.5}})
    for method in (parsed, table):
        assert method.terms["kd"].temperature == 2
        assert method.weights["kd"] == Weight(0.5, 0.5)


@pytest.mark.parametrize(
    ("table", "message", "key"),
    [
        ({}, "there is no method; give one, such as", "method"),
        ({"kd": {"temprature": 2}}, "no option 'temprature'. Did you mean temperature", "kd."),
        ({"kd": {"temperature": 0}}, "method 'kd': temperature must be above 0, got 0", "kd"),
        ({"ce": {"smoothing": 1.0}}, r"method 'ce': smoothing must be in \[0, 1\), got 1", "ce"),
        ({"at": {"power": -1}}, "method 'at': power must be at least 1, got -1", "at"),
        ({"kd": {"weight": "x"}}, "method.kd.weight is 'x'; expected a number", "kd.weight"),
        ({"kd": {"ramp": [0.5, 0.5]}}, "method 'kd': ramp must be two parts", "kd"),
        ({"kd": {"ramp": [0.5, 1.5]}}, "method 'kd': ramp must be two parts", "kd"),
        ({"kd": {"ramp": [0.5]}}, "method 'kd': ", "kd"),
        ({"kd": {"ramp": "ab"}}, "method 'kd': ", "kd"),
        ({"kd": {"ramp": 3}}, "method 'kd': ", "kd"),
    ],
)
def test_a_wrong_table_is_a_recipe_error_with_its_key(
    table: dict[str, Any], message: str, key: str
) -> None:
    with pytest.raises(RecipeError, match=message) as refused:
        Method.from_table(table)
    assert refused.value.key.startswith("method")
    assert key in refused.value.key


def test_an_unknown_term_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no method 'fitnets'. Did you mean fitnet\?"):
        Method.parse("ce + fitnets")


@pytest.mark.parametrize(
    ("value", "ramp", "expected"),
    [
        (0.9, (0, 1), {0: 0.9, 0.5: 0.9, 1: 0.9}),
        ([0, 1], (0, 1), {0: 0, 0.25: 0.25, 1: 1}),
        ([2, 1], (0, 1), {0: 2, 0.5: 1.5, 1: 1}),
        ([0, 1], (0.2, 0.4), {0: 0, 0.2: 0, 0.3: 0.5, 0.4: 1, 1: 1}),
    ],
)
def test_a_weight_stands_or_moves_evenly(
    value: Any, ramp: tuple[float, float], expected: dict[float, float]
) -> None:
    weight = Weight.read(value, ramp)
    for progress, factor in expected.items():
        assert weight(progress) == pytest.approx(factor)


def test_the_ramp_scales_the_loss_with_the_progress(shown: Shown, batch: Batch) -> None:
    student, teacher = shown(STAGES, 1), shown(STAGES, 2)
    method, plain = Method.parse("ce + 0..2*kd"), Method.parse("ce + kd")
    full = plain(student, teacher, batch)
    for progress in (0.0, 0.25, 1.0):
        losses = method(student, teacher, replace(batch, progress=progress))
        assert list(losses) == ["ce", "kd"]
        assert torch.equal(losses["ce"], full["ce"])
        assert torch.allclose(losses["kd"], 2 * progress * full["kd"])


def test_the_terms_are_asked_in_their_order(shown: Shown, batch: Batch) -> None:
    diary: list[str] = []
    method = toys(diary, a=Toy, b=Learning, c=Exciting)
    student, teacher = shown(STAGES, 1), shown(STAGES, 2)
    method.build(student, teacher, TARGETS)
    method(student, teacher, batch)
    method.constrain()
    assert diary == [
        "build a",
        "build b",
        "build c",
        "excitation c",
        "forward a",
        "forward b",
        "forward c",
        "constrain a",
        "constrain b",
        "constrain c",
    ]


def test_from_a_peer_who_studies_learns_all_the_time(shown: Shown, batch: Batch) -> None:
    method = toys([], a=Toy, b=Learning)
    student, teacher = shown(STAGES, 1), shown(STAGES, 2)
    method.build(student, teacher, TARGETS)
    alone = method(student, teacher, batch)
    method.with_peer = True
    together = method(student, teacher, batch)
    assert torch.equal(together["a"], alone["a"])
    assert torch.equal(together["b"], alone["b"] + 5)


def test_the_others_see_the_excited_logits_and_who_excites_the_teacher_s_own(
    shown: Shown, batch: Batch
) -> None:
    student, teacher = shown(STAGES, 1), shown(STAGES, 2)
    losses = toys([], a=Toy, b=Exciting, c=Toy)(student, teacher, batch)
    excited = torch.tensor(1000.0 * teacher.logits.numel())
    assert torch.equal(losses["a"], excited)
    assert torch.equal(losses["c"], excited)
    assert torch.equal(losses["b"], teacher.logits.sum())


def test_only_the_terms_in_parentheses_see_the_excited_logits(shown: Shown, batch: Batch) -> None:
    terms = {name: Toy(name, []) for name in ("a", "c")} | {"b": Exciting("b", [])}
    method = Method(terms, {name: Weight(1, 1) for name in terms}, {"b": ["a"]})
    student, teacher = shown(STAGES, 1), shown(STAGES, 2)
    losses = method(student, teacher, batch)
    assert torch.equal(losses["a"], torch.tensor(1000.0 * teacher.logits.numel()))
    assert torch.equal(losses["c"], teacher.logits.sum())
    assert str(method) == "1*c + 1*b(1*a)"


def test_wrappers_inside_each_other_are_printed_so() -> None:
    terms = {"a": Toy("a", []), "b": Exciting("b", []), "c": Exciting("c", []), "d": Toy("d", [])}
    weights = {name: Weight(1, 1) for name in terms}
    with pytest.raises(RecipeError, match="'b' and 'c' both replace the logits that 'a' learns"):
        Method(terms, weights, {"c": ["a", "b", "d"], "b": ["a"]})


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"a": ["d"]}, "'a' changes nothing for the terms in its parentheses; add it instead"),
        ({"b": ["x"]}, "'b' cannot wrap 'x': expected other terms of the method"),
        ({"b": ["b"]}, "'b' cannot wrap 'b'"),
    ],
)
def test_parentheses_that_say_nothing_are_refused(over: dict[str, list[str]], message: str) -> None:
    terms = {"a": Toy("a", []), "b": Exciting("b", []), "d": Toy("d", [])}
    with pytest.raises(RecipeError, match=message):
        Method(terms, {name: Weight(1, 1) for name in terms}, over)


def test_who_speaks_for_the_teacher_speaks_alone() -> None:
    with pytest.raises(RecipeError, match="'b' and 'c' both replace the logits that 'a' learns"):
        toys([], a=Toy, b=Exciting, c=Exciting)


def test_a_term_s_first_values_depend_on_the_seed_and_its_name_alone(shown: Shown) -> None:
    def first(text: str, seed: int) -> Tensor:
        torch.manual_seed(seed)
        torch.randn(seed)  # what was drawn before does not matter
        made = Method.parse(text)
        before = torch.get_rng_state()
        made.build(shown(STAGES, 1), shown(STAGES, 2), TARGETS)
        assert torch.equal(torch.get_rng_state(), before)
        weight: Tensor = made.terms["fitnet"].get_parameter("adapter.weight")
        return weight

    assert torch.equal(first("fitnet", 3), first("ce + at + fitnet", 3))
    assert not torch.equal(first("fitnet", 3), first("fitnet", 4))


def test_what_must_not_decay_is_named_in_full() -> None:
    class Still(Toy):
        def no_weight_decay(self) -> set[str]:
            return {"adapter.weight"}

    assert toys([], a=Toy, s=Still).no_weight_decay() == {"terms.s.adapter.weight"}


def test_what_the_terms_need_is_asked_for_together() -> None:
    method = toys([], a=Toy, b=Learning, c=Exciting)
    assert method.needs == {"logits", "embedding", "stages"}
    assert Method.parse("ce + kd").needs == {"logits"}


@pytest.mark.parametrize(("text", "uses"), [("ce", False), ("ce + kd", True), ("at", True)])
def test_a_method_says_whether_it_looks_at_a_teacher(text: str, uses: bool) -> None:
    assert Method.parse(text).uses_teacher is uses


def test_adapters_are_the_method_s_own_parameters(shown: Shown) -> None:
    method = toys([], b=Toy, a=Toy)
    assert not list(method.parameters())
    method.build(shown(STAGES, 1), shown(STAGES, 2), TARGETS)
    assert [name for name, _ in method.named_parameters()] == [
        "terms.b.adapter.weight",
        "terms.b.adapter.bias",
        "terms.a.adapter.weight",
        "terms.a.adapter.bias",
    ]


@pytest.mark.parametrize(
    ("text", "stages", "message"),
    [
        ("at", [], "method 'at': expected feature maps of both networks"),
        ("fitnet", [], "method 'fitnet': expected feature maps of both networks"),
        ("fitnet", [(4, 8)], "method 'fitnet': stage -2 of 1: expected one there is"),
    ],
)
def test_networks_a_term_cannot_work_with_are_a_recipe_error(
    shown: Shown, text: str, stages: list[tuple[int, int]], message: str
) -> None:
    features = replace(shown(STAGES, 1), stages=shown(stages or STAGES, 1).stages[: len(stages)])
    with pytest.raises(RecipeError, match=message) as refused:
        Method.parse(text).build(features, features, TARGETS)
    assert refused.value.key == f"method.{text}"


def test_stages_are_paired_from_the_coarse_end(shown: Shown) -> None:
    student, teacher = shown([(1, 8), (2, 4), (3, 2)], 1), shown([(5, 4), (6, 2)], 2)
    pairs = pair_stages(student, teacher)
    assert [(s.shape[1], t.shape[1]) for s, t in pairs] == [(2, 5), (3, 6)]


def test_the_larger_map_is_averaged_to_the_smaller() -> None:
    large, small = torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 2, 2, 2)
    found, same = same_size(large, small)
    assert found.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert same is small
    wide, high = same_size(torch.zeros(1, 1, 2, 6), torch.zeros(1, 1, 4, 3))
    assert wide.shape[2:] == high.shape[2:] == (2, 3)


def test_what_needs_the_whole_batch_is_known_before_it_is_gathered() -> None:
    plain = Method.parse("ce + kd + fitnet")
    assert not any(map(plain.sees_whole, plain.weights))
    assert plain.whole_needs == frozenset()
    mixed = Method.parse("mgd(ce + rkd) + fitnet")
    assert [name for name in mixed.weights if mixed.sees_whole(name)] == ["rkd"]
    assert mixed.whole_needs == {"logits", "embedding"}  # mgd speaks for the teacher before rkd


def test_what_studies_a_peer_sees_the_whole_batch(shown: Shown, batch: Batch) -> None:
    method = Method.parse("ce + ofd")
    method.with_peer = True
    features = shown([(4, 8), (6, 4)], 1)
    method.build(features, features, TARGETS)
    assert method.sees_whole("ofd")
    assert not method.sees_whole("ce")


def test_each_term_is_shown_what_the_view_says(shown: Shown, batch: Batch) -> None:
    method = Method.parse("ce + dist")
    here, whole = (shown([(4, 8), (6, 4)], seed) for seed in (1, 2))
    asked: list[tuple[str, bool]] = []

    def view(name: str, wide: bool) -> tuple[Features, Features, Batch]:
        asked.append((name, wide))
        return (whole, here, batch) if wide else (here, whole, batch)

    losses = method(here, here, batch, view)
    assert asked == [("ce", False), ("dist", True)]
    assert torch.equal(losses["ce"], method(here, whole, batch)["ce"])
    assert torch.equal(losses["dist"], method(whole, here, batch)["dist"])
