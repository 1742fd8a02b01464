"""Whether the scout ranks networks before a training as they rank after it.

    python tools/bench/ranking.py FOLDER --data cifar10-jpeg --limit 512
    python tools/bench/ranking.py FOLDER --quick        three tiny students on digits

The scout times every student with random weights. Then each is trained a little (one epoch on the
labels, or distilled with --teacher), exported as any student is, proven to be the network it came
from, and all files are timed in turn in one job. The table holds both medians; the figure is
Spearman's rank correlation of the two columns, with Fisher's interval (95 %). What is trained and
exported in FOLDER is taken as it is when the same command is given again; the timings are made
anew.
"""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekd import __version__
from edgekd.artifact import Artifact
from edgekd.flow.exporting import already_exported, export_network
from edgekd.flow.findings import Proofs
from edgekd.flow.measuring import measure
from edgekd.flow.policies import policy_for
from edgekd.flow.scouts import Scouting, scout, seen
from edgekd.flow.training import distill, train_alone
from edgekd.recipe import Export, Recipe, recipe_from
from edgekd.watching import Silent

STUDENTS = (
    "resnet8,resnet14,resnet20,resnet32,resnet44,resnet56,resnet8x4,resnet32x4,wrn_16_1,wrn_16_2,"
    "wrn_40_1,wrn_40_2,vgg8,vgg11_cifar,vgg13_cifar,mobilenetv2_cifar,shufflenetv1_cifar,"
    "shufflenetv2_cifar"
)
QUICK = "resnet8,resnet20,vgg8"
HEAD = "| student | rounds | before, ms [95 %] | rank | after, ms [95 %] | rank | after / before |"
Values = NDArray[np.float64]


def main() -> None:
    """Print the table, the correlation and what it was measured with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="trained students are kept here")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--size", type=int, default=0, help="pixels; the data's own unless told")
    parser.add_argument("--limit", type=int, default=512, help="training images")
    parser.add_argument("--students", default=STUDENTS)
    parser.add_argument("--teacher", default="", help="an artifact to distil them from")
    parser.add_argument("--device", default="local")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the last timing, at most")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.students, asked.limit, asked.seconds = QUICK, 200, 2.0
    torch.set_num_threads(1)
    recipe = recipe_from(
        {
            "data": {"source": asked.data, "size": asked.size, "limit": asked.limit},
            "train": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
            "teacher": {"weights": asked.teacher},
        }
    )
    names = tuple(asked.students.split(","))
    before = _scouted(recipe, names, asked)
    left = [name for name in names if before[name]["failed"] is None]
    files = [_trained(recipe, name, asked) for name in left]
    policy = policy_for(asked.device, _said(asked) | {"max_seconds": asked.seconds})
    records = measure([made.path for made in files], policy, asked.device, proofs=Proofs.NONE)
    after = [record for record in records if "timing" in record]
    print(table(left, [before[name] for name in left], after))
    print(_conditions(asked, after[0]))


def _said(asked: argparse.Namespace) -> dict[str, Any]:
    return {"threads": asked.threads} if asked.threads else {}


def _scouted(
    recipe: Recipe, names: tuple[str, ...], asked: argparse.Namespace
) -> dict[str, Mapping[str, Any]]:
    """What the scout says of each; nothing is taken from an earlier one."""
    size, classes = seen(recipe.data)
    what = Scouting(
        device=asked.device,
        space=names,
        size=size,
        classes=classes,
        said=_said(asked),
        restart=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = scout(what, Path(folder), Silent())
    spread = found["anchor"]["spread"]
    noise = "n/a" if spread is None else f"{spread:.1%}"
    print(f"noise of the scout: {found['anchor']['name']} within {noise} of its median\n")
    return {row["name"]: row for row in found["candidates"]}


def _trained(recipe: Recipe, name: str, asked: argparse.Namespace) -> Artifact:
    """A student that learned a little, exported as any is."""
    table = recipe.to_dict() | {"student": {"name": name}}
    own, folder = recipe_from(table), asked.folder / name
    network = (
        distill(own, folder) if own.teacher.weights else train_alone(own, folder, own.train.epochs)
    )
    options, out = Export(precision="fp32"), asked.folder / f"{name}-onnx"
    done = already_exported(network, out, options, asked.device)
    print(f"{name} is trained and exported", flush=True)
    return done or export_network(network, out, options, own.data, device=asked.device)


def table(
    names: Sequence[str], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> str:
    """Both medians of each student, the fastest first, and the correlation."""
    scouted = np.array([row["median"]["value"] for row in before])
    measured = np.array([record["timing"]["median"]["value"] for record in after])
    ranks = ranks_of(scouted), ranks_of(measured)
    lines = [HEAD, f"|{'---|' * 7}"]
    for i in np.argsort(measured):
        cells = (
            names[i],
            before[i]["rounds"],
            _estimate(before[i]["median"]),
            f"{ranks[0][i]:g}",
            _estimate(after[i]["timing"]["median"]),
            f"{ranks[1][i]:g}",
            f"{measured[i] / scouted[i]:.3f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    correlation = spearman(scouted, measured)
    ends = interval(correlation, len(names))
    shown = "too few for an interval" if ends is None else f"{ends[0]:.4f}, {ends[1]:.4f}"
    found = f"Spearman {correlation:.4f} [{shown}]"
    return "\n".join([*lines, "", f"{found} over {len(names)} students"])


def ranks_of(values: Values) -> Values:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Values = (last - (counts - 1) / 2)[inverse]
    return shared


def spearman(a: Values, b: Values) -> float:
    """Correlation of the ranks; NaN where all values of one are equal."""
    ours, theirs = ranks_of(a), ranks_of(b)
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    scale = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
    return float((ours * theirs).sum()) / scale if scale else float("nan")


def interval(correlation: float, n: int) -> tuple[float, float] | None:
    """95 % by Fisher's z; None for fewer than four students, or no correlation.

    The variance is that of Bonett & Wright, "Sample size requirements for estimating Pearson,
    Kendall and Spearman correlations", Psychometrika 65, 2000. A perfect correlation is counted as
    if two neighbours were swapped, so that its interval has a width. Students drawn with
    replacement would not do: one that is drawn twice ties with itself, in both columns.

    Args:
        correlation: Spearman's.
        n: students.
    """
    if n < 4 or math.isnan(correlation):
        return None
    most = 1 - 12 / (n * (n * n - 1))
    z = math.atanh(min(max(correlation, -most), most))
    half = NormalDist().inv_cdf(0.975) * math.sqrt((1 + math.tanh(z) ** 2 / 2) / (n - 3))
    return min(math.tanh(z - half), correlation), max(math.tanh(z + half), correlation)


def _estimate(found: Mapping[str, Any]) -> str:
    if found["lo"] is None or found["hi"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['lo']:.3f}, {found['hi']:.3f}]"


def _conditions(asked: argparse.Namespace, record: Mapping[str, Any]) -> str:
    runtime, policy = record["runtime"], record["policy"]
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "onnx", "numpy"))
    return (
        f"{record['device']['cpu']}, {policy['threads']} threads, {runtime['name']} "
        f"{runtime['version']}; edgekd {__version__}, Python {platform.python_version()}, "
        f"{packages}; data {Path(asked.data).name}, {asked.limit} images, 1 epoch"
    )


if __name__ == "__main__":
    main()
