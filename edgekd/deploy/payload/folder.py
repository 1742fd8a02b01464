"""What lies beside infer.py: settings, labels and the model, read and checked.

Whatever is wrong there ends the program in one line, which names the file that was being read.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from pictures import REACH, one_line

HERE = Path(__file__).resolve().parent
AGAIN = "Copy the folder again, or see what is not as it was made: sha256sum -c SHA256SUMS"
LONGEST = 300  # of what a library says, in characters
MOST_THREADS, MOST_SIDE, MOST_CPUS = 1024, 8192, 65536
FILTERS = ("nearest", *REACH)
RUNTIMES = ("onnxruntime", "openvino", "tensorrt")
Model = Callable[[Any], Any]
Rule = Tuple[str, str, Callable[[Any], bool]]


class WrongError(Exception):
    """What is wrong with a file, in words that follow its name."""


def opened() -> Tuple[Model, Dict[str, Any], List[str]]:
    """The model, ready: from one input (1, ...) to its logits (1, K); how it takes it; K labels."""
    with reading("config.json") as file:
        config = json.loads(file.read_text("utf-8"))
        _check(config)
    with reading(config["labels"]) as file:
        labels = file.read_text("utf-8").split("\n")[:-1]
    runtime, name = config["runtime"], config["model"]
    _pin(runtime["affinity"])
    with reading("engine.py") as file:
        file.stat()  # else another module of that name could be taken for it
        open_model = import_module("engine").open_model
    with reading(name) as file:
        file.stat()
        model = open_model(file, runtime)

    def answer(values: Any) -> Any:
        with reading(name):
            try:
                logits = model(values)
            except Exception as error:  # runtimes' errors have nothing else in common
                shape = f"{values.dtype} {values.shape}"
                raise WrongError(
                    f"does not take {shape}, as config.json has it{said(error)}"
                ) from None
            if logits.shape != (1, len(labels)):
                found = f"answers {logits.shape}, and {config['labels']} has {len(labels)} labels"
                raise WrongError(found)
        return logits

    return answer, config["input"], labels


@contextmanager
def reading(name: str) -> Iterator[Path]:
    """The file of a name; whatever is wrong with it is said, and ends the program."""
    file = HERE / name
    try:
        if file.exists() and not file.is_file():
            raise WrongError("is a folder, a device or a pipe")  # of which some never end
        yield file
    except WrongError as error:
        wrong = str(error)
    except FileNotFoundError:
        wrong = "is missing: this folder is not whole"
    except UnicodeError as error:
        wrong = f"is no text in UTF-8{said(error)}"
    except (json.JSONDecodeError, RecursionError) as error:
        wrong = f"is no JSON{said(error)}"
    except Exception as error:  # as above
        wrong = f"cannot be used{said(error)}"
    else:
        return
    sys.exit(f"infer.py: {one_line(f'{name} {wrong}')}. {AGAIN}")


def said(error: Exception) -> str:
    """A library's own words, in parentheses."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f" ({' '.join(text.split())[:LONGEST].rstrip('.')})"


def _pin(cpus: List[int]) -> None:
    """Stay on the CPUs it was measured on."""
    if cpus and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            wrong = f"this machine has not the CPUs {cpus} of config.json{said(error)}"
            sys.exit(f"{wrong}. Name others there, as affinity, or none: [].")


def _check(config: Any) -> None:
    """Refuse settings that are none of edgekd deploy's."""
    if not isinstance(config, dict) or config.get("kind") != "edgekd deploy":
        raise WrongError("is no settings of edgekd deploy's")
    floats = isinstance(config.get("input"), dict) and config["input"].get("dtype") == "float32"
    for name, expected, holds in [*RULES, *(OF_FLOATS if floats else OF_PIXELS)]:
        value: Any = config
        for key in name.split("."):
            value = value.get(key, ...) if isinstance(value, dict) else ...
        if value is ...:
            raise WrongError(f"has no {name}; expected {expected}")
        if not holds(value):
            raise WrongError(f"has {name} {json.dumps(value)[:60]}; expected {expected}")


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _three(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_number, value))


def _size(value: Any) -> bool:
    sides = isinstance(value, list) and len(value) == 2
    return sides and all(_whole(side, MOST_SIDE) and side for side in value)


def _cpus(value: Any) -> bool:
    return isinstance(value, list) and all(_whole(one, MOST_CPUS) for one in value)


def _file(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value == Path(value).name != ""


RULES: List[Rule] = [
    ("schema_version", "1, as this infer.py reads it", lambda v: v == 1),
    ("model", "the name of a file beside it", _file),
    ("labels", "the name of a file beside it", _file),
    ("input.dtype", "uint8 or float32", lambda v: v in ("uint8", "float32")),
    ("input.size", f"height and width, 1 to {MOST_SIDE}", _size),
    ("input.interpolation", f"one of {', '.join(FILTERS)}", lambda v: v in FILTERS),
    ("input.crop_pct", "0.01 to 100", lambda v: _number(v) and 0.01 <= v <= 100),
    (
        "input.pillow",
        "a release, such as 12.0.0",
        lambda v: isinstance(v, str) and bool(re.match(r"\d{1,4}(\.|$)", v)),
    ),
    ("runtime.name", f"one of {', '.join(RUNTIMES)}", lambda v: v in RUNTIMES),
    ("runtime.provider", "a name", lambda v: isinstance(v, str)),
    (
        "runtime.threads",
        f"0 to {MOST_THREADS}, or null for the runtime's own",
        lambda v: v is None or _whole(v, MOST_THREADS),
    ),
    ("runtime.spinning", "true or false", lambda v: isinstance(v, bool)),
    ("runtime.affinity", "a list of CPUs, such as [2, 3]", _cpus),
]
OF_PIXELS: List[Rule] = [("input.layout", "NHWC, as uint8 is", lambda v: v == "NHWC")]
OF_FLOATS: List[Rule] = [
    ("input.layout", "NCHW, as float32 is", lambda v: v == "NCHW"),
    ("input.mean", "three numbers", _three),
    ("input.std", "three numbers", _three),
]
