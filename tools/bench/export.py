"""What fp16 and int8 give and cost on this machine: size, latency beside fp32, accuracy.

    python tools/bench/export.py runs/r8 runs/mobilenet --data cifar10-jpeg
    python tools/bench/export.py --merged mobileone_s0      branches merged against as trained
    python tools/bench/export.py --quick                    a tiny network on digits

Each network is exported three times and timed in turn by the agent, beside a null pair (fp32
against itself). Accuracy is that of the file on the validation images, paired with the float
network's; the gate is opened wide, so that a loss is shown and not refused. Then comes what
``--precision auto`` decides with the gate as it ships.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from random_networks import pictures, random_network

from edgekd.artifact import Artifact
from edgekd.export._network import reparameterised
from edgekd.export._writing import Draft, write
from edgekd.flow.exporting import export_network, recipe_of
from edgekd.flow.measuring import measure
from edgekd.flow.training import teach
from edgekd.profiling import Policy
from edgekd.recipe import Export, recipe_from

PRECISIONS = ("fp32", "fp16", "int8")
HEAD = (
    "| network | precision | size | time over fp32 [95 %] | top-1, points [95 %] | same answers |"
)
WIDE = 0.9
QUICK: Mapping[str, Any] = {
    "data": {"source": "digits", "size": 16, "limit": 300},
    "teacher": {"name": "resnet8"},
    "teach": {"epochs": 2, "batch_size": 32},
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("artifacts", nargs="*", type=Path)
    parser.add_argument("--data", help="instead of what the networks were trained on")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing, at most")
    parser.add_argument("--merged", metavar="NAME", help="a timm network with training branches")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.merged:
            _merging(asked.merged, folder, asked.seconds)
            return
        if asked.quick:
            asked.artifacts, asked.seconds = [_tiny(folder)], 0.5
        print(f"{HEAD}\n|{'---|' * 6}")
        for path in asked.artifacts:
            _network(Artifact.open(path), folder, asked)


def _network(network: Artifact, folder: Path, asked: argparse.Namespace) -> None:
    recipe = recipe_of(network)
    data = replace(recipe.data, source=asked.data) if asked.data else recipe.data
    options = Export(max_drop=WIDE, repair="none")
    made = {
        precision: export_network(
            network,
            folder / f"{network.path.name}-{precision}",
            replace(options, precision=precision),
            data,
        )
        for precision in PRECISIONS
    }
    records = _timed([one.path for one in made.values()], asked.seconds)
    compared = [record["comparison"] for record in records if "comparison" in record]
    ratios = [None, *(found["ratio"] for found in compared)]
    for (precision, one), ratio in zip(made.items(), ratios, strict=True):
        print(_row(network.manifest["model"]["name"], precision, one.manifest["export"], ratio))
    print(f"| null pair | fp32 | | {_ratio(compared[0]['null'])} | | |")
    auto = Export(precision="auto", repair="post", max_drop=WIDE if asked.quick else 0.01)
    chosen = export_network(network, folder / f"{network.path.name}-auto", auto, data)
    for reason in chosen.manifest["export"]["auto"]["reasons"]:
        print(f"| auto | {reason} | | | | |", flush=True)


def _row(name: str, precision: str, export: Mapping[str, Any], ratio: Any) -> str:
    verdict = export["verdict"]
    low, high = (100 * end for end in verdict["delta_interval"])
    delta = f"{100 * verdict['delta']:+.2f} [{low:+.2f}, {high:+.2f}], n = {verdict['n']}"
    agree = f"{verdict['top1_agreement']:.2%}"
    size = f"{export['bytes'] / 1e6:.2f} MB"
    return f"| {name} | {precision} | {size} | {_ratio(ratio)} | {delta} | {agree} |"


def _ratio(found: Mapping[str, Any] | None) -> str:
    return "1" if found is None else f"{found['value']:.3f}x [{found['lo']:.3f}, {found['hi']:.3f}]"


def _timed(models: list[Path], seconds: float) -> list[dict[str, Any]]:
    return measure(models, Policy(threads=1, max_seconds=seconds))


def _merging(name: str, folder: Path, seconds: float) -> None:
    """A network with training-time branches, written as it was trained and with them merged."""
    backbone = random_network(name, 224)
    network, pixels = backbone.model, pictures(backbone.preprocess)
    files = []
    for graph, place in ((network, "branches"), (reparameterised(network), "merged")):
        (folder / place).mkdir()
        written = write(Draft(backbone, graph, network, 18), folder / place, pixels)
        parity = written.record["parity"]
        print(
            f"{place}: {sum(written.record['nodes'].values())} nodes, largest difference "
            f"{parity['max_relative']:.1e} of the largest logit"
        )
        files.append(written.file)
    (found,) = [r["comparison"] for r in _timed(files, seconds) if "comparison" in r]
    print(f"merged over branches: {_ratio(found['ratio'])}; null {_ratio(found['null'])}")


def _tiny(folder: Path) -> Path:
    return teach(recipe_from(dict(QUICK)), folder / "tiny").path


if __name__ == "__main__":
    main()
