"""Opening a deployed model with its optimised graph kept by an earlier start (goal G15).

    python tools/bench/cold_start.py                      three networks, 224 pixels
    python tools/bench/cold_start.py --networks resnet18
    python tools/bench/cold_start.py --quick              a tiny network, to see that it works

What is timed is the engine of deployed folders for ONNX Runtime, on one thread. ``plain`` and
``null`` have no cache; ``kept`` finds its graph, and notes of the files' hashes; ``hashed`` has to
hash model and graph as well, as the first start after the one that kept it does; ``first`` keeps
it; these two are timed apart, as they write, which lasts. Sessions are opened in this process, in
turn. Then whole processes, that start Python, import ONNX Runtime, open the model and answer once.

Exit code 1: an answer is not that without a cache, to the bit, or the goal is missed: kept / plain
by the CPU's clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pairing import Times, clocks, machine, on_one_core, ratio
from random_networks import pictures, random_network

from edgekd.deploy.bundle import PAYLOAD
from edgekd.export._exporters import EXPORTERS
from edgekd.export._network import reparameterised
from edgekd.export._writing import Draft, write

NETWORKS, QUICK = "mobilenetv3_small_100,resnet18,efficientnet_lite0", "resnet8"
MOST = 0.6
OPSET = 18
SETTLING = 2.5  # seconds until the engine believes a note about a file
NOWHERE = Path(os.devnull)
RUNTIME = {"threads": 1, "spinning": False, "provider": "CPUExecutionProvider"}
CHILD = (
    "import sys; from pathlib import Path; import numpy; from engine_onnxruntime import open_model;"
    f"open_model(Path(sys.argv[1]), {RUNTIME})(numpy.load(sys.argv[2]))"
)
Engine = Callable[[Path, dict[str, Any]], Callable[[Any], Any]]


def main() -> int:
    """Print one block a network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", default="", help=f"unless told: {NETWORKS}")
    parser.add_argument("--rounds", type=int, default=0, help="9, or 2 with --quick")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    names = asked.networks or (QUICK if asked.quick else NETWORKS)
    side, rounds = (32, asked.rounds or 2) if asked.quick else (224, asked.rounds or 9)
    on_one_core()
    print(machine("onnx", "onnxruntime"))
    met = [_network(name, side, rounds, asked.quick) for name in names.split(",")]
    return 0 if all(exact and (fast or asked.quick) for exact, fast in met) else 1


def _network(name: str, side: int, rounds: int, quick: bool) -> tuple[bool, bool]:
    """Export, time and print one; whether answers are the same, and it opens fast enough.

    The quick way is by the older exporter, and waits for no note, so that ``kept`` hashes as well.
    """
    backbone = random_network(name, side)
    with tempfile.TemporaryDirectory() as place, _engine() as open_model:
        folder = Path(place)
        draft = Draft(backbone, reparameterised(backbone.model), backbone.model, OPSET)
        exporters = {"torchscript": EXPORTERS["torchscript"]} if quick else EXPORTERS
        file = write(draft, folder, pictures(backbone.preprocess), exporters=exporters).file
        image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
        np.save(folder / "image.npy", image)
        exact = _same(open_model, file, image, folder, 0 if quick else SETTLING)
        work = _contestants(open_model, file, folder)
        cpu, wall = clocks({name: work[name] for name in ("plain", "kept", "null")}, rounds)
        rare, lasted = clocks({name: work[name] for name in ("plain", "hashed", "first")}, rounds)
        whole, waited = _processes(file, folder, rounds)
    found = statistics.median(a / b for a, b in zip(cpu["kept"], cpu["plain"], strict=True))
    print(f"{name}, {side} px, {rounds} rounds: CPU time, then wall time, by that of plain")
    parts = {"opened": (cpu, wall), "rare": (rare, lasted), "process": (whole, waited)}
    for text, (mine, walls) in parts.items():
        print(f"  {text}, plain {1000 * statistics.median(mine['plain']):.1f} CPU ms")
        for one in list(mine)[1:]:
            print(f"    {one:<8} {ratio(mine, one, 'plain')}  {ratio(walls, one, 'plain')}")
    print(f"  goal <= {MOST:g}x: {'met' if found <= MOST else 'MISSED'}; "
          f"answers {'the same to the bit' if exact else 'DIFFER'}")  # fmt: skip
    return exact, found <= MOST


def _same(open_model: Engine, file: Path, image: Any, folder: Path, settling: float) -> bool:
    """Fill the cache, and compare what is answered without, by the first start, and from it."""
    answers = []
    for cache, pause in ((NOWHERE, 0.0), (folder / "kept", settling), (folder / "kept", 0.0)):
        os.environ["XDG_CACHE_HOME"] = str(cache)
        answers.append(open_model(file, RUNTIME)(image))
        time.sleep(pause)
    graphs = list((folder / "kept").rglob("*.onnx"))
    return len(graphs) == 1 and all(np.array_equal(each, answers[0]) for each in answers)


def _contestants(open_model: Engine, file: Path, folder: Path) -> dict[str, Callable[[], None]]:
    def opened(cache: Path) -> Callable[[], None]:
        def work() -> None:
            os.environ["XDG_CACHE_HOME"] = str(cache)
            open_model(file, RUNTIME)

        return work

    def first() -> None:
        shutil.rmtree(folder / "first", ignore_errors=True)
        opened(folder / "first")()

    def hashed() -> None:
        for note in (folder / "hashed").rglob("*.sha256"):
            note.unlink()
        opened(folder / "hashed")()

    shutil.copytree(folder / "kept", folder / "hashed")
    plain, kept = opened(NOWHERE), opened(folder / "kept")
    return {"plain": plain, "kept": kept, "hashed": hashed, "first": first, "null": opened(NOWHERE)}


def _processes(file: Path, folder: Path, rounds: int) -> tuple[Times, Times]:
    """Seconds of CPU and on the wall, of whole processes; the first round warms up."""
    caches = {"plain": NOWHERE, "kept": folder / "kept", "null": NOWHERE}
    cpu: Times = {name: [] for name in caches}
    wall: Times = {name: [] for name in caches}
    command = [sys.executable, "-c", CHILD, str(file), str(folder / "image.npy")]
    for number in range(rounds + 1):
        for name in list(caches) if number % 2 else reversed(list(caches)):
            env = os.environ | {"XDG_CACHE_HOME": str(caches[name]), "PYTHONPATH": str(PAYLOAD)}
            began, begin = time.perf_counter(), _spent()
            subprocess.run(command, check=True, env=env | {"PYTHONDONTWRITEBYTECODE": "1"})
            cpu[name].append(_spent() - begin)
            wall[name].append(time.perf_counter() - began)
    return ({k: v[1:] for k, v in cpu.items()}, {k: v[1:] for k, v in wall.items()})


def _spent() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _engine() -> Iterator[Engine]:
    """The engine as a deployed folder has it; what it changes in the environment is undone."""
    before = dict(os.environ)
    sys.path.insert(0, str(PAYLOAD))
    try:
        from engine_onnxruntime import open_model

        yield open_model
    finally:
        sys.path.remove(str(PAYLOAD))
        sys.modules.pop("engine_onnxruntime", None)
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
