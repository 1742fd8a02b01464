"""Method: ``Method.parse("ce + 0.9*kd + at")``, a weighted sum of terms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from edgekd import plugins
from edgekd.data import Batch
from edgekd.errors import RecipeError, hint
from edgekd.features import Features
from edgekd.methods._term import Term
from edgekd.strict import parse_method, term_table


@dataclass(frozen=True)
class Weight:
    """A term's factor, constant or moving evenly from ``start`` to ``end`` during ``ramp``."""

    start: float
    end: float
    ramp: tuple[float, float] = (0.0, 1.0)
    """Part of the training, in [0, 1], in which it moves."""

    @classmethod
    def read(cls, value: Any, ramp: Any = (0.0, 1.0)) -> Weight:
        """From a number, or two."""
        ends = value if isinstance(value, list | tuple) else [value]
        begin, until = (float(part) for part in ramp)
        if not 0 <= begin < until <= 1:
            raise ValueError(f"ramp must be two parts of the training in [0, 1], got {ramp}")
        return cls(float(ends[0]), float(ends[-1]), (begin, until))

    def __call__(self, progress: float) -> float:
        """The factor at ``progress`` in [0, 1]."""
        begin, until = self.ramp
        done = min(max((progress - begin) / (until - begin), 0.0), 1.0)
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        ends = [self.start] if self.start == self.end else [self.start, self.end]
        # as it is read back: "1" for 1.0, and no "+", which joins terms
        return "..".join(repr(end).removesuffix(".0").replace("e+", "e") for end in ends)


class Method(nn.Module):
    """A weighted sum of terms; ``+`` joins two.

    The terms are registered modules, so adapters reach the optimiser and the checkpoint, and are
    absent from the exported student.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, Weight]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = dict(weights)

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Method:
        """Read ``"kd+at"`` or ``"ce + 0.9*kd"``; a name without a weight weighs 1.

        Args:
            text: names of files in ``edgekd/methods/``, each with an optional weight in front.
            options: keyword arguments of each term, by name.

        Raises:
            UnknownNameError: a term there is not.
            RecipeError: an option the term does not take, or a value it refuses.
        """
        given = options or {}
        return cls.from_table({n: {**t, **given.get(n, {})} for n, t in parse_method(text).items()})

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Method:
        """Build from a recipe's ``[method]`` section: term to ``weight``, ``ramp`` and options."""
        if not table:
            raise RecipeError('there is no method; give one, such as "ce + 0.9*kd".', "method")
        terms, weights = {}, {}
        for name, value in table.items():
            options = term_table(name, value)
            ends, ramp = options.pop("weight"), options.pop("ramp", (0.0, 1.0))
            weights[name] = _made(name, Weight.read, {"value": ends, "ramp": ramp})
            terms[name] = _made(name, plugins.load("method", name), options)
        return cls(terms, weights)

    @property
    def needs(self) -> frozenset[str]:
        """What the terms look at, together."""
        return frozenset().union(*(term.needs for term in self._named().values()))

    @property
    def uses_teacher(self) -> bool:
        """Whether any term looks at the teacher."""
        return any(term.uses_teacher for term in self._named().values())

    def build(self, student: Features, teacher: Features) -> None:
        """Let each term create its adapters.

        Raises:
            RecipeError: a term that cannot work with what these two networks show.
        """
        for name, term in self._named().items():
            _made(name, term.build, {"student": student, "teacher": teacher})

    def prepare(self, stream: Callable[[], Iterable[Features]]) -> None:
        """Let each term that learns from the frozen teacher do so."""
        for term in self._named().values():
            if type(term).prepare is not Term.prepare:
                term.prepare(stream())

    def forward(self, student: Features, teacher: Features, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss of each term, by name: minimise their sum, log each."""
        terms = self._named()
        excited = {name: term.excitation(teacher) for name, term in terms.items()}
        losses = {}
        for name, term in terms.items():
            shown = [logits for n, logits in excited.items() if n != name and logits is not None]
            seen = replace(teacher, logits=shown[-1]) if shown else teacher
            loss, weight = term(student, seen, batch), self.weights[name](batch.progress)
            losses[name] = loss if weight == 1 else weight * loss
        return losses

    def constrain(self) -> None:
        """After an optimiser step: let each term put its parameters back where they belong."""
        for term in self._named().values():
            term.constrain()

    def __add__(self, other: Method) -> Method:
        twice = sorted(self.weights.keys() & other.weights.keys())
        if twice:
            raise RecipeError(f"both methods have {twice[0]!r}; add up the weights.", "method")
        return Method({**self._named(), **other._named()}, {**self.weights, **other.weights})

    def __str__(self) -> str:
        return " + ".join(f"{weight}*{name}" for name, weight in self.weights.items())

    def _named(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}


def _made(name: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call a constructor with a recipe's options; refuse in the recipe's words."""
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            listed = hint(option, ["weight", "ramp", *known])
            raise RecipeError(
                f"method {name!r} has no option {option!r}.{listed}", f"method.{name}.{option}"
            )
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"method {name!r}: {error}.", f"method.{name}") from error
