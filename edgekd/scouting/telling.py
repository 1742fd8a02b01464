"""Telling: what a scout found, as ``scout.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.budget import Budget
from edgekd.scouting.ranking import Standing, Verdict, front, ranked
from edgekd.scouting.rounds import Raced
from edgekd.scouting.timing import Noise

TOLD = ("soc", "cpu", "gpu", "ram_bytes", "os", "kernel", "machine", "power_mode", "governor")
CORES = ("physical_cores", "affinity", "cpu_limit")
NOTHING = {"value": None, "lo": None, "hi": None, "method": "not measured"}


def facts_of(device: Mapping[str, Any]) -> dict[str, Any]:
    """What of a device's facts is told."""
    return {name: device.get(name) for name in (*TOLD, *CORES)}


def steady(record: Mapping[str, Any]) -> bool:
    """Whether a measurement is one to go by: nothing disturbed it that could be seen."""
    return bool(record["verdict"]["state"] == "stable")


def rows(raced: Raced, budget: Budget | None, margin: float) -> list[dict[str, Any]]:
    """A row for each candidate, the best first."""
    on_front = front(raced.standings)
    return [
        _row(standing, found, on_front)
        for standing, found in ranked(raced.standings, budget, margin)
    ]


def rounds_of(raced: Raced) -> list[dict[str, Any]]:
    """The rounds, in order."""
    return [
        {
            "round": each.number,
            "candidates": each.candidates,
            "kept": each.kept,
            "seconds": each.seconds,
        }
        for each in raced.rounds
    ]


def anchor_of(noise: Noise | None) -> dict[str, Any]:
    """The anchor and how much it differed from job to job."""
    if noise is None:
        return {"name": None, "spread": None, "medians": []}
    return {"name": noise.name, "spread": noise.spread, "medians": list(noise.medians)}


def _row(standing: Standing, found: Verdict | None, on_front: set[str]) -> dict[str, Any]:
    entry, record = standing.entry, standing.record
    candidate, prior = entry.candidate, entry.candidate.prior
    head = {
        "key": entry.key,
        "name": candidate.name,
        "size": candidate.size,
        "precision": entry.precision,
        "parameters": candidate.parameters,
        "macs": candidate.macs,
        "prior": {"value": prior.value, "basis": prior.basis, "source": prior.source},
        "rounds": standing.rounds,
        "pareto": entry.key in on_front,
        "fits": "unknown" if found is None else found.fits,
        "rulings": [] if found is None else [ruling.to_dict() for ruling in found.rulings],
        "dropped": standing.dropped,
        "cached": standing.cached and record is not None,
        "failed": standing.failed,
    }
    return head | _measured(record)


def _measured(record: Mapping[str, Any] | None) -> dict[str, Any]:
    if record is None:
        missing = ("size_bytes", "peak_bytes", "mean", "mean_interval", "state")
        estimates = dict.fromkeys(("median", "p95", "p99"), NOTHING)
        return {**dict.fromkeys(missing), "n": 0, **estimates}
    timing = record["timing"]
    return {
        "size_bytes": record["artifact"]["size_bytes"],
        "peak_bytes": record["memory"]["peak_rss_bytes"],
        "median": timing["median"],
        "p95": timing["p95"],
        "p99": timing["p99"],
        "mean": timing["mean"],
        "mean_interval": timing["mean_interval"],
        "n": timing["n"],
        "state": record["verdict"]["state"],
        "energy": record["energy"],
    }
