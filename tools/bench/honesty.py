"""Whether edgekd's own numbers can be believed (goals G16 to G19), on this machine.

    null        the same network against itself, beside 0, 2, 4 and 8 busy processes (G16)
    planted     comparisons with +5 % planted, and with nothing but another name (G18)
    tool        the same file in OpenVINO's benchmark_app, in turn (G19)
    coverage    how often the stated interval holds the long-run median (G17)

Everything goes through ``edgekd.profiling.profile``, as a user's call does. The first two parts
also say what plain medians, one model after the other, would have said. Run it on a machine that
does nothing else: of ``tool`` and ``coverage`` nothing can be said otherwise. The first three take
about 20 minutes, the last as long as ``--spread``.

    python tools/bench/honesty.py [--part null --part planted ...] [--quick]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from direct import cpu_ratio, naive_ratio
from mobile import mobile
from neighbours import busy

from edgekd.devices.local import Local
from edgekd.intervals import Interval
from edgekd.profiling import Policy, profile

NEIGHBOURS = (0, 2, 4, 8)
PLANTED = 0.05
NOTHING = "no difference seen"
PAIR_S = 8.0
"""Most seconds of a comparison's timing; what comes before it takes about one."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    side: int = 224
    repeats: int = 5
    comparisons: int = 20
    naive_runs: int = 500
    rounds: int = 40
    """Of the calibration, each with new sessions, and its runs."""
    runs: int = 60
    pair_s: float = PAIR_S
    alone_s: float = 30.0
    tool_rounds: int = 7
    tool_s: int = 5
    neighbours: tuple[int, ...] = NEIGHBOURS


QUICK = Size(
    side=32,
    repeats=1,
    comparisons=2,
    naive_runs=20,
    rounds=4,
    runs=20,
    pair_s=0.6,
    alone_s=0.6,
    tool_rounds=1,
    tool_s=1,
    neighbours=(0, 1),
)


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--part",
        action="append",
        choices=list(PARTS),
        help="one of them; all but coverage unless given",
    )
    parser.add_argument("--quick", action="store_true", help="a tiny network, and almost no time")
    parser.add_argument("--repeats", type=int, help="null pairs beside each number of neighbours")
    parser.add_argument("--spread", type=float, default=600.0, help="seconds for the coverage")
    beside = Path(sys.executable).with_name("benchmark_app")
    parser.add_argument(
        "--benchmark-app", type=Path, default=beside, help="the program, OpenVINO's"
    )
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size()
    if asked.repeats is not None:
        size = Size(**{**vars(size), "repeats": asked.repeats})
    print(machine())
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        for part in asked.part or ("null", "planted", "tool"):
            print()
            PARTS[part](Path(folder), size, asked)


def machine() -> str:
    """What the figures hold for."""
    return (
        f"onnxruntime {onnxruntime.__version__}, python {sys.version.split()[0]}, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs before the first part; 1 thread"
    )


# ---- G16 ----


