"""Devices that are not what they seem: what answers there is hostile, broken or silent.

The device is this machine with another Python, which is a shell script that answers as it likes;
what comes over ssh takes the same way from the first byte on.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

from tests.bad_input.table import Cases, Place

ATTACHED = json.dumps({"event": "attached"})
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\r\x1b]52;c;cm0gLXJm\x07\x1b]8;;http://e\x07"
"""A title, a cleared screen, a colour, a line turned around, one overwritten, the clipboard set."""
TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
BROKEN = ["mine", "is not edgekd's agent, or is broken"]


def device(place: Place, script: str) -> str:
    """A device of the user's own whose Python is a script for ``sh``."""
    python = place.tmp / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    folder = place.home / ".config" / "edgekd" / "devices"
    folder.mkdir(parents=True)
    connect = f'address = "local"\npython = "{python}"\n'
    (folder / "mine.toml").write_text(f"[connect]\n{connect}")
    return "mine"


def model(place: Place) -> Path:
    found: Path = TINY["classifier"](place.tmp / "m.onnx")
    return found


def profile(place: Place, script: str) -> list[str | Path]:
    """Measure a good model on such a device."""
    return ["profile", model(place), "--device", device(place, script), "-o", place.out / "p.json"]


def saying(*lines: object) -> str:
    """A script that prints lines, JSON or not."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "\n".join(f"printf '%s\\n' {shlex.quote(text)}" for text in (ATTACHED, *texts))


def streaming(program: str) -> str:
    """A script that prints what a program of Python's prints."""
    return f"echo '{ATTACHED}'\nexec {sys.executable} -c {shlex.quote(program)}"


def error(message: Any) -> Mapping[str, Any]:
    return {"event": "error", "kind": "job", "message": message}


def doctor(place: Place, script: str) -> list[str | Path]:
    return ["device", "add", "other", "local", "--python", _python(place, script)]


def _python(place: Place, script: str) -> Path:
    device(place, script)
    return place.tmp / "python"


