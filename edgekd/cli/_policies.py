"""The options that say how to measure, and what was said with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """``90s``, ``10m`` or ``1h``; a bare number is of seconds.

    Args:
        zero: whether none at all is one, too.
    """

    name = "duration"

    def __init__(self, *, zero: bool = True) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; expected one such as 90s, 10m or 1h", param, ctx)
        seconds = float(found[1]) * SECONDS[found[2]]
        if not seconds and not self._zero:
            self.fail("it has to be longer than 0 s; leave it out for none", param, ctx)
        return seconds


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--threads", {"type": int, "help": "Of the runtime; 0, if not told, takes physical cores."}),
    ("--batch-size", {"type": int, "help": "Images a run; 1 unless told."}),
    (
        "--max-seconds",
        {"type": float, "help": "End the timing then, known well enough or not; 30 unless told."},
    ),
    (
        "--clock",
        {
            "type": click.Choice(["inference", "end_to_end", "compute"]),
            "help": "inference (the default): host memory in and out. end_to_end: encoded image "
            "in, class out. compute: the GPU's own events.",
        },
    ),
    (
        "--spinning/--no-spinning",
        {"default": None, "help": "Whether idle threads burn the CPU to wake up sooner."},
    ),
    ("--affinity", {"metavar": "CPUS", "help": "Run on these: 4-7, 0,2, big or little."}),
    ("--runtime", {"help": "What runs the models, ort unless told; see edgekd list runtime."}),
    (
        "--provider",
        {"help": "Of ONNX Runtime, CPUExecutionProvider unless told; there is no falling back."},
    ),
    (
        "--input",
        {
            "type": click.Choice(["photos", "random"]),
            "help": "What is timed: two photographs (the data's images with --data), or noise.",
        },
    ),
    (
        "--image-size",
        {"type": (int, int), "help": "Height and width, for a file that leaves them free."},
    ),
    (
        "--layers",
        {"is_flag": True, "default": None, "help": "Time every layer too, in runs of their own."},
    ),
    (
        "--sweep",
        {"is_flag": True, "default": None, "help": "Try threads and spinning too; show the best."},
    ),
    (
        "--sustained",
        {
            "type": Duration(zero=False),
            "help": "Then go on for so long (10m, 1h), a row for each minute.",
        },
    ),
    (
        "--energy",
        {"is_flag": True, "default": None, "help": "Read the board's meter too: joules a run."},
    ),
    (
        "--lock-clocks",
        {
            "is_flag": True,
            "default": None,
            "help": "Fix the device's clocks meanwhile; nothing else there is ever changed.",
        },
    ),
    (
        "--wait",
        {"type": Duration(), "help": "Wait so long (90s, 10m) for a device that is in use."},
    ),
)
FIELDS = {"sustained": "sustained_s", "wait": "wait_s"}
"""Fields of a policy that are not called what their options are."""
TIMING = (
    "--threads",
    "--batch-size",
    "--spinning/--no-spinning",
    "--affinity",
    "--runtime",
    "--provider",
    "--wait",
)


def policy_options(command: F) -> F:
    """All of them; what is not given is None, so that a device's own defaults can fill in."""
    return _options(command, OPTIONS)


def timing_options(command: F) -> F:
    """Those that decide how fast a model is, and none of what is measured besides."""
    return _options(command, tuple(each for each in OPTIONS if each[0] in TIMING))


def said(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a policy that were given."""
    names = [name.partition("/")[0].removeprefix("--").replace("-", "_") for name, _ in OPTIONS]
    return {FIELDS.get(n, n): flags[n] for n in names if flags.get(n) is not None}


def listed(
    _context: click.Context, _option: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """``pi4,pi5`` and given more than once; ``local`` where nothing was."""
    names = [name.strip() for text in value for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"expected names such as pi4,pi5, not {','.join(value)!r}")
    return tuple(names) or ("local",)


def _options(command: F, options: tuple[tuple[str, dict[str, Any]], ...]) -> F:
    for name, settings in reversed(options):
        command = click.option(name, **settings)(command)
    return command
