"""The JSON that trtexec writes; it does not escape what it writes, so some of it has to be mended.

Formats: NVIDIA/TensorRT, ``samples/common/sampleReporting.cpp``, unchanged from 8.5 to 11.1.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from edgekd.agent.failures import AgentError

QUOTED = re.compile(r'^(\s*[,{\[]*\s*"(?:[^"\\]+)"\s*:\s*")(.*)("\s*[,}\]]*\s*)$')
NAMED = re.compile(r'("name"\s*:\s*")(.*)("\s*,\s*"timeMs"\s*:)')
NOT_FINITE = re.compile(r"(?<=[\s,\[])(-?)(nan|inf)(?=[\s,\]])")
SPELLED = {"nan": "NaN", "inf": "Infinity"}
WRITTEN = "Report it with TensorRT's version; the engine itself is not affected."


@dataclass(frozen=True)
class LayerTime:
    """How long a layer took, in a run apart: measuring layers slows the network down."""

    name: str
    total_ms: float
    mean_ms: float
    median_ms: float
    percent: float
    """Of the time of all layers."""


@dataclass(frozen=True)
class Profile:
    """The layers in the order they ran."""

    count: int
    """Over how many queries."""
    layers: Tuple[LayerTime, ...]


@dataclass(frozen=True)
class Output:
    """An output of an engine."""

    shape: Tuple[int, ...]
    values: List[float]
    """In C order."""


def times_of(text: str) -> Dict[str, List[float]]:
    """Read ``--exportTimes``: column -> its value for each query, in order.

    Columns are computeMs, h2dMs, d2hMs, latencyMs, and start and end of each stage; releases
    differ in some, so only those that every query has are given.
    """
    rows = _list(text, "times")
    if not rows:
        raise AgentError("output", f"trtexec's times are empty: it timed no query. {WRITTEN}")
    try:
        columns = [name for name in rows[0] if all(name in row for row in rows)]
        return {name: [float(row[name]) for row in rows] for name in columns}
    except (TypeError, ValueError) as error:
        raise _unread("times", error) from error


def profile_of(text: str) -> Profile:
    """Read ``--exportProfile``: the number of queries first, then the layers."""
    try:
        rows = _list(text, "profile")
        layers = tuple(
            LayerTime(
                str(row["name"]),
                float(row["timeMs"]),
                float(row["averageMs"]),
                float(row.get("medianMs", row["averageMs"])),
                float(row["percentage"]),
            )
            for row in rows[1:]
        )
        return Profile(int(rows[0]["count"]), layers)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise _unread("profile", error) from error


def layers_of(text: str) -> str:
    """Read ``--exportLayerInfo``, what the engine's inspector says, as JSON that any reader takes.

    Raises:
        AgentError: it is not JSON and cannot be mended.
    """
    return json.dumps(_load(text, "layer information"))


def outputs_of(text: str) -> Dict[str, Output]:
    """Read ``--exportOutput``: output -> its values, six digits of each."""
    try:
        # C++ writes nan and inf, which JSON has not and Python's reader spells otherwise
        spelled = NOT_FINITE.sub(lambda one: one.group(1) + SPELLED[one.group(2)], text)
        return {
            str(row["name"]): Output(
                tuple(int(size) for size in re.findall(r"\d+", str(row["dimensions"]))),
                [float(value) for value in row["values"]],
            )
            for row in _list(spelled, "outputs")
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _unread("outputs", error) from error


def _list(text: str, what: str) -> List[Dict[str, Any]]:
    rows = _load(text, what)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unread(what, "expected a list of tables")
    return rows


def _load(text: str, what: str) -> Any:
    """JSON; names with quotes, backslashes or control characters in them are escaped if need be."""
    try:
        return json.loads(text, strict=False)  # TensorRT separates fused names by control bytes
    except ValueError:
        mended = "\n".join(_escaped(line) for line in text.split("\n"))
    try:
        return json.loads(mended, strict=False)
    except ValueError as error:
        raise _unread(what, error) from error


def _escaped(line: str) -> str:
    """The line if it is well-formed alone; else with the text of its name escaped."""
    found = NAMED.search(line) or QUOTED.match(line)
    if found is None:
        return line
    start, end = found.span(2)
    name = found.group(2)
    try:
        if json.loads(f'"{name}"', strict=False) is not None:
            return line
    except ValueError:
        pass
    return line[:start] + json.dumps(name)[1:-1] + line[end:]


def _unread(what: str, error: object) -> AgentError:
    return AgentError("output", f"trtexec's {what} cannot be read ({error}). {WRITTEN}")
