"""Join artifacts with their measurements: one line for each network as it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.intervals import wilson
from edgekd.report.places import clock, clock_rank, device_name, place, runtime_name
from edgekd.report.view import (
    EXPORTED,
    ArtifactView,
    Estimate,
    Percentile,
    Result,
    count,
    dig,
    number,
    role_rank,
)

PERCENTILES = ("median", "p50", "p90", "p95", "p99", "p99.9")
NEEDED = {"p50": 7, "p90": 44, "p95": 90, "p99": 459, "p99.9": 4603}
"""Runs that a percentile needs before it is given, by the one-sided 99 % binomial bound."""
SPLITS = ("test", "validation")
"""Where an accuracy is taken from, best first: the test split chose nothing."""


def results_from(
    artifacts: Sequence[ArtifactView], records: Sequence[Mapping[str, Any]]
) -> tuple[Result, ...]:
    """A line for each measurement, each export without one, and each network without either."""
    networks = {a.sha256: a for a in artifacts if a.kind == "network"}
    exports = [a for a in artifacts if a.kind in EXPORTED]
    lines, seen = [], set[str]()
    for record in records:
        export = next((a for a in exports if record_hash(record) in a.hashes), None)
        network = networks.get(export.parent) if export else _named(networks, record)
        seen |= {a.sha256 for a in (export, network) if a}
        lines.append(_line(network, export, record))
    for export in exports:
        if export.sha256 not in seen:
            seen |= {export.sha256, export.parent}
            lines.append(_line(networks.get(export.parent), export, {}))
    lines += [_line(a, None, {}) for a in networks.values() if a.sha256 not in seen]
    return tuple(sorted(lines, key=lambda line: (role_rank(line.role), clock_rank(line.clock))))


def record_hash(record: Mapping[str, Any]) -> str:
    """The hash by which a measurement names what it measured."""
    return str(dig(record, "artifact", "sha256") or "")


def _named(networks: Mapping[str, ArtifactView], record: Mapping[str, Any]) -> ArtifactView | None:
    return next((a for a in networks.values() if record_hash(record) in a.hashes), None)


def _line(
    network: ArtifactView | None, export: ArtifactView | None, record: Mapping[str, Any]
) -> Result:
    known = [artifact for artifact in (export, network) if artifact]
    model = next((m for a in known if isinstance(m := a.manifest.get("model"), Mapping)), {})
    entry = record.get("artifact", {})
    sizes = [dig(entry, "size_bytes"), *(_size(artifact) for artifact in known)]
    return Result(
        role=next((a.role for a in known if a.role), str(dig(entry, "role") or "")),
        network=known[-1].name if known else str(dig(entry, "name") or "model"),
        precision=_precision(export, entry),
        parameters=count(model.get("parameters")),
        macs=count(model.get("macs")),
        size_bytes=next((count(size) for size in sizes if size), None),
        accuracy=measured_accuracy(record.get("accuracy")) or _known_accuracy(known),
        latency=latencies(record.get("timing")),
        peak_rss_bytes=count(dig(record, "memory", "peak_rss_bytes")),
        device=device_name(record),
        place=place(record),
        runtime=runtime_name(record.get("runtime")),
        clock=clock(record),
        model=record_hash(record),
        state=str(dig(record, "verdict", "state") or ""),
        called=next((a.called for a in known if a.called), ""),
    )


def _size(artifact: ArtifactView) -> int | None:
    """Bytes of the model itself, with the weights that ONNX may keep in a second file."""
    sizes = [count(dig(entry, "bytes")) for entry in artifact.model_files.values()]
    return sum(size or 0 for size in sizes) or None


def _precision(export: ArtifactView | None, entry: Any) -> str:
    found = dig(entry, "precision_found") or (export.precision if export else "")
    return found if isinstance(found, str) else ""


def measured_accuracy(accuracy: Any) -> Estimate | None:
    """The accuracy that was measured in the runtime on the device."""
    value, n = number(dig(accuracy, "value")), count(dig(accuracy, "n"))
    if value is None:
        return None
    interval = dig(accuracy, "interval")
    if isinstance(interval, list) and len(interval) == 2 and None not in map(number, interval):
        return Estimate(value, number(interval[0]), number(interval[1]), n, "device")
    return _estimate(value, n, "device")


def _known_accuracy(artifacts: Sequence[ArtifactView]) -> Estimate | None:
    """The accuracy that the manifests know, of the best split there is.

    That of a network is not that of an int8 or fp16 file made of it, which has its own verdict.
    """
    judged = [a.export.get("verdict") for a in artifacts if a.lowered]
    for verdict in judged:
        value = number(dig(verdict, "top1"))
        if value is not None:
            return _estimate(value, count(dig(verdict, "n")), "validation")
    for split in SPLITS:
        for artifact in artifacts:
            metrics = dig(artifact.manifest, "metrics", split)
            value = number(dig(metrics, "top1"))
            if value is not None:
                return _estimate(value, count(dig(metrics, "n")), split)
    return None


def _estimate(value: float, n: int | None, source: str) -> Estimate:
    if not n or not 0 <= value <= 1:
        return Estimate(value, n=n, source=source)
    known = wilson(round(value * n), n)
    return Estimate(value, known.lo, known.hi, n, source)


def latencies(timing: Any) -> dict[str, Percentile]:
    """The percentiles of a timing, in ms; those that cannot be given say why."""
    found = {}
    for name in PERCENTILES:
        entry = dig(timing, name)
        if isinstance(entry, Mapping):
            value = number(entry.get("value"))
            reason = "" if value is not None else _reason(name, entry, count(dig(timing, "n")))
            found[name] = Percentile(
                value, number(entry.get("lo")), number(entry.get("hi")), reason
            )
    return found


def _reason(name: str, entry: Mapping[str, Any], n: int | None) -> str:
    said = re.search(r"n/a \((.+)\)", str(entry.get("method")))
    if said:
        return said.group(1)
    needed = NEEDED.get(name, NEEDED["p50"])
    return f"{n} runs, need {needed}" if n is not None else f"needs {needed} runs"
