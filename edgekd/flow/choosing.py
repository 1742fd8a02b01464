"""Choosing: which method trains a student, as it was asked for or by a rule that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgekd.errors import RecipeError, UsageError
from edgekd.formula import parse_method
from edgekd.methods import Method
from edgekd.models import Backbone
from edgekd.recipe import Recipe
from edgekd.strict import term_table
from edgekd.trainer import rehearse
from edgekd.watching import Watch

AUTO, FULL = "auto", ("weight", 1.0)
SMALL = 0.3
"""A student with at most this share of its teacher's parameters counts as of low capacity.

Where it was tried, a ResNet-8 with 29 % of its ResNet-20 teacher's, ``rtk`` and ``kr`` were better
than the logits on validation images, with each of three seeds (``tools/bench/accuracy.py``).
"""
QUERIES = ("qkv", "qk", "to_q", "q_proj", "query")
"""How timm's and torchvision's attention modules call the layers that ask and answer."""
LOGITS = "ce + 0.9*kd"
MAPS = f"{LOGITS} + 10*rtk + 3*kr"
TOKENS = f"{LOGITS} + vkd"


@dataclass(frozen=True)
class Choice:
    """A method and the reason for it."""

    text: str
    why: str


def is_auto(table: Mapping[str, Any]) -> bool:
    """Whether a recipe leaves the choice to the rule.

    Raises:
        RecipeError: it does so and names terms beside.
    """
    if AUTO not in table:
        return False
    others = [name for name in table if name != AUTO]
    given = [key for key, value in term_table(AUTO, table[AUTO]).items() if (key, value) != FULL]
    if others or given:
        raise RecipeError(
            "method 'auto' chooses all terms and weights; expected it alone, found "
            f"{', '.join(others + given)} beside it.",
            "method.auto",
        )
    return True


def check_table(table: Mapping[str, Any]) -> None:
    """Refuse a method whose names or options are wrong, whatever the networks are."""
    if not is_auto(table):
        Method.from_table(table)


def check_peer(recipe: Recipe, teacher: Backbone | None = None) -> bool:
    """Whether the student learns beside a peer.

    Args:
        recipe: what was asked for.
        teacher: a network handed over beside it.

    Raises:
        UsageError: a peer that would teach nothing, or a teacher beside it.
    """
    if not (recipe.peer.name or recipe.peer.weights):
        return False
    if recipe.teacher.weights or teacher is not None:
        raise UsageError(
            "a student learns from a frozen teacher or beside a peer; found both. "
            "Leave --teacher out, or --peer."
        )
    if not is_auto(recipe.method) and not Method.from_table(recipe.method).uses_teacher:
        raise RecipeError(
            f"the method {' + '.join(recipe.method)} does not look at a teacher; beside a peer "
            'expected one that does, such as "ce + kd".',
            "method",
        )
    return True


def method_of(
    table: Mapping[str, Any],
    student: Backbone,
    teacher: Backbone | None,
    peer: Backbone | None,
    targets: Tensor,
    watch: Watch,
) -> Method:
    """The method to train with, tried on the two networks before any image is read.

    Args:
        table: as a recipe holds it.
        student: the network to train.
        teacher: its frozen teacher, if it has one.
        peer: who learns beside it, if somebody does.
        targets: (N,) classes of the training images.
        watch: told what was chosen, and why.

    Raises:
        RecipeError: the method cannot work with these networks.
    """
    other = teacher or peer
    if other is not None and is_auto(table):
        choice = choose(student, other, targets)
        watch.say(f"method auto: {choice.text}: {choice.why}")
        table = parse_method(choice.text)
    method = Method.from_table(table)
    rehearse(method, student, other, targets)
    if peer is not None:
        rehearse(method, peer, student, targets)
    return method


def choose(student: Backbone, teacher: Backbone, targets: Tensor) -> Choice:
    """A method by the kinds of the two networks and the ratio of their parameters."""
    choice = _preferred(student, teacher)
    try:
        rehearse(Method.parse(choice.text), student, teacher, targets)
    except UsageError as error:
        return Choice(LOGITS, f"{choice.why}, but {str(error).removesuffix('.')}")
    return choice


def _preferred(student: Backbone, teacher: Backbone) -> Choice:
    attends = [n.name for n in (student, teacher) if attends_to_tokens(n.model)]
    share = student.parameters / teacher.parameters
    if attends:
        return Choice(TOKENS, f"{' and '.join(attends)} attends to tokens; vkd suits both kinds")
    if share <= SMALL:
        return Choice(
            MAPS,
            f"the student has {share:.0%} of the teacher's parameters; rtk and kr suit students "
            "of low capacity",
        )
    return Choice(
        LOGITS, f"the student has {share:.0%} of the teacher's parameters; its logits are enough"
    )


def attends_to_tokens(model: nn.Module) -> bool:
    """Whether a network has self-attention: modules that make queries and keys, pooling apart."""
    if any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        return True
    inner = [name for name, _ in model.named_modules() if "pool" not in name.lower()]
    return any(name.rpartition(".")[2].startswith(QUERIES) for name in inner)
