"""Stages of an explanation that compare values: float file, reduced file, fused kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from edgekd.data import Pixels
from edgekd.export._explaining.blame import MOVERS, first_of, spots_of, worst_of
from edgekd.export._explaining.levels import against_file, against_network
from edgekd.export._explaining.reasons import reason_for
from edgekd.export._explaining.stages import EXPORT, LEAST_DB, RUNTIME, Spot, Stage
from edgekd.export._explaining.steps import counterparts, steps_of
from edgekd.export._explaining.tensors import Shown
from edgekd.export._parity import CAP_DB, Logits, snr_db
from edgekd.export._running import run_file
from edgekd.export._suspects import normalised
from edgekd.preprocess import Preprocess

__all__ = ["Case", "Found", "export_stage", "reduced_stage", "runtime_stage"]


@dataclass(frozen=True)
class Case:
    """What is looked into."""

    network: nn.Module
    preprocess: Preprocess
    pixels: Pixels
    file: Path
    kind: str
    float_file: Path


Found = tuple[Stage, tuple[Spot, ...], Spot | None]
"""A stage, the nodes that lose most in it, and where its error begins."""


def _level(expected: Logits, found: Logits) -> float:
    if np.array_equal(expected, found, equal_nan=True):
        return CAP_DB
    if expected.shape != found.shape or not (np.isfinite(expected) & np.isfinite(found)).all():
        return -CAP_DB
    return snr_db(expected, found)


def export_stage(case: Case, chosen: Pixels, expected: Logits, right: Logits) -> Found:
    """The float file beside the network."""
    least, level = LEAST_DB["fp32"], _level(expected, right)
    stage = Stage(EXPORT, "logits of the float32 file with the network's", level, least, True)
    if level >= least:
        return stage, (), None
    shown = Shown(case.float_file)
    steps = steps_of(shown.model)
    levels = against_network(shown, case.network, chosen, case.preprocess)
    spots = spots_of("fp32", steps, levels)
    first = first_of("fp32", steps, spots, shown.output)
    note = "no value behind it is one of the network's" if first else ""
    if first:
        first = replace(first, reason=note)
    return replace(stage, passed=False, note=note), (first,) if first else (), first


def reduced_stage(case: Case, shown: Shown, chosen: Pixels) -> Found:
    """The int8 or fp16 file beside the float one, value by value."""
    least, floating = LEAST_DB[case.kind], Shown(case.float_file)
    steps = steps_of(shown.model)
    quantised = any(node.op_type == "QuantizeLinear" for node in shown.model.graph.node)
    pairs = counterparts(steps, steps_of(floating.model), quantised)
    ends = {end: pairs[step.value] for step in steps if step.value in pairs for end in step.ends}
    ends |= {s.value: pairs[s.value] for s in steps if s.op in MOVERS and s.value in pairs}
    ends[shown.output] = floating.output
    levels = against_file(shown, floating, ends, chosen, case.preprocess)
    right, found = _outputs(floating, case, chosen), _outputs(shown, case, chosen)
    level = _level(right, found)
    compared = f"logits of the {case.kind} file with the float32 file's"
    stage = Stage(case.kind, compared, level, least, level >= least)
    spots = spots_of(case.kind, steps, levels)
    first = None if stage.passed else first_of(case.kind, steps, spots, shown.output)
    feed = chosen if floating.baked else normalised(chosen, case.preprocess)
    by_value = {step.value: step for step in steps}

    def reasoned(spot: Spot) -> Spot:
        step = by_value[spot.tensor]
        why = reason_for(spot, step, case.float_file, feed, shown.model, pairs)
        return replace(spot, reason=why)

    worst = tuple(reasoned(spot) for spot in worst_of(steps, spots))
    return stage, worst, reasoned(first) if first else None


def _outputs(shown: Shown, case: Case, pixels: Pixels) -> Logits:
    found = [values[shown.output] for values in shown.each(pixels, case.preprocess)]
    return np.concatenate(found)


def runtime_stage(case: Case, shown: Shown, chosen: Pixels, reduced: Stage) -> Found:
    """The file as it is run, nodes fused, beside the same file node by node.

    Fused kernels round elsewhere, and a network that makes much of its own rounding makes as much
    of theirs: they are at fault where they cost more than the precision itself.
    """
    least = LEAST_DB[case.kind]
    if reduced.snr_db is not None:
        least = min(least, reduced.snr_db)
    level = _level(_outputs(shown, case, chosen), run_file(case.file, case.preprocess, chosen))
    stage = Stage(RUNTIME, "logits with fused kernels and without", level, least, level >= least)
    if stage.passed:
        return stage, (), None
    note = "the kernels that ONNX Runtime fuses for this CPU compute something else"
    spot = Spot(RUNTIME, "", "", shown.output, CAP_DB, level, note)
    return replace(stage, note=note), (), spot
