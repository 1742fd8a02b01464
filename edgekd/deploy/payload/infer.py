#!/usr/bin/env python3
"""Classify pictures with the model beside this file: python3 infer.py PICTURE_OR_FOLDER ...

Needs numpy and the runtime of requirements.txt, no more; pictures.py says what reads which files,
and engine.py is how the model is run. Made by edgekd. SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
from pictures import UnreadableError, fit, frames, one_line, pictures

HERE = Path(__file__).resolve().parent
Model = Callable[[Any], Any]


def open_model(config: Dict[str, Any]) -> Model:
    """The model, ready: from one input (1, ...) to its logits (1, K), run as it was measured."""
    runtime = config["runtime"]
    if runtime["affinity"] and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, runtime["affinity"])
        except OSError as error:
            sys.exit(f"this machine has not the CPUs {runtime['affinity']} of config.json: {error}")
    opened: Model = import_module("engine").open_model(HERE / config["model"], runtime)
    return opened


def to_input(pixels: Any, how: Dict[str, Any]) -> Any:
    """Pixels (H, W, 3) uint8 as the model takes them: (1, H, W, 3) uint8, or as floats."""
    if how["dtype"] == "uint8":  # the file normalises by itself
        return np.ascontiguousarray(pixels[None])
    mean, std = np.array(how["mean"], np.float32), np.array(how["std"], np.float32)
    values = (np.float32(pixels[None]) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))  # (1, 3, H, W)


def classify(model: Model, pixels: Any, how: Dict[str, Any]) -> Any:
    """The probability of each class (K,), from a picture's pixels (h, w, 3) uint8."""
    logits = np.float64(model(to_input(fit(pixels, how), how))[0])
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def likeliest(shares: Any, labels: List[str], count: int) -> List[Dict[str, Any]]:
    """Classes and their probabilities, likeliest first."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [{"label": labels[i], "index": int(i), "probability": float(shares[i])} for i in order]


def main() -> int:
    """One line a picture: its name, classes and probabilities, with tabs between; or JSON."""
    parser = argparse.ArgumentParser(description="Classify pictures; one line each.")
    parser.add_argument("paths", nargs="*", type=Path, help="files, or folders of them")
    parser.add_argument("--camera", type=int, metavar="N", help="of OpenCV: 0 is the first")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="classes to print; 1")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    asked = parser.parse_args()
    if (asked.camera is None) == (not asked.paths) or asked.top < 1:
        parser.error("give pictures or --camera N, one of the two; --top is 1 or more")
    config, failed = json.loads((HERE / "config.json").read_text("utf-8")), 0
    labels = (HERE / "labels.txt").read_text("utf-8").split("\n")[:-1]
    model, how = open_model(config), config["input"]
    found = pictures(asked.paths, how["size"]) if asked.paths else frames(asked.camera)
    for name, pixels in found:
        if isinstance(pixels, UnreadableError):
            print(f"{one_line(name)}: {one_line(str(pixels))}", file=sys.stderr)
            failed = 1
            continue
        start = time.perf_counter()
        best = likeliest(classify(model, pixels, how), labels, asked.top)
        ms = round(1000 * (time.perf_counter() - start), 3)  # resizing included, decoding not
        words = [f"{one_line(one['label'])}\t{one['probability']:.4f}" for one in best]
        line = json.dumps({"image": name, "ms": ms, "classes": best})
        print(line if asked.json else "\t".join([one_line(name), *words]), flush=True)
    return failed


if __name__ == "__main__":
    streams: List[Any] = [one for one in (sys.stdout, sys.stderr) if one]  # one may be closed
    for stream in streams:  # names of files and classes may be in any letters
        stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # of this folder something is gone, or not what it was
        sys.exit(f"infer.py: {type(error).__name__}: {one_line(str(error))}; is this folder whole?")
