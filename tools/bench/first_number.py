"""How long a person waits for a number, beyond the measuring itself, of a model known already.

    python tools/bench/first_number.py [--rounds 7]
    python tools/bench/first_number.py --device ssh://user@board

Unless a device is named, it is this machine behind an OpenSSH server of its own, whose Python has
numpy and ONNX Runtime only. The first `edgekd profile` sends agent, model and photographs; later
ones find them there (goals: under 3 s, under 20 kB sent). In turn with them comes ``local``, twice:
the same without a link, and against itself. From the time of the whole command are taken the timed
runs and the second that a warm-up lasts at least; a warm-up that takes longer counts as waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).parents[2]
EDGEKD = str(Path(sys.executable).with_name("edgekd"))
SECONDS = "2"
MOST_S, MOST_BYTES = 3.0, 20_000

Sent = Callable[[], int]
"""Bytes that went to the device so far."""


def main() -> int:
    """Print seconds and bytes; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="an address, or a name of edgekd device list")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = run_path(str(ROOT / "tests/agent/tiny_models.py"))["classifier"](folder / "m.onnx")
        if asked.device:
            return _report(model, asked.device, lambda: 0, asked.rounds)
        with loopback(folder) as (device, sent):
            return _report(model, device, sent, asked.rounds)


@contextmanager
def loopback(folder: Path) -> Iterator[tuple[str, Sent]]:
    """A device behind a real server, and what counts the bytes on the way to it."""
    sys.path.insert(0, str(ROOT))  # tests are no part of the package
    import pytest

    from tests.edge_env import Edge, make_environment
    from tests.proxy import proxied
    from tests.sshd import serving

    (folder / "sshd").mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(folder / "sshd") as server,
        proxied(server.port) as proxy,
    ):
        through = replace(server, port=proxy.port)
        through.know(through.public("host"))
        through.use("mine", patch)
        yield Edge(through, make_environment(folder / "edge")).address, lambda: proxy.sent


def _report(model: Path, device: str, sent: Sent, rounds: int) -> int:
    first, first_bytes = _waited(model, device), sent()
    places = {"device": device, "local": "local", "local again": "local"}
    waited: dict[str, list[float]] = {name: [] for name in places}
    later_bytes = []
    for number in range(rounds):
        for name in list(places) if number % 2 else reversed(list(places)):
            before = sent()
            waited[name].append(_waited(model, places[name]))
            if name == "device":
                later_bytes.append(sent() - before)
    load, cpus = os.getloadavg()[0], os.cpu_count()
    print(f"python {platform.python_version()}, load {load:.1f} on {cpus} CPUs; seconds beyond")
    print(f"  {'device, first':<14} {first:.2f}")
    for name, seconds in waited.items():
        spread = f"{statistics.median(seconds):.2f} [{min(seconds):.2f}, {max(seconds):.2f}]"
        print(f"  {name:<14} {spread}")
    met = statistics.median(waited["device"]) < MOST_S
    if first_bytes:
        print(f"bytes sent: {first_bytes:,} the first time, then at most {max(later_bytes):,}")
        met = met and max(later_bytes) < MOST_BYTES
    print(f"goals < {MOST_S:g} s and < {MOST_BYTES:,} bytes: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _waited(model: Path, device: str) -> float:
    """Seconds of one command that were not spent on measuring."""
    command = [EDGEKD, "profile", str(model), "--device", device, "--max-seconds", SECONDS]
    began = time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    whole = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    (record,) = json.loads(done.stdout)
    warmup: float = record["evidence"]["asked"]["warmup_seconds"]
    timed: float = record["timing"]["seconds"]
    return whole - timed - warmup


if __name__ == "__main__":
    sys.exit(main())
