"""What ran where inside a model: its layers by time, and its providers by nodes and by time."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from edgekd.agent.job import Job, Model
from edgekd.agent.runtimes import Arrays, Layer


def layers_of(job: Job, model: Model, feed: Arrays) -> List[Layer]:
    """The nodes that ran; only looked for where asked, or where there may be two providers."""
    if job.on_cpu and not job.policy.get("layers"):
        return []
    runtime, options = job.loaded_runtime(), job.options()
    return runtime.layers(runtime.prepare(model.path, options), options, feed)


def shares(layers: Sequence[Layer], provider: str) -> Dict[str, Dict[str, float]]:
    """``node_share`` and ``time_share`` of each provider; a CPU's own can have no other beside it.

    They differ where it matters: a tenth of the nodes, fallen back to the CPU, can be most of the
    time.
    """
    if not layers:
        return {"node_share": {provider: 1.0}, "time_share": {provider: 1.0}}
    total = sum(layer.ms for layer in layers) or 1.0
    found: Dict[str, Dict[str, float]] = {"node_share": {}, "time_share": {}}
    for name in sorted({layer.provider for layer in layers}):
        own = [layer.ms for layer in layers if layer.provider == name]
        found["node_share"][name] = len(own) / len(layers)
        found["time_share"][name] = sum(own) / total
    return found


def table(layers: Sequence[Layer]) -> List[Dict[str, Any]]:
    """Rows for the record, in the order they ran; their shares add up to 100 %."""
    total = sum(layer.ms for layer in layers) or 1.0
    return [
        {"name": layer.name, "type": layer.type, "ms": layer.ms, "pct": 100 * layer.ms / total}
        for layer in layers
    ]
