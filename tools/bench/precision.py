"""Accuracy of bf16 against fp32 on the same seeds, schedule and batches (goal G9).

    python tools/bench/precision.py --data FOLDER --teacher RUN --limit 10000 --epochs 8 --seeds 6

Each seed is distilled twice, in fp32 and in bf16, and both answer the same test images. What is
printed is the paired difference of each seed, their mean, and its 95 % t interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import edgekd
from edgekd.recipe import Recipe, recipe_from


def main() -> None:
    """Print one line a seed, then the mean."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--method", default="0.1*ce + 0.9*kd")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {asked}")
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            top1 = {
                precision: _distil(asked, seed, precision, Path(folder))
                for precision in ("fp32", "bf16")
            }
            differences.append(100 * (top1["bf16"] - top1["fp32"]))
            each = ", ".join(f"{name} {value:.2%}" for name, value in top1.items())
            print(f"seed {seed}: {each}, difference {differences[-1]:+.2f} points", flush=True)
    mean, error = statistics.mean(differences), statistics.stdev(differences)
    half = float(stats.t.ppf(0.975, asked.seeds - 1)) * error / math.sqrt(asked.seeds)
    print(
        f"bf16 - fp32: {mean:+.2f} points, 95 % over seeds {mean - half:+.2f} to {mean + half:+.2f}"
    )


def _distil(asked: argparse.Namespace, seed: int, precision: str, folder: Path) -> float:
    recipe: Recipe = recipe_from(
        {
            "data": {"source": asked.data, "limit": asked.limit, "size": asked.size},
            "teacher": {"name": "", "weights": asked.teacher},
            "student": {"name": asked.student},
            "method": asked.method,
            "train": {"epochs": asked.epochs, "seed": seed, "precision": precision},
        }
    )
    made = edgekd.distill(recipe, folder / f"{precision}-{seed}")
    answers = json.loads((made.path / "answers.json").read_text("utf-8"))
    return float(np.mean(np.equal(answers["predictions"], answers["targets"])))


if __name__ == "__main__":
    main()
