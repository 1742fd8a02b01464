"""The task ``profile``: look at models, time them, and let them answer the job's images."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from edgekd.agent import facts, states
from edgekd.agent.children import Stage
from edgekd.agent.sweep import sweep

Event = Dict[str, Any]
BUILT = ("trt",)  # runtimes that make something of a model before they can open it
ON_GPU = ("trt",)  # ... and those whose threads do not compute


def profile(stage: Stage) -> Event:
    """Measure models."""
    on_gpu = stage.job["runtime"] in ON_GPU
    before = facts.moment(with_gpus=on_gpu)
    found = _timed(stage)
    after = facts.moment(with_gpus=on_gpu)
    names = [model["name"] for model in stage.job["models"]]
    for index, name in enumerate(names):
        found.update(_more(stage, index, name, found["pin"]["cores"]))
    bench = found["bench"]
    return {
        "warnings": facts.warnings(dict(stage.device), before),
        "moments": {"before": before, "during": bench["during"], "after": after},
        "models": [_model(found, index) for index in range(len(names))],
        "comparisons": bench["comparisons"],
    }


def _timed(stage: Stage) -> Event:
    """Looked at and timed: what decides, while the device is still cool."""
    names = [model["name"] for model in stage.job["models"]]
    found: Event = {}
    if stage.job["runtime"] in BUILT:
        for index, name in enumerate(names):  # apart: building takes memory, and can take the GPU
            _child(stage, [f"prepare:{index}"], [name])
    if len(names) == 1:  # one process is enough: it holds one model
        return _child(stage, ["inspect:0", "bench"], names)
    for index, name in enumerate(names):
        found.update(_child(stage, [f"inspect:{index}"], [name]))
    return {**found, **_child(stage, ["bench"], names)}


def _more(stage: Stage, index: int, name: str, cores: int) -> Event:
    """What was asked for beyond the timing, a process for each; what heats up comes last."""
    policy, found = stage.job["policy"], {}
    if policy.get("energy"):
        found.update(_child(stage, [f"energy:{index}"], [name]))
    if policy.get("sweep") and stage.job["runtime"] not in ON_GPU:
        found[f"sweep:{index}"] = sweep(stage, index, cores)
    if policy.get("sustained_s"):
        found.update(_child(stage, [f"sustained:{index}"], [name]))
    if stage.job.get("images"):
        found.update(_child(stage, [f"accuracy:{index}"], [name]))
    return found


def _child(stage: Stage, steps: Sequence[str], names: Sequence[str]) -> Event:
    """Steps in a process that first goes to the CPUs it is to run on."""
    return stage.child(["pin", *steps], names)


def _model(found: Event, index: int) -> Event:
    bench = found["bench"]
    energy = found.get(f"energy:{index}") or {"energy": None, "reasons": []}
    sustained = found.get(f"sustained:{index}") or {"rows": [], "found": []}
    more: List[states.Finding] = [(state, text) for state, text in sustained["found"]]
    more += [("stable", text) for text in energy["reasons"]]
    return {
        **found[f"inspect:{index}"],
        "affinity": found["pin"]["cpus"],
        "timing": bench["timings"][index],
        "verdict": states.add(bench["verdicts"][index], more),
        "reopened": bench["reopened"],
        "accuracy": found.get(f"accuracy:{index}"),
        "sweep": found.get(f"sweep:{index}"),
        "sustained": sustained["rows"],
        "energy": energy["energy"],
    }