NESTED = json.dumps({"event": "", "y": "x"}).replace('"x"', "x")
SPEAKS = "import sys\nw = sys.stdout.write\n"
CASES: Cases = {
    "device: not JSON": (
        lambda p: profile(p, "echo hello"),
        1,
        ["ended without a result", "It said: hello", "edgekd device doctor"],
    ),
    "device: nothing": (
        lambda p: profile(p, "exit 0"),
        1,
        ["ended without a result", "nothing"],
    ),
    "device: no program": (
        lambda p: profile(p, "exit 127"),
        1,
        ["ended with exit code 127"],
    ),
    "device: escapes in what went wrong": (
        lambda p: profile(p, saying(error(HOSTILE))),
        1,
        ["mine: \\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp"],
    ),
    "device: escapes on standard error": (
        lambda p: profile(p, f"printf '%s' {shlex.quote(HOSTILE)} >&2; exit 3"),
        1,
        ["exit code 3", "\\x1b]0;owned"],
    ),
    "device: lines in what went wrong": (
        lambda p: profile(p, saying(error("no\nedgekd: all is well\r\n" * 40))),
        1,
        ["mine: no edgekd: all is well no"],
    ),
    "device: a long word on what went wrong": (
        lambda p: profile(p, streaming(f"print('{json.dumps(error('x'))}'.replace('x','y'*9**6))")),
        1,
        ["mine: yyyyyyyy", "…"],
    ),
    "device: an error without words": (
        lambda p: profile(p, saying({"event": "error", "kind": "job"})),
        1,
        [*BROKEN, "error has no message"],
    ),
    "device: an error that is a table": (
        lambda p: profile(p, saying(error({"a": 1}))),
        1,
        [*BROKEN, "error.message is {'a': 1}; expected a text"],
    ),
    "device: an event that is none": (
        lambda p: profile(p, saying({"event": ["result"]})),
        1,
        [*BROKEN, "event is ['result']; expected a text"],
    ),
    "device: a result of nothing": (
        lambda p: profile(p, saying({"event": "result"})),
        1,
        [*BROKEN, "profile has no device"],
    ),
    "device: NaN": (
        lambda p: profile(p, saying('{"event": "progress", "step": "timing", "seconds": NaN}')),
        1,
        [*BROKEN, "the number nan"],
    ),
    "device: infinity": (
        lambda p: profile(p, saying('{"event": "result", "models": [-1e999]}')),
        1,
        [*BROKEN, "the number -inf"],
    ),
    "device: a number beyond all measure": (
        lambda p: profile(p, saying(f'{{"event": "result", "models": [{"9" * 4000}]}}')),
        1,
        [*BROKEN, "the number 9999"],
    ),
    "device: deep nesting": (
        lambda p: profile(p, streaming(f"print('{NESTED}'.replace('x', '[' * 9**5 + ']' * 9**5))")),
        1,
        [*BROKEN, "nested too deep"],
    ),
    "device: nesting that can be read": (
        lambda p: profile(p, saying({"event": "x", "y": json.loads("[" * 200 + "]" * 200)})),
        1,
        [*BROKEN, "nested more than 32 deep"],
    ),
    "device: progress of nothing": (
        lambda p: profile(p, saying({"event": "progress", "step": "timing"})),
        1,
        [*BROKEN, "progress has no seconds"],
    ),
    "device: medians that are none": (
        lambda p: profile(
            p, saying({"event": "progress", "step": "timing", "seconds": 1, "median_ms": [1]})
        ),
        1,
        [*BROKEN, "progress.median_ms is [1]; expected a table"],
    ),
    "device: samples of different lengths": (
        lambda p: profile(
            p,
            saying(
                {
                    "event": "samples", "model": 0, "null_pair": False, "at_ns": [1],
                    "wall_ns": [], "cpu_ns": [], "disturbed": [], "block": [],
                }
            ),
        ),
        1,
        [*BROKEN, "columns of different lengths"],
    ),
    "device: a line without an end": (
        lambda p: profile(p, streaming(SPEAKS + "while 1: w('x' * 2**20)")),
        1,
        ["mine said more than anything edgekd runs there would say"],
    ),
    "device: lines without an end": (
        lambda p: profile(p, streaming(SPEAKS + "while 1: w('\\n' * 2**16)")),
        1,
        ["mine said more than anything edgekd runs there would say"],
    ),
    "device: standard error without an end": (
        lambda p: profile(p, streaming("import sys\nwhile 1: sys.stderr.write('x' * 2**20)")),
        1,
        ["mine said more than anything edgekd runs there would say"],
    ),
    "device: standard error without an end, the output closed": (
        lambda p: profile(p, "exec >&-; exec cat /dev/zero >&2"),
        1,
        ["mine said more than anything edgekd runs there would say"],
    ),
    "device: a line of very many parts": (
        lambda p: profile(p, streaming("print('{\"event\": [' + '[],' * 3000000 + '0]}')")),
        1,
        [*BROKEN, "a line of more than 2,000,000 parts"],
    ),
    "device: a survey of nothing": (
        lambda p: doctor(p, saying({"event": "result", "device": {}})),
        1,
        ["is not edgekd's agent, or is broken", "survey has no python"],
    ),
    "device: a name with escapes": (
        lambda p: ["profile", model(p), "--device", f"pi{HOSTILE}"],
        2,
        ["there is no device 'pi\\x1b]0;owned"],
    ),
    "device: an address with escapes": (
        lambda p: ["profile", model(p), "--device", f"ssh://{HOSTILE}"],
        2,
        ["cannot read the device 'ssh://\\x1b]0;owned"],
    ),
    "device: an address that is an option": (
        lambda p: ["profile", model(p), "--device", "ssh://-oProxyCommand=touch${IFS}canary"],
        2,
        ["cannot read the device 'ssh://-oProxyCommand"],
    ),
    "device: a name that leaves the folder": (
        lambda p: ["device", "add", "../../evil", "local", "--offline", "--profile", "none"],
        2,
        ["a device cannot be called '../../evil'"],
    ),
    "device: the home folder as its folder": (
        lambda p: [
            "device", "add", "mine", "local", "--offline", "--profile", "none", "--folder", p.home,
        ],
        2,
        ["is the home folder there"],
    ),
}  # fmt: skip
