"""Method: ``Method.parse("ce + 0.9*kd + at")``, a weighted sum of terms."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from edgekd import plugins
from edgekd.data import Batch
from edgekd.errors import RecipeError, hint
from edgekd.features import Features
from edgekd.formula import parse_method
from edgekd.methods._term import Term
from edgekd.methods._weight import Weight
from edgekd.strict import term_table

Shown = tuple[Features, Features, Batch]
"""What student and teacher showed, and of which batch."""
View = Callable[[str, bool], Shown]
"""What a term is shown, by its name and by whether it has to be the whole batch."""


class Method(nn.Module):
    """A weighted sum of terms; ``+`` joins two.

    The terms are registered modules, so adapters reach the optimiser and the checkpoint, and are
    absent from the exported student.

    Args:
        terms: the terms, by name.
        weights: the weight of each.
        over: of each term that changes what others see, their names.
        options: what each was made with, to tell what was learned with other options apart.
    """

    def __init__(
        self,
        terms: Mapping[str, Term],
        weights: Mapping[str, Weight],
        over: Mapping[str, Sequence[str]] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = dict(weights)
        self.over = {name: tuple(inner) for name, inner in (over or {}).items()}
        self.options = {name: dict((options or {}).get(name, {})) for name in terms}
        self.with_peer = False
        """Whether the teacher learns too, so that what belongs to it studies all the time."""
        _check_wrapping(self.named, self.over)

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Method:
        """Read ``"kd+at"`` or ``"mgd(ce + 0.9*kd)"``; a name without a weight weighs 1.

        Args:
            text: names of files in ``edgekd/methods/``, each with an optional weight in front and,
                in parentheses, the terms it changes the teacher's logits for.
            options: keyword arguments of each term, by name.

        Raises:
            UnknownNameError: a term there is not.
            RecipeError: an option the term does not take, or a value it refuses.
        """
        given = options or {}
        return cls.from_table({n: {**t, **given.get(n, {})} for n, t in parse_method(text).items()})

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Method:
        """Build from a recipe's ``[method]`` section.

        A term's table holds its ``weight``, ``ramp``, ``over`` and options.
        """
        if not table:
            raise RecipeError('there is no method; give one, such as "ce + 0.9*kd".', "method")
        terms, weights, over, taken = {}, {}, {}, {}
        for name, value in table.items():
            options = term_table(name, value)
            ends, ramp = options.pop("weight"), options.pop("ramp", (0.0, 1.0))
            weights[name] = _made(name, Weight.read, {"value": ends, "ramp": ramp})
            over[name] = options.pop("over", ())
            terms[name] = _made(name, plugins.load("method", name), options)
            taken[name] = options
        return cls(terms, weights, {n: inner for n, inner in over.items() if inner}, taken)

    @cached_property
    def named(self) -> dict[str, Term]:
        """The terms by name."""
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    @property
    def needs(self) -> frozenset[str]:
        """What the terms look at, together."""
        return frozenset().union(*(term.needs for term in self.named.values()))

    @property
    def uses_teacher(self) -> bool:
        """Whether any term looks at the teacher."""
        return any(term.uses_teacher for term in self.named.values())

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        """Let each term create its adapters, from random numbers of its own.

        So a term's first values depend on the seed alone, not on which terms stand beside it.

        Raises:
            RecipeError: a term that cannot work with what these two networks show.
        """
        shown = {"student": student, "teacher": teacher, "targets": targets}
        for name, term in self.named.items():
            with torch.random.fork_rng():
                torch.manual_seed(zlib.crc32(f"{torch.initial_seed()} {name}".encode()))
                _made(name, term.build, shown)

    def attempt(self, student: Features, teacher: Features, batch: Batch) -> None:
        """Let each term compute its losses once.

        Raises:
            RecipeError: a term that cannot, with the options it has.
        """
        shown = {"teacher": teacher, "batch": batch}
        for name, term in self.named.items():
            if term.of_teacher is not None:
                _made(name, term.study, shown)
            _made(name, term.forward, {"student": student, **shown})

    def forward(
        self, student: Features, teacher: Features, batch: Batch, view: View | None = None
    ) -> dict[str, Tensor]:
        """Weighted loss of each term, by name: minimise their sum, log each.

        Args:
            student: what the student showed.
            teacher: what the teacher showed.
            batch: of what.
            view: what each term is shown instead, where processes share the batch.
        """
        terms, losses = self.named, {}
        excited: dict[bool, dict[str, Tensor | None]] = {}
        for name, term in terms.items():
            wide = view is not None and self.sees_whole(name)
            if view is not None:
                student, teacher, batch = view(name, wide)
            if wide not in excited:
                excited[wide] = {other: term.excitation(teacher) for other, term in terms.items()}
            seen = teacher
            for other, logits in excited[wide].items():
                if logits is not None and name in self.seen_through(other):
                    seen = replace(teacher, logits=logits)
            loss, weight = term(student, seen, batch), self.weights[name](batch.progress)
            losses[name] = loss if weight == 1 else weight * loss
            if self.with_peer and term.of_teacher is not None:
                losses[name] = losses[name] + term.study(teacher, batch)
        return losses

    def sees_whole(self, name: str) -> bool:
        """Whether a term has to be shown the whole batch where processes share it.

        What studies a peer during the training counts and learns from all images alike.
        """
        term = self.named[name]
        return term.whole_batch or (self.with_peer and term.of_teacher is not None)

    @property
    def whole_needs(self) -> frozenset[str]:
        """What those terms look at, and those that speak for the teacher before them."""
        wide = {name for name in self.named if self.sees_whole(name)}
        heard = wide | (speakers(self.named) if wide else set())
        return frozenset[str]().union(*(self.named[name].needs for name in heard))

    def seen_through(self, name: str) -> tuple[str, ...]:
        """The terms that see the teacher's logits as ``name`` shows them: named ones, or all."""
        return self.over.get(name) or tuple(other for other in self.weights if other != name)

    def constrain(self) -> None:
        """After an optimiser step: let each term put its parameters back where they belong."""
        for term in self.named.values():
            term.constrain()

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that must not decay."""
        named = self.named.items()
        return {f"terms.{name}.{own}" for name, term in named for own in term.no_weight_decay()}

    def __add__(self, other: Method) -> Method:
        twice = sorted(self.weights.keys() & other.weights.keys())
        if twice:
            raise RecipeError(f"both methods have {twice[0]!r}; add up the weights.", "method")
        return Method(
            {**self.named, **other.named},
            {**self.weights, **other.weights},
            {**self.over, **other.over},
            {**self.options, **other.options},
        )

    def __str__(self) -> str:
        return self._text([name for name in self.weights if not self._wrappers(name)])

    def _text(self, names: Sequence[str]) -> str:
        parts = []
        for name in names:
            inside = self.over.get(name, ())
            direct = [inner for inner in inside if not set(self._wrappers(inner)) & set(inside)]
            parts.append(
                f"{self.weights[name]}*{name}" + (f"({self._text(direct)})" * bool(inside))
            )
        return " + ".join(parts)

    def _wrappers(self, name: str) -> list[str]:
        return [other for other, inside in self.over.items() if name in inside]


def speakers(terms: Mapping[str, Term]) -> set[str]:
    """Names of those that say something in place of the teacher."""
    return {n for n, t in terms.items() if type(t).excitation is not Term.excitation}


def _check_wrapping(terms: Mapping[str, Term], over: Mapping[str, Sequence[str]]) -> None:
    """Refuse parentheses that would do nothing, or two terms that speak for the teacher at once."""
    speaking = speakers(terms)
    for name, inside in over.items():
        wrong = [inner for inner in inside if inner not in terms or inner == name]
        if wrong:
            raise RecipeError(
                f"method {name!r} cannot wrap {wrong[0]!r}: expected other terms of the method.",
                f"method.{name}.over",
            )
        if name not in speaking:
            raise RecipeError(
                f"method {name!r} changes nothing for the terms in its parentheses; "
                f'add it instead: "{" + ".join([*inside, name])}".',
                f"method.{name}",
            )
    for name in terms:
        speak = sorted(s for s in speaking - {name} if name in over.get(s, terms))
        if len(speak) > 1:
            raise RecipeError(
                f"methods {speak[0]!r} and {speak[1]!r} both replace the logits that {name!r} "
                f"learns from; put the terms each is meant for in its parentheses.",
                f"method.{speak[1]}",
            )


NUMBERS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
}
"""By the annotation of an option: what it is called, and the types of its values."""


def _made(name: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call a constructor with a recipe's options; refuse in the recipe's words."""
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            listed = hint(option, ["weight", "ramp", *known])
            raise RecipeError(
                f"method {name!r} has no option {option!r}.{listed}", f"method.{name}.{option}"
            )
        wanted = NUMBERS.get(str(known[option].annotation))
        if wanted and type(options[option]) not in wanted[1]:
            raise RecipeError(
                f"method {name!r}: {option} must be {wanted[0]}, got {options[option]!r}.",
                f"method.{name}.{option}",
            )
    try:
        return make(**options)
    except (TypeError, ValueError, ArithmeticError, MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].removesuffix(".")
        raise RecipeError(f"method {name!r}: {reason}.", f"method.{name}") from error
