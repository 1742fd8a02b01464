"""A measurement in the words of the record: timing, verdict, comparisons, raw samples."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from edgekd.agent import comparison
from edgekd.agent.estimates import mean_interval, variation
from edgekd.agent.percentiles import percentiles
from edgekd.agent.race import Race, Rules, medians
from edgekd.agent.timekeeping import absurd, jumps
from edgekd.agent.verdict import Evidence, drift_pct_per_min, judge


def timing(race: Race, index: int) -> Dict[str, Any]:
    """The steady state of one session; times in ms a run, whatever the batch size."""
    runs = race.samples[index]
    ms = [run.wall_ns / 1e6 for run in runs]
    median, undisturbed = medians(race, index)
    known = percentiles(ms, [run.block for run in runs])
    drift = drift_pct_per_min(_starts(race, index), ms)
    return {
        "warmup": {"n": race.warmup.n, "reason": race.warmup.reason},
        "n": len(runs),
        "seconds": round(race.seconds, 3),
        "min": min(ms),
        "mean": round(float(np.mean(ms)), 6),
        "mean_interval": _mean_interval(race, index),
        "median": median.to_dict(),
        "median_undisturbed": undisturbed.to_dict(),
        **{name: estimate.to_dict() for name, estimate in known.items()},
        "cov": round(variation(ms), 4),
        "drift_pct_per_min": None if drift is None else round(drift, 2),
        "kept_share": round(sum(not run.disturbed for run in runs) / len(runs), 4),
        "cpu_ms": round(float(np.median([run.cpu_ns / 1e6 for run in runs])), 6),
    }


def verdict(race: Race, index: int, rules: Rules, throttling: Sequence[str]) -> Dict[str, Any]:
    """The state of one session's series, and why."""
    runs = race.samples[index]
    ms = [run.wall_ns / 1e6 for run in runs]
    median, undisturbed = medians(race, index)
    found = judge(
        Evidence(
            _starts(race, index),
            ms,
            [run.wall_ns / 1e6 for run in runs if not run.disturbed],
            median,
            undisturbed,
            rules.tolerance,
            throttling,
            [*jumps(race.readings, race.backwards), *absurd(ms, float(np.median(ms)))],
        )
    )
    if len(runs) < rules.blocks * rules.block_runs:
        wanted = f"{rules.blocks} blocks of {rules.block_runs}"
        found["reasons"].append(f"{len(runs)} runs fitted into the time; wanted {wanted}")
    return found


def comparisons(race: Race, names: Sequence[str], rules: Rules) -> List[Dict[str, Any]]:
    """Every later model against the first one, beside the first one against itself."""
    medians_ms = race.decisive
    basis = "all runs" if race.undisturbed is None else "undisturbed runs"
    null = comparison.ratio(medians_ms[-1], medians_ms[0])
    return [
        comparison.compare(
            names[0],
            name,
            comparison.ratio(medians_ms[index], medians_ms[0]),
            null,
            basis,
            rules.tolerance,
        )
        for index, name in enumerate(names)
        if index > 0
    ]


def samples(race: Race, index: int) -> Dict[str, Any]:
    """Every timed run in order, nothing left out."""
    runs = race.samples[index]
    return {
        "at_ns": [run.at_ns - race.samples[0][0].at_ns for run in runs],
        "wall_ns": [run.wall_ns for run in runs],
        "cpu_ns": [run.cpu_ns for run in runs],
        "disturbed": [int(run.disturbed) for run in runs],
        "block": [run.block for run in runs],
    }


def progress(race: Race, names: Sequence[str]) -> Dict[str, Any]:
    """Where the measurement stands, for a person who waits."""
    return {
        "step": "timing",
        "blocks": race.blocks,
        "seconds": round(race.seconds, 3),
        "median_ms": {
            name: float(np.median([run.wall_ns / 1e6 for run in race.samples[index]]))
            for index, name in enumerate(names)
        },
    }


def _mean_interval(race: Race, index: int) -> Optional[List[float]]:
    blocks: Dict[int, List[float]] = {}
    for run in race.samples[index]:
        blocks.setdefault(run.block, []).append(run.wall_ns / 1e6)
    found = mean_interval(list(blocks.values()))
    return None if found is None else [round(end, 6) for end in found]


def _starts(race: Race, index: int) -> List[float]:
    return [run.at_ns / 1e9 for run in race.samples[index]]
