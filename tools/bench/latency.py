"""Latency of an exported network in ONNX Runtime beside PyTorch's own, batch 1 (goal G11).

    python tools/bench/latency.py                      mobile networks and a ResNet-18, 224 pixels
    python tools/bench/latency.py --networks resnet18
    python tools/bench/latency.py --quick              tiny networks, to see that it works

Both take normalised float32 and run on one thread; ONNX Runtime with all its graph optimisations,
PyTorch eagerly, in inference mode. ``null`` is a second session of the same file. They run in
turn, with sessions opened anew in each round, as where one lies in memory moves its time by a
percent or two. The wall's clock counts runs that nobody interrupted: no involuntary switch, and at
most 5 % longer than the CPU worked.

Exit code 1: the file is not the network to 1e-5 of the largest logit, or a goal is missed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from pairing import machine, on_one_core, ratio
from random_networks import pictures, random_network

from edgekd.export._network import reparameterised
from edgekd.export._writing import Draft, write
from edgekd.models import Backbone

NETWORKS = "mobilenetv3_small_100,mobilenetv4_conv_small,efficientnet_lite0,resnet18"
QUICK = "resnet8,mobilenetv2_cifar"
GOALS = {"resnet18": 0.7}
"""Of eager PyTorch's CPU time; 0.4 for all others, which are of mobile kind."""
MOBILE, MOST_ERROR = 0.4, 1e-5
WARM = 10
"""Runs of each round that are not counted."""
OPSET = 18


class Taken(NamedTuple):
    """Seconds of one run, or the median of several."""

    cpu: float
    wall: float


def main() -> int:
    """Print one block a network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", default="", help=f"unless told: {NETWORKS}")
    parser.add_argument("--size", type=int, default=0, help="pixels; 224, or 32 with --quick")
    parser.add_argument("--rounds", type=int, default=0, help="9, or 2 with --quick")
    parser.add_argument("--runs", type=int, default=0, help="of a round; 60, or 5 with --quick")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    names = asked.networks or (QUICK if asked.quick else NETWORKS)
    side = asked.size or (32 if asked.quick else 224)
    rounds, runs = (2, 5) if asked.quick else (9, 60)
    rounds, runs = asked.rounds or rounds, asked.runs or runs
    on_one_core()
    print(machine("timm", "onnx", "onnxruntime"))
    met = [_network(random_network(name, side), rounds, runs) for name in names.split(",")]
    return 0 if all(exact and (fast or asked.quick) for exact, fast in met) else 1


def _network(backbone: Backbone, rounds: int, runs: int) -> tuple[bool, bool]:
    """Export, time and print one; whether it is exact, and as fast as it should be."""
    with tempfile.TemporaryDirectory() as name:
        graph = reparameterised(backbone.model)
        draft = Draft(backbone, graph, backbone.model, OPSET, float_input=True)
        written = write(draft, Path(name), pictures(backbone.preprocess))
        with torch.inference_mode():
            cpu, wall, kept = timed(backbone, written.file, rounds, runs)
    error, goal = written.record["parity"]["max_relative"], GOALS.get(backbone.name, MOBILE)
    found = statistics.median(a / b for a, b in zip(cpu["file"], cpu["eager"], strict=True))
    exact, fast = error <= MOST_ERROR, found <= goal
    side, nodes = backbone.preprocess.size[0], sum(written.record["nodes"].values())
    print(
        f"{backbone.name}, {side} px, {nodes} nodes: eager "
        f"{1000 * statistics.median(cpu['eager']):.2f} CPU ms, "
        f"file {1000 * statistics.median(cpu['file']):.2f}, {rounds} rounds of {runs} runs"
    )
    print(f"  {'':<14} CPU time               wall time of {kept:.0%} of the runs, undisturbed")
    for text, one, other in (("file / eager", "file", "eager"), ("null", "null", "file")):
        walled = ratio(wall, one, other) if wall else "n/a"
        print(f"  {text:<14} {ratio(cpu, one, other)}  {walled}")
    print(f"  goal <= {goal:g}x: {'met' if fast else 'MISSED'}; largest difference {error:.1e} of "
          f"the largest logit, <= {MOST_ERROR:g}: {'met' if exact else 'MISSED'}")  # fmt: skip
    return exact, fast


def timed(
    backbone: Backbone, file: Path, rounds: int, runs: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], float]:
    """Medians of each round, by name: CPU seconds; seconds on the wall; share of runs in these.

    Where some round has no undisturbed run of some kind, there are no times on the wall.
    """
    side = backbone.preprocess.size[0]
    image = torch.randn(1, 3, side, side)
    cpu, wall = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    kept, whole = 0, True
    for _ in range(rounds):
        work = _contestants(backbone, file, image)
        for name, (every, clean) in _round(work, runs).items():
            cpu[name].append(statistics.median(run.cpu for run in every))
            kept, whole = kept + len(clean), whole and bool(clean)
            if clean:
                wall[name].append(statistics.median(run.wall for run in clean))
    return cpu, wall if whole else {}, kept / (3 * rounds * runs)


def _contestants(
    backbone: Backbone, file: Path, image: torch.Tensor
) -> Mapping[str, Callable[[], object]]:
    first, second, fed = _session(file), _session(file), {"input": image.numpy()}
    return {
        "file": lambda: first.run(None, fed),
        "eager": lambda: backbone.model(image),
        "null": lambda: second.run(None, fed),
    }


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _round(
    work: Mapping[str, Callable[[], object]], runs: int
) -> dict[str, tuple[list[Taken], list[Taken]]]:
    """All runs of each, and those that nobody interrupted; in turn, the order flipped each time."""
    taken: dict[str, tuple[list[Taken], list[Taken]]] = {name: ([], []) for name in work}
    for number in range(WARM + runs):
        for name in list(work) if number % 2 else reversed(list(work)):
            switched = _switches()
            began, begin = time.perf_counter(), time.process_time()
            work[name]()
            cpu, wall = time.process_time() - begin, time.perf_counter() - began
            if number < WARM:
                continue
            taken[name][0].append(Taken(cpu, wall))
            if _switches() == switched and wall <= 1.05 * cpu:
                taken[name][1].append(Taken(cpu, wall))
    return taken


def _switches() -> int:
    """How often this process had to make way for another."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


if __name__ == "__main__":
    sys.exit(main())
