"""Numbers and names as people read them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from edgekd.report.view import Estimate, Percentile, number

NONE = "\u2013"
"""Stands where there is nothing to say."""

# Marks that turn the writing direction of what follows, also outside the name that holds them.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def plain(value: Any, limit: int = 0) -> str:
    """A name in one line, without invisible characters, cut to ``limit`` where there is one."""
    text = "".join(
        " " if c.isspace() else "\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} else c
        for c in str(value)
        if c not in _TURNS
    )
    return text if not limit or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def signed(text: str) -> str:
    """With a typographic minus, which is as wide as a plus."""
    return text.replace("-", "\u2212")


def significant(value: float, digits: int = 3, finest: float = 0.0) -> str:
    """At least ``digits`` significant digits, and more until ``finest`` can be told apart."""
    return signed(f"{value:,.{_decimals(value, digits, finest)}f}")


def _decimals(value: float, digits: int, finest: float = 0.0) -> int:
    rounded = abs(float(f"{value:.{digits}g}"))  # 0.9996 has three digits as 1.00
    places = digits - 1 - math.floor(math.log10(rounded)) if rounded else 0
    if finest > 0:
        places = max(places, min(-math.floor(math.log10(finest)), places + 2))
    return min(max(places, 0), 9)


def scaled(value: float | None, unit: str = "") -> str:
    """A count with its SI prefix: ``78.0 k``, ``12.5 M``; ``unit`` follows it."""
    if value is None:
        return NONE
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{significant(value / size)} {prefix}{unit}"
    return f"{significant(value, 3) if value % 1 else f'{value:,.0f}'} {unit}".rstrip()


def milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{significant(value)} ms"


def celsius(value: float) -> str:
    return f"{signed(f'{value:.1f}')} °C"


def gigahertz(khz: float) -> str:
    return f"{khz / 1e6:.2f} GHz"


def spans(numbers: Iterable[int]) -> str:
    """``0-3, 6``: whole numbers, those that follow each other as a span."""
    found: list[list[int]] = []
    for value in sorted(set(numbers)):
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return ", ".join(f"{a}" if a == b else f"{a}\u2013{b}" for a, b in found)


def seconds(value: float | None) -> str:
    """A duration in the unit a person would use."""
    if value is None:
        return NONE
    if value < 60:
        return f"{significant(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(value: float | None, n: int | None = None) -> str:
    """A share as percent; its second decimal only where that many trials can tell."""
    return NONE if value is None else f"{100 * value:.{_percent_places(n)}f}%"


def points(value: float | None, n: int | None = None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return NONE if value is None else signed(f"{100 * value:+.{_percent_places(n)}f}")


def difference(value: float | None, ends: Any, n: int | None = None) -> str:
    """``+0.3 [+0.1, +0.5]``: points of a difference of shares, with its interval if there is one.

    Args:
        value: the difference.
        ends: a list of two numbers, or anything else where the interval is not known.
        n: how many trials it rests on.
    """
    span = [number(end) for end in ends] if isinstance(ends, list) else []
    if value is None or len(span) != 2 or None in span:
        return points(value, n)
    return f"{points(value, n)} [{points(span[0], n)}, {points(span[1], n)}]"


def _percent_places(n: int | None) -> int:
    return 2 if n and n >= 5000 else 1


def percent_interval(estimate: Estimate) -> str:
    """``[90.3, 95.5]``, or nothing where there is no interval."""
    if estimate.lo is None or estimate.hi is None:
        return ""
    places = _percent_places(estimate.n)
    return f"[{100 * estimate.lo:.{places}f}, {100 * estimate.hi:.{places}f}]"


def latency(found: Percentile | None, interval: bool = False) -> str:
    """``0.212 ms [0.209, 0.216]``, with enough digits to tell the ends apart; or why not."""
    if found is None:
        return NONE
    if found.value is None:
        return f"n/a ({found.reason})" if found.reason else "n/a"
    if not interval:
        return milliseconds(found.value)
    return within(found.value, found.lo, found.hi, "ms")


def within(value: float, lo: float | None, hi: float | None, unit: str) -> str:
    """``0.212 ms [0.209, 0.216]``: a value of any unit with its interval, if there is one."""
    if lo is None or hi is None:
        return f"{significant(value)} {unit}".rstrip()
    places = _decimals(value, 3, (hi - lo) / 2)
    ends = f"[{lo:,.{places}f}, {hi:,.{places}f}]"
    return signed(" ".join(filter(None, (f"{value:,.{places}f}", unit, ends))))


def times(ratio: float) -> str:
    """How many times, as ``11x`` or ``3.4x`` with a true multiplication sign."""
    return f"{ratio:,.0f}\u00d7" if ratio >= 9.95 else f"{ratio:.1f}\u00d7"


def moment(value: Any) -> str:
    """An ISO 8601 time, in UTC, to the minute."""
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return anything(value)


def anything(value: Any) -> str:
    """A fact of unknown kind in one line."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    found = number(value)
    if found is not None:
        return f"{found:,.0f}" if found % 1 == 0 else significant(found)
    if isinstance(value, list):
        numbers = [found for item in value if (found := number(item)) is not None]
        if len(numbers) == len(value) > 8:
            ends = dict.fromkeys((anything(min(numbers)), anything(max(numbers))))
            return f"{' to '.join(ends)} ({len(value)} values)"
        return ", ".join(anything(item) for item in value) or NONE
    if isinstance(value, dict):
        return "; ".join(f"{plain(key)} {anything(item)}" for key, item in value.items()) or NONE
    return plain(value)
