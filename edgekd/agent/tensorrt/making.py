"""From a spec to an engine that is known: found in the cache, or built, looked into and kept."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import OnnxFile, read_onnx
from edgekd.agent.tensorrt import cache
from edgekd.agent.tensorrt.inspector import UNKNOWN, check, fits, inspect
from edgekd.agent.tensorrt.makers import Made, Maker, here
from edgekd.agent.tensorrt.readable import check_readable
from edgekd.agent.tensorrt.spec import BuildSpec

log = logging.getLogger("edgekd.agent")
"""Its lines become the agent's events."""


@dataclass(frozen=True)
class Engine:
    """An engine on this device, its layers read."""

    plan: Path
    side: Mapping[str, Any]
    """``key``, ``metadata``, ``inspection``, ``typed``, ``seconds``, ``timing_cache``,
    ``maker``."""
    built: bool
    """False if it was there already."""


def make(
    spec: BuildSpec,
    metadata: Mapping[str, str],
    maker: Optional[Maker] = None,
    reason: Optional[str] = None,
) -> Engine:
    """Find or build an engine.

    Args:
        spec: what is wanted.
        metadata: what the ONNX file says of itself, kept beside the engine, which has no room.
        maker: what builds; what is here, unless given.
        reason: why another engine does not do, where that is known.

    Raises:
        AgentError: see :meth:`edgekd.agent.tensorrt.makers.Maker.make`; or it is in another
            precision, or this release would misread the graph.
    """
    maker = maker or here()
    place = maker.place()
    key = cache.key_of(spec, place)
    plan = cache.plan_file(spec.onnx, key)
    side = cache.read_side(plan) if plan.is_file() else None
    # one that was built to be timed, whatever came of it, is not one that was asked to be so
    if side is not None and fits(side["inspection"], spec.precision, spec.share):
        _used(plan)
        return Engine(plan, side, built=False)
    graph = read_onnx(spec.onnx)
    check_readable(spec.onnx.name, graph, place.tensorrt)
    reason = reason or cache.nearest_reason(spec.onnx, key)
    log.info("%s", f"{reason}: building it again" if reason else f"building {plan.name}")
    made = maker.make(spec, place)
    found = inspect(made.layers, _hidden_precision(made, graph, spec), graph.multiplications)
    check(found, spec.precision, spec.share)
    side = {
        "key": key,
        "metadata": dict(metadata),
        "inspection": found.to_dict(),
        "typed": made.typed,
        "seconds": round(made.seconds, 3),
        "timing_cache": made.timing_cache,
        "maker": maker.name,
    }
    _keep(plan, made.data, side)
    return Engine(plan, side, built=True)


def _hidden_precision(made: Made, graph: OnnxFile, spec: BuildSpec) -> str:
    """The precision inside of nodes that the inspector does not look into.

    A strongly typed network has its graph's; one that was permitted nothing has float32. Otherwise
    only TensorRT knows.
    """
    if made.typed:
        return graph.types
    plain = spec.precision == "fp32" and graph.types == "fp32" and "FLOAT16" not in graph.weights
    return "fp32" if plain else UNKNOWN


def _used(plan: Path) -> None:
    """Engines that nobody uses are removed after a while, by their time."""
    with suppress(OSError):
        for file in (plan, cache.side_file(plan)):
            os.utime(file)


def _keep(plan: Path, data: bytes, side: Mapping[str, Any]) -> None:
    try:
        cache.keep_plan(plan, data, side)
    except OSError as error:
        raise AgentError(
            "output",
            f"the engine of {len(data) / 2**20:.1f} MiB cannot be written to {plan.parent} "
            f"({error}). Make room on the device's disk, or make that folder writable.",
        ) from error
