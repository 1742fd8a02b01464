"""What trtexec prints: which release it is, whether it worked, what it measured and warns of.

The wording is that of NVIDIA/TensorRT, ``samples/common`` (sampleReporting.cpp, logger.cpp), the
same from 8.2 to 11 but for what is said below. A line is ``[MM/DD/YYYY-HH:MM:SS] [I] text``; what
the library says has ``[TRT]`` before the text, and a message of several lines has one prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from edgekd.agent.failures import AgentError, explain_import

Version = Tuple[int, int, int]

BANNER = re.compile(r"^&&&& \w+ TensorRT\.trtexec \[TensorRT v([\d.]+)\]", re.MULTILINE)
PREFIX = re.compile(r"^(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?\[([VIWEF])\] ?(?:\[TRT\] ?)?(.*)$")
NUMBER = re.compile(r"(min|max|mean|median|percentile\(([\d.]+)%\)) = (\S+) ms")
FIELDS = {
    "Latency": "latency",
    "End-to-End Host Latency": "end_to_end",  # up to 8.2
    "Enqueue Time": "enqueue",
    "H2D Latency": "h2d",
    "GPU Compute Time": "compute",
    "D2H Latency": "d2h",
}
HEADING = "=== Performance summary ==="
CONSEQUENCE = re.compile(
    r"(Failed to parse onnx file|Parsing model failed|Engine could not be created from network|"
    r"Building engine failed|Failed to create engine from model( or file)?|Engine set up failed|"
    r"Engine creation failed|Inference set up failed|Network And Config setup failed|"
    r".*Assertion engine(Ptr)? != nullptr failed.*)[. )]*$"
)
"""Errors that only repeat that there was one."""
NODE_DUMP = re.compile(r"--- (Begin|End) node ---|^(input|output|name|op_type): \"")
SHOWN = 3  # errors in a sentence
LONGEST = 300  # characters of each
UNSURE = "(no error line; the last lines were: {})"


@dataclass(frozen=True)
class Verdict:
    """How a run ended, by its own last line."""

    passed: bool
    errors: Tuple[str, ...]
    """What was said at level E or F, without what only repeats it; never empty on a failure."""

    @property
    def sentence(self) -> str:
        """The errors as one line."""
        return " / ".join(error[:LONGEST] for error in self.errors[:SHOWN])


@dataclass(frozen=True)
class Summary:
    """What was measured."""

    throughput_qps: float
    """Queries a second; a query is a whole batch."""
    milliseconds: Mapping[str, Mapping[str, float]]
    """latency, enqueue, h2d, compute, d2h (and end_to_end up to 8.2) -> min, max, mean, median and
    the percentiles that were asked for, as ``p99``. Compare ``compute`` between releases: the
    others hold transfers by default up to 10 and none from 11 on."""
    walltime_s: float
    compute_s: float
    warnings: Tuple[str, ...]
    """Why the numbers may be worth less: unstable, bound by the enqueue time or by transfers."""

    def to_dict(self) -> Dict[str, Any]:
        """For the result: JSON."""
        return {
            "throughput_qps": self.throughput_qps,
            "milliseconds": {name: dict(row) for name, row in self.milliseconds.items()},
            "walltime_s": self.walltime_s,
            "compute_s": self.compute_s,
            "warnings": list(self.warnings),
        }


def version_of(text: str) -> Version:
    """Read the first line: ``[TensorRT v8502]`` is 8.5.2, ``[TensorRT v101303] [b33]`` 10.13.3.

    Raises:
        AgentError: there is no such line.
    """
    found = BANNER.search(text)
    if found is None:
        raise explain_import(text) or AgentError(
            "library",
            "expected trtexec's first line, '&&&& RUNNING TensorRT.trtexec [TensorRT v...]', and "
            f"found {_tail(text)!r}. Check that this is NVIDIA's trtexec and that it starts: "
            "trtexec --help",
        )
    word = found.group(1).strip(".")
    if "." in word:
        major, minor, patch = ([int(part) for part in word.split(".")] + [0, 0])[:3]
        return major, minor, patch
    number = int(word)
    scale = 1000 if number < 100_000 else 10_000  # of the major version: NV_TENSORRT_VERSION
    return number // scale, number % scale // 100, number % 100


def verdict_of(text: str) -> Verdict:
    """Read the last line, PASSED or FAILED, and the errors. Neither, as after a crash: failed."""
    ended = re.findall(r"^&&&& (PASSED|FAILED) ", text, re.MULTILINE)
    passed = ended[-1:] == ["PASSED"]
    said = [_plain(message) for level, message in _messages(text) if level in "EF"]
    said = [message for message in said if not NODE_DUMP.search(message)]
    causes = [message for message in said if not CONSEQUENCE.match(message)] or said
    if not causes and not passed:
        causes = [UNSURE.format(_tail(text) or "none")]
    return Verdict(passed, tuple(dict.fromkeys(causes)))


def summary_of(text: str) -> Optional[Summary]:
    """Read the performance summary; None where there is none, as after a build alone."""
    if HEADING not in text:
        return None
    tables: Dict[str, Dict[str, float]] = {}
    single: Dict[str, float] = {}
    for _, message in _messages(text[text.rindex(HEADING) :]):
        name, _, rest = message.partition(": ")
        numbers = {
            f"p{percent}" if percent else word: float(value)
            for word, percent, value in NUMBER.findall(rest)
        }
        if name in FIELDS and numbers:
            tables[FIELDS[name]] = numbers
        elif re.match(r"\S+ (qps|s)$", rest):
            single[name] = float(rest.split()[0])
    try:
        return Summary(
            single["Throughput"],
            tables,
            single["Total Host Walltime"],
            single["Total GPU Compute Time"],
            tuple(one[2:] for one in warnings_of(text) if one.startswith("* ")),
        )
    except KeyError as error:
        raise AgentError(
            "output",
            f"trtexec's performance summary has no line {error}; it may have been cut short. Look "
            "at its log, and report it with TensorRT's version.",
        ) from error


def warnings_of(text: str) -> Tuple[str, ...]:
    """What it warns of; the same warning of many layers or weights is one, with their number."""
    said: List[str] = []
    for level, message in _messages(text):
        if level != "W" or "deprecated" in message:
            continue
        if message.startswith("  ") and said:  # the second half of a sentence
            said[-1] += " " + message.strip()
        else:
            said.append(message.strip())
    alike: Dict[str, List[str]] = {}
    for message in said:
        if message:
            shape = re.sub(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\[[^\]]*\]|\d+", "#", message)
            alike.setdefault(shape[:80], []).append(message)
    return tuple(
        group[0] + (f" (and {len(group) - 1} more like it)" if len(group) > 1 else "")
        for group in alike.values()
    )


def _messages(text: str) -> List[Tuple[str, str]]:
    """Level and text of each message, its lines joined; ``&`` is the level of trtexec's own."""
    found: List[Tuple[str, str]] = []
    for line in text.splitlines():
        prefixed = PREFIX.match(line)
        if prefixed:
            found.append((prefixed.group(1), prefixed.group(2).rstrip()))
        elif line.startswith("&&&& ") or not found:
            found.append(("&", line.strip()))
        elif line.strip():
            level, message = found[-1]
            found[-1] = (level, f"{message} {line.strip()}")
    return found


def _plain(message: str) -> str:
    """The part of an error that says something to those who have not the source at hand."""
    message = re.sub(r"^\w+\.cpp:\d+: ", "", message.strip())
    coded = re.match(r"(?:Error\[\d+\]|\d+): .*?Error Code \d+: [\w ]+? \((.*)\)$", message)
    return re.sub(r"\.? In \w+ at /\S+", "", coded.group(1)) if coded else message


def _tail(text: str, lines: int = 3) -> str:
    kept = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " / ".join(kept)[:LONGEST]
