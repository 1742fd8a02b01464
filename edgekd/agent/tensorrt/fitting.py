"""The engine to run for a model that is to be measured: the one given if it fits, or one built."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import read_onnx
from edgekd.agent.tensorrt import cache, probe, timing
from edgekd.agent.tensorrt.inspector import fits
from edgekd.agent.tensorrt.makers import Bindings, Maker
from edgekd.agent.tensorrt.making import make
from edgekd.agent.tensorrt.spec import SHARE, Batch, BuildSpec


@dataclass(frozen=True)
class Fitting:
    """What is run for a model."""

    plan: Path
    reason: Optional[str] = None
    """Why it is not the engine that was given; None if it is, or a graph was given."""

    def to_dict(self) -> Dict[str, Any]:
        """For the record: which engine this is, whatever was given. JSON."""
        data, side = self.plan.read_bytes(), cache.read_side(self.plan) or {}
        found = side.get("inspection") or {}
        return {
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_bytes": len(data),
            "precision": found.get("label"),
            "shares": found.get("shares"),
            "key": side.get("key"),
            "rebuilt": self.reason,
        }


def fitting(model: Path, options: Mapping[str, Any]) -> Fitting:
    """The engine to run for a model, built if there is none that fits this device.

    Args:
        model: an ``.onnx`` file, or a ``.plan`` with its ``.onnx`` file beside it.
        options: ``batch_size``; and ``precision``, where an ONNX file's own is not meant.

    Raises:
        AgentError: there is none, and none can be built.
    """
    maker = Bindings(probe.load())  # trtexec could build it, and would not run it
    size = int(options.get("batch_size", 1))
    if model.suffix == ".onnx":
        graph = read_onnx(model)
        precision = str(options.get("precision") or graph.precision)
        batch = Batch(1, size, max(size, Batch().most))
        spec = BuildSpec(model, precision, batch=batch, share=0, timing_cache=timing.cache_folder())
        return Fitting(make(spec, graph.metadata, maker).plan)
    side = cache.read_side(model)
    spec_kept = None if side is None else _spec_of(side, model.with_suffix(".onnx"))
    if side is None or spec_kept is None:  # an engine made elsewhere; loading it will tell
        return Fitting(model)
    return _renewed(model, side, spec_kept, size, maker)


def _renewed(
    model: Path, side: Mapping[str, Any], spec: BuildSpec, size: int, maker: Maker
) -> Fitting:
    """The given engine if it fits, else one built from the graph beside it."""
    kept: Dict[str, Any] = side["key"]
    wider = _reason_of_batch(spec.batch, size)
    if wider:
        batch = Batch(min(spec.batch.least, size), size, max(spec.batch.most, size))
        spec = replace(spec, batch=batch)
    wanted = cache.key_of(spec, maker.place())
    wanted["builder"] = kept.get("builder")  # it was given to be measured, however it was made
    if not spec.onnx.is_file():
        wanted["onnx"] = kept.get("onnx")  # it cannot be compared, and is not needed if all fits
    reason = wider or cache.mismatch(kept, wanted)
    if reason is None:
        return Fitting(model)
    if not spec.onnx.is_file():
        raise AgentError(
            "model",
            f"{model.name} does not fit: {reason}. It cannot be built again, as {spec.onnx.name} "
            "is not beside it. Give the whole artifact, or export it for this device.",
        )
    return Fitting(make(spec, side.get("metadata") or {}, maker, reason).plan, reason)


def _reason_of_batch(batch: Batch, size: int) -> Optional[str]:
    if batch.holds(size):
        return None
    return f"batch {size} asked for, the engine takes {batch.least} to {batch.most}"


def _spec_of(side: Mapping[str, Any], onnx: Path) -> Optional[BuildSpec]:
    """What an engine was built as; None where what lies beside it does not say.

    One that had its precision has to have it again.
    """
    options = side["key"]["options"]
    try:
        spec = BuildSpec.from_job({**options, "onnx": onnx.name, "share": 0}, onnx.parent)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    kept = fits(side["inspection"], spec.precision, SHARE)
    return replace(spec, share=SHARE if kept else 0)
