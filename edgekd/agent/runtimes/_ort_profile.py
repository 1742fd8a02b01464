"""ONNX Runtime's profile of a session: how long each node of the optimised graph took a run."""

from __future__ import annotations

from statistics import median
from typing import Any, Dict, List, Sequence, Tuple

from edgekd.agent.runtimes import Layer

KERNEL = "_kernel_time"
COLD = 2  # runs that are left out: the first took ten times as long in some nodes (measured)
HOLDERS = ("If", "Loop", "Scan")  # nodes whose time is that of other nodes, which are listed too

Event = Dict[str, Any]
Key = Tuple[str, str]


def layers_of(events: Sequence[Event]) -> List[Layer]:
    """Each node's median time over the warm runs, in the order they ran.

    The median, because one run that the system interrupted would double a mean. What a loop runs
    several times counts as often, and the loop itself only with what is left of its own.
    """
    runs = _runs(events)
    spent: Dict[Key, List[float]] = {}
    about: Dict[Key, Event] = {}
    for number, run in enumerate(runs[COLD:] or runs):
        for event, own in zip(run, _own(run)):
            key = str(event["name"])[: -len(KERNEL)], str(event["args"].get("op_name", ""))
            each = spent.setdefault(key, [])
            each.extend([0.0] * (number + 1 - len(each)))  # zeros for runs without this node
            each[number] += own
            about[key] = event["args"]
    count = len(runs[COLD:] or runs)
    return [
        Layer(name, kind, str(about[name, kind].get("provider", "")), _ms(us, count))
        for (name, kind), us in spent.items()
    ]


def _runs(events: Sequence[Event]) -> List[List[Event]]:
    """The nodes of each run; a run's own event comes after those of its nodes."""
    runs: List[List[Event]] = [[]]
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            runs[-1].append(event)
        elif name == "model_run":
            runs.append([])
    return [run for run in runs if run]


def _own(run: Sequence[Event]) -> List[float]:
    """Each event's time in us without that of the events inside it."""
    own = [float(event["dur"]) for event in run]
    holders = [i for i, event in enumerate(run) if event["args"].get("op_name") in HOLDERS]
    for inner, event in enumerate(run):
        around = [i for i in holders if i != inner and _inside(event, run[i])]
        if around:  # taken from the closest one, as that is taken from the next
            own[min(around, key=lambda i: float(run[i]["dur"]))] -= float(event["dur"])
    return [max(value, 0.0) for value in own]


def _inside(event: Event, other: Event) -> bool:
    start, end = float(other["ts"]), float(other["ts"]) + float(other["dur"])
    return start <= float(event["ts"]) and float(event["ts"]) + float(event["dur"]) <= end


def _ms(us: Sequence[float], runs: int) -> float:
    return median([*us, *[0.0] * (runs - len(us))]) / 1000
