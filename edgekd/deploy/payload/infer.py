#!/usr/bin/env python3
# Needs numpy and the runtime of requirements.txt alone. SPDX-License-Identifier: Apache-2.0
"""Classify pictures with the model beside this file: python3 infer.py PICTURE_OR_FOLDER ..."""

import sys

try:
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # numpy's import hides it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import argparse
    import json
    import os
    import time
    from pathlib import Path
    from typing import Any, Callable, Dict, List

    sys.path.insert(0, str(Path(__file__).resolve().parent))  # python3 -I leaves it out
    import numpy as np
    from folder import opened, said
    from pictures import UnreadableError, fit, frames, one_line, pictures, to_input

except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:  # a file that is cut off or damaged may fail in any way
    lost = getattr(error, "name" if isinstance(error, ImportError) else "filename", None)
    if isinstance(error, ImportError) and lost not in ("folder", "pictures"):
        sys.exit(f"{' '.join(str(error).split())}: python3 -m pip install -r requirements.txt")
    which = f"{Path(lost).stem}.py" if lost else "folder.py or pictures.py"
    sys.exit(f"infer.py: this folder is not whole: {which} is missing or damaged. Copy it again.")


def classify(model: Callable[[Any], Any], pixels: Any, how: Dict[str, Any]) -> Any:
    """The probability of each class (K,), from a picture's pixels (h, w, 3) uint8."""
    logits = np.float64(model(to_input(fit(pixels, how), how))[0])
    most = logits.max()
    if not np.isfinite(most):  # NaN, or beyond what its precision can hold
        raise UnreadableError(f"the model answers {most}, no number; export it again, as fp32.")
    powers = np.exp(logits - most)
    return powers / powers.sum()


def likeliest(shares: Any, labels: List[str], count: int) -> List[Dict[str, Any]]:
    """Classes and their probabilities, likeliest first."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [{"label": labels[i], "index": int(i), "probability": float(shares[i])} for i in order]


def tell(line: str, stream: Any) -> None:
    """Write a line at once; where it cannot be written, the program ends."""
    try:
        if stream:  # it may be closed
            print(line, file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or it fails again at the end
        enough = isinstance(error, BrokenPipeError) and stream is sys.stdout  # for who reads it
        which = "output" if stream is sys.stdout else "error"
        sys.exit(0 if enough else f"the standard {which} cannot be written ({error.strerror}).")


def main() -> int:
    """One line a picture: its name, classes and probabilities, with tabs between; or JSON."""
    parser = argparse.ArgumentParser(description="Classify pictures; one line each.")
    parser.add_argument("paths", nargs="*", help="files, or folders of them")
    parser.add_argument("--camera", type=int, metavar="N", help="of OpenCV: 0 is the first")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="classes to print; 1")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    asked = parser.parse_args()
    if (asked.camera is None) == (not asked.paths) or asked.top < 1 or "" in asked.paths:
        parser.error("give pictures, none of them '', or else --camera N; --top is 1 or more")
    if not sys.stdout:
        sys.exit("the standard output is closed: nobody would see an answer.")
    (model, how, labels), failed = opened(), 0
    for name, pixels in pictures(asked.paths, how["size"]) if asked.paths else frames(asked.camera):
        start = time.perf_counter()
        try:
            if isinstance(pixels, UnreadableError):
                raise pixels
            best = likeliest(classify(model, pixels, how), labels, asked.top)
        except UnreadableError as error:
            tell(f"{one_line(name)}: {one_line(str(error))}", sys.stderr)
            failed = 1
            continue
        ms = round(1000 * (time.perf_counter() - start), 3)  # resizing included, decoding not
        words = [f"{one_line(one['label'])}\t{one['probability']:.4f}" for one in best]
        line = json.dumps({"image": name, "ms": ms, "classes": best})
        tell(line if asked.json else "\t".join([one_line(name), *words]), sys.stdout)
    return failed


if __name__ == "__main__":
    for one in filter(None, (sys.stdout, sys.stderr)):  # names may be in any letters
        one.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except Exception as error:  # such as no memory for a picture
        sys.exit(f"infer.py: it cannot go on{said(error)}. Is this folder whole?")
