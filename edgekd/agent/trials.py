"""One pass over one pair of the sweep, in the process that this is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Dict

import numpy as np

from edgekd.agent import facts, summary
from edgekd.agent.bench import measure
from edgekd.agent.clocks import entrant
from edgekd.agent.job import Job
from edgekd.agent.sweep import configurations

SHORT = {  # seconds and runs, at most; the job's own where they are less
    "warmup_seconds": 0.4,
    "blocks": 5,
    "block_runs": 10,
    "block_seconds": 0.2,
    "min_seconds": 1.0,
    "max_seconds": 4.0,
}


def trial(job: Job, index: int) -> Dict[str, Any]:
    """Time a model with a pair of the sweep.

    Args:
        job: the job.
        index: number of the model times the number of pairs, plus that of the pair.
    """
    pairs = configurations(facts.physical_cores(), job.runtime)
    which, place = divmod(index, len(pairs))
    threads, spinning = pairs[place]
    short = {key: min(job.policy.get(key, most), most) for key, most in SHORT.items()}
    once = replace(job, policy={**job.policy, **short, "threads": threads, "spinning": spinning})
    rules = once.rules(1)
    unhurried = replace(rules, tolerance=math.inf)  # as many blocks for each, known well or not
    race = measure([entrant(once, job.models[which])], unhurried)
    runs = race.samples[0]
    blocks = [[run for run in runs if run.block == block] for block in range(race.blocks)]
    return {
        "threads": threads,
        "spinning": spinning,
        "state": summary.verdict(race, 0, rules, [])["state"],
        "ms": [run.wall_ns / 1e6 for run in runs],
        "block_ms": race.medians[0],
        "block_cpu_ms": [float(np.median([run.cpu_ns for run in one])) / 1e6 for one in blocks],
    }