def null_pairs(folder: Path, size: Size, asked: argparse.Namespace) -> None:
    """A network, and the same one under another name and hash, beside busy processes.

    ``null`` is the far end of the interval that edgekd states for the model against itself. The
    twin is what it says of two files that are equal without its knowing it.
    """
    one, twin = _network(folder, size, "one"), _network(folder, size, "twin")
    print("| busy | load | median, ms | null, far end | twin seen as | state | claim | s | naive |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in size.neighbours:
        with busy(count):
            time.sleep(min(5.0, size.pair_s))  # the load average follows slowly
            for _ in range(size.repeats):
                print(_null_row(count, one, twin, size), flush=True)


def _null_row(count: int, one: Path, twin: Path, size: Size) -> str:
    naive = naive_ratio(one, twin, size.naive_runs)
    found, seconds = _pair(one, twin, size)
    first, compared = found[0], found[-1]["comparison"]
    return _row(
        count,
        f"{os.getloadavg()[0]:.1f}",
        f"{first['timing']['median']['value']:.2f}",
        _far_end(compared["null"]),
        _off(compared["ratio"]["value"]),
        compared["state"],
        compared["sentence"],
        f"{seconds:.1f}",
        _off(naive),
    )


# ---- G18 ----


def planted(folder: Path, size: Size, asked: argparse.Namespace) -> None:
    """Comparisons of a network with one that is 5 % slower, and with one that is not, in turn."""
    plain = _network(folder, size, "plain")
    twin = _network(folder, size, "twin")
    count, cost = _calibrate(folder, size)
    slower = _network(folder, size, "slower", count)
    print(
        f"Planted: {count} extra operators, {_off(cost.value)} [{_off(cost.lo)}, {_off(cost.hi)}] "
        f"of CPU time over {size.rounds} rounds, measured apart from edgekd."
    )
    print()
    seen: dict[str, list[_Seen]] = {"planted +5 %": [], "0 %": []}
    for turn in range(size.comparisons):
        pairs = [("planted +5 %", slower), ("0 %", twin)]
        for name, other in pairs if turn % 2 else reversed(pairs):
            found, seconds = _pair(plain, other, size)
            compared = found[-1]["comparison"]
            naive = naive_ratio(plain, other, size.naive_runs)
            seen[name].append(_Seen(compared, seconds, naive))
            print(f"{turn}, {name}: {compared['sentence']}", file=sys.stderr, flush=True)
    print(
        "| comparison | n | said slower | said faster | no difference | of them unstable | "
        "ratio, median [range] | null, far end | s a pair, median (max) | naive |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, those in seen.items():
        print(_seen_row(name, those))


def _calibrate(folder: Path, size: Size) -> tuple[int, Interval]:
    """As many extra operators as cost 5 %, and what they do cost, by CPU time and not by edgekd."""
    plain, count = _network(folder, size, "plain"), 8
    for _ in range(4):
        cost = cpu_ratio(plain, _network(folder, size, "tried", count), size.rounds, size.runs)
        wanted = max(round(count * PLANTED / max(cost.value - 1, 0.005)), 1)
        if wanted == count:
            break
        count = wanted
    return count, cpu_ratio(plain, _network(folder, size, "tried", count), size.rounds, size.runs)


@dataclass(frozen=True)
class _Seen:
    """One comparison: what edgekd said, in how many seconds, and what the naive way would say."""

    compared: dict[str, Any]
    seconds: float
    naive: float


def _seen_row(name: str, those: Sequence[_Seen]) -> str:
    said = [one.compared["sentence"] for one in those]
    ratios = [one.compared["ratio"]["value"] for one in those]
    seconds = [one.seconds for one in those]
    naive = [one.naive for one in those]
    nulls = [_far(one.compared["null"]) for one in those]
    return _row(
        name,
        len(those),
        sum("slower" in text for text in said),
        sum("faster" in text for text in said),
        said.count(NOTHING),
        sum(one.compared["state"] != "stable" for one in those),
        f"{_off(statistics.median(ratios))} [{_off(min(ratios))}, {_off(max(ratios))}]",
        f"{100 * statistics.median(nulls):.1f} % (max {100 * max(nulls):.1f} %)",
        f"{statistics.median(seconds):.1f} ({max(seconds):.1f})",
        f"[{_off(min(naive))}, {_off(max(naive))}]",
    )


# ---- G19 ----


def other_tool(folder: Path, size: Size, asked: argparse.Namespace) -> None:
    """OpenVINO's benchmark_app and ``edgekd profile --runtime openvino``, in turn.

    Both state the median of all runs of a process, so the rounds' medians are compared. The windows
    are not quite the same: benchmark_app repeats one input and reads OpenVINO's own clock inside
    the call, edgekd cycles through eight and stands outside of it. Of a 2 ms network these are
    0.9 % each (measured on one machine).
    """
    if not asked.benchmark_app.is_file():
        sys.exit(
            f"there is no {asked.benchmark_app}. pip install openvino into an environment of its "
            "own, and give --benchmark-app ENVIRONMENT/bin/benchmark_app."
        )
    model = _network(folder, size, "plain")
    policy = _policy(size, runtime="openvino", max_seconds=max(size.tool_s, 2.0))
    found: dict[str, list[float]] = {"edgekd": [], "benchmark_app": []}
    states = []
    for number in range(size.tool_rounds):
        for name in list(found) if number % 2 else reversed(list(found)):
            if name == "edgekd":
                (record,) = profile([model], Local(), policy)
                found[name].append(record["timing"]["median"]["value"])
                states.append(record["verdict"]["state"])
            else:
                found[name].append(_benchmark_app(asked.benchmark_app, model, size.tool_s))
    ratios = [a / b for a, b in zip(found["edgekd"], found["benchmark_app"], strict=True)]
    print("| rounds | load | edgekd, ms | benchmark_app, ms | edgekd / benchmark_app | verdicts |")
    print("|---|---|---|---|---|---|")
    print(
        _row(
            size.tool_rounds,
            f"{os.getloadavg()[0]:.1f}",
            *(f"{statistics.median(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for v in found.values()),
            f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]",
            ", ".join(sorted(set(states))),
        )
    )


def _benchmark_app(program: Path, model: Path, seconds: int) -> float:
    """Its median in ms; it prints two digits after the point."""
    options = "-hint none -nthreads 1 -nstreams 1 -api sync -infer_precision f32 -d CPU"
    command = [str(program), "-m", str(model), *options.split(), "-t", str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Median: +([\d.]+) (ms|us)", said)
    if found is None:
        sys.exit(f"{program} printed no median: {said[-500:]}")
    return float(found[1]) / (1 if found[2] == "ms" else 1000)


# ---- G17 ----


def coverage(folder: Path, size: Size, asked: argparse.Namespace) -> None:
    """Repeats of one measurement: how many of their intervals hold the median of them all."""
    model = _network(folder, size, "plain")
    policy = _policy(size, max_seconds=size.alone_s)
    pause = asked.spread / size.comparisons
    found = []
    for _ in range(size.comparisons):
        began = time.monotonic()
        (record,) = profile([model], Local(), policy)
        found.append(record)
        time.sleep(max(0.0, pause - (time.monotonic() - began)))
    print("| median of | repeats | long-run median, ms | intervals that hold it | width, median |")
    print("|---|---|---|---|---|")
    for name in ("median", "median_undisturbed"):
        those = [r["timing"][name] for r in found if r["timing"][name]["lo"] is not None]
        if not those:
            continue
        middle = statistics.median(one["value"] for one in those)
        held = sum(one["lo"] <= middle <= one["hi"] for one in those)
        width = statistics.median((one["hi"] - one["lo"]) / 2 / one["value"] for one in those)
        runs = "all runs" if name == "median" else "undisturbed runs"
        print(_row(runs, len(those), f"{middle:.3f}", held, f"+-{100 * width:.1f} %"))
    states = [record["verdict"]["state"] for record in found]
    print(f"Verdicts: {', '.join(f'{states.count(s)} {s}' for s in sorted(set(states)))}.")


# ---- measuring ----


def _policy(size: Size, **more: Any) -> Policy:
    quick: dict[str, Any] = {}
    if size.side < Size.side:
        quick = {"warmup_seconds": 0.02, "block_seconds": 0.02, "min_seconds": 0.1}
    return Policy(**{"threads": 1, **quick, **more})


def _pair(a: Path, b: Path, size: Size) -> tuple[list[dict[str, Any]], float]:
    """The records of a comparison, and the seconds that the whole call took."""
    began = time.monotonic()
    found = profile([a, b], Local(), _policy(size, max_seconds=size.pair_s))
    return found, time.monotonic() - began


def _network(folder: Path, size: Size, name: str, extra: int = 0) -> Path:
    return mobile(folder / f"{name}.onnx", size.side, extra, name)


# ---- printing ----


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _off(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _far(estimate: dict[str, Any]) -> float:
    return max(float(estimate["hi"]) - 1, 1 - float(estimate["lo"]))


def _far_end(estimate: dict[str, Any]) -> str:
    return f"{100 * _far(estimate):.1f} %"


PARTS: dict[str, Callable[[Path, Size, argparse.Namespace], None]] = {
    "null": null_pairs,
    "planted": planted,
    "tool": other_tool,
    "coverage": coverage,
}

if __name__ == "__main__":
    main()
