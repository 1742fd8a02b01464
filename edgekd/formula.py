"""Formula: the text of a method, such as ``"mgd(ce + 0.9*kd) + 0..1*at"``."""

from __future__ import annotations

import re
import sys
from typing import Any

from edgekd.errors import RecipeError

DEEPEST = 8
LONGEST = 2000
"""Characters; a sum of all the terms there are has fewer."""
_TOKENS = re.compile(
    r"\s*(\.\.|[()+*]|[^\W\d]\w*|[-+]?(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][-+]?\d+)?|\S)"
)
_SYNTAX = (
    'Write for example "ce + 0.9*kd + at", "0..1*kd" for a weight that grows, '
    'or "mgd(ce + kd)" for a term that changes what others see.'
)


def parse_method(text: str) -> dict[str, dict[str, Any]]:
    """Read a sum of terms into a table: name to ``weight`` and, of what wraps others, ``over``.

    A term may have a weight in front, one number or two for a ramp, and others in parentheses
    behind it.

    Raises:
        RecipeError: not such a sum, a weight that is no number, or a term named twice.
    """
    if len(text) > LONGEST:
        raise RecipeError(
            f"the method has {len(text):,} characters; expected at most {LONGEST:,}. {_SYNTAX}",
            "method",
        )
    return _Reader(text).read()


class _Reader:
    """Reads one text, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._left = _TOKENS.findall(text)
        self._terms: dict[str, dict[str, Any]] = {}
        self._depth = 0

    def read(self) -> dict[str, dict[str, Any]]:
        self._sum()
        if self._left:
            raise self._no(f"{self._left[0]!r} is not expected where it stands.")
        return self._terms

    def _sum(self) -> list[str]:
        """Names of the terms of a sum, those inside others included."""
        names = self._term()
        while self._take("+"):
            names += self._term()
        return names

    def _term(self) -> list[str]:
        weight = self._weight()
        name = self._left.pop(0) if self._left else ""
        if not name.isidentifier():
            raise self._no(f"{name!r} is not a term.")
        if name in self._terms:
            raise self._no(f"{name!r} stands there twice; add up the weights.")
        table: dict[str, Any] = {"weight": weight}
        self._terms[name] = table
        if not self._take("("):
            return [name]
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._no(f"more than {DEEPEST} parentheses inside each other.")
        inner = self._sum()
        if not self._take(")"):
            raise self._no("a parenthesis is not closed.")
        self._depth -= 1
        table["over"] = inner
        return [name, *inner]

    def _weight(self) -> float | list[float]:
        """What stands before a ``*``, if it is not a name."""
        if not self._left or self._left[0].isidentifier():
            if self._left[1:2] == ["*"]:
                raise self._no(f"weight {self._left[0]!r} is no number.")
            return 1.0
        ends = [self._number()]
        if self._take(".."):
            ends.append(self._number())
        if not self._take("*"):
            raise self._no("a weight is followed by * and a term.")
        return ends[0] if len(ends) == 1 else ends

    def _number(self) -> float:
        token = self._left.pop(0) if self._left else ""
        try:
            value = float(token)
        except ValueError:
            raise self._no(f"{token!r} is neither a term nor a weight.") from None
        if not abs(value) <= sys.float_info.max:
            raise self._no(f"weight {token!r} is no number.")
        return value

    def _take(self, token: str) -> bool:
        if self._left[:1] != [token]:
            return False
        del self._left[0]
        return True

    def _no(self, what: str) -> RecipeError:
        return RecipeError(f"method {self._text!r}: {what} {_SYNTAX}", "method")
