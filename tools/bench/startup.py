"""CPU time of ``edgekd --help`` against an empty Python, in turn (goals G21 and G22).

Modules are compiled once, in the round that is thrown away, as pip leaves them after installing.

    python tools/bench/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "edgekd --help": [str(Path(sys.executable).with_name("edgekd")), "--help"],
    "edgekd list method": [str(Path(sys.executable).with_name("edgekd")), "list", "method"],
    "null": [sys.executable, "-c", "pass"],
}
MOST_RATIO, MOST_MS = 6.0, 60.0


def main() -> int:
    """Print medians and spreads; exit 1 if ``--help`` misses a goal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    taken = _measure(asked.rounds)
    load, cpus = os.getloadavg()[0], os.cpu_count()
    print(f"python {platform.python_version()}, load {load:.1f} on {cpus} CPUs, user + system time")
    for name, times in taken.items():
        print(f"  {name:<20} {_spread(times, 'ms'):<30} {_spread(_ratios(taken, name), 'x')}")
    found = statistics.median(_ratios(taken, "edgekd --help"))
    cpu = statistics.median(taken["edgekd --help"])
    met = found <= MOST_RATIO and cpu <= MOST_MS
    print(f"goals <= {MOST_RATIO:g}x and <= {MOST_MS:g} ms: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each command, once a round; every second round runs backwards."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as compiled:
        here = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        here["PYTHONPYCACHEPREFIX"] = compiled
        for number in range(rounds + 1):
            for name in list(COMMANDS) if number % 2 else reversed(list(COMMANDS)):
                taken[name].append(_cpu_ms(COMMANDS[name], here))
    return {name: times[1:] for name, times in taken.items()}


def _cpu_ms(command: list[str], env: dict[str, str]) -> float:
    """CPU time of a child and of what it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def _ratios(taken: dict[str, list[float]], name: str) -> list[float]:
    """Round by round, so that a drifting machine drifts for both."""
    floor = taken["python -c pass"]
    return [a / b for a, b in zip(taken[name], floor, strict=True)]


def _spread(values: list[float], unit: str) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):6.1f} {unit} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
