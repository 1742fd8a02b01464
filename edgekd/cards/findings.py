"""What was found: accuracy with its intervals, and latency with the conditions of its measuring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.cards.places import device_name, sentence
from edgekd.cards.reading import Known, at, number, numbers, pair
from edgekd.cards.text import counted, points, safe, share, span, table
from edgekd.intervals import wilson

NOT_MEASURED = "not measured"


def accuracy(known: Known) -> str:
    """Top-1 on each split, of the file against its float network, and on devices."""
    rows = [*_of_network(known), *_of_file(known), *_on_devices(known)]
    if not rows:
        return "Nobody measured it."
    head = ("of", "images", "top-1 [95 %]", "beside the float network")
    return (
        f"{table(head, rows)}\n\nIntervals of one accuracy are Wilson's, differences are paired "
        "image by image. Validation images were used to choose and to judge; the test images give "
        "the figure to quote."
    )


def _of_network(known: Known) -> list[list[str]]:
    rows = []
    for split in ("validation", "test"):
        found = known.at("metrics", split)
        top1, n = number(at(found, "top1")), at(found, "n")
        if top1 is not None and isinstance(n, int) and n > 0:
            rows.append(["the network", counted(n, f"{split} image"), sure(top1, n), ""])
    return rows


def _of_file(known: Known) -> list[list[str]]:
    verdict = known.at("export", "verdict")
    top1, n = number(at(verdict, "top1")), at(verdict, "n")
    if top1 is None or not isinstance(n, int) or n < 1:
        return []
    return [["this file", counted(n, "validation image"), sure(top1, n), _beside(verdict)]]


def _on_devices(known: Known) -> list[list[str]]:
    rows = []
    for record in known.records:
        found = record.get("accuracy")
        top1, n = number(at(found, "value")), at(found, "n")
        ends = numbers(*pair(at(found, "interval")))
        if top1 is None or ends is None:
            continue
        name = safe(device_name(at(record, "device", "profile")))
        shown = f"{share(top1)} {span(*ends)}"
        rows.append([f"this file on {name}", counted(n, "test image"), shown, _beside(found)])
    return rows


def sure(top1: float, n: int) -> str:
    """A share of n images, with its interval."""
    found = wilson(min(max(round(top1 * n), 0), n), n)
    return f"{share(top1)} {span(found.lo, found.hi)}"


def _beside(found: Any) -> str:
    known = numbers(at(found, "delta"), *pair(at(found, "delta_interval")))
    if known is None:
        return NOT_MEASURED
    confidence = number(at(found, "confidence"))
    other = confidence is not None and confidence != 0.95
    return points(*known) + (f", {100 * confidence:.4g} %" if other and confidence else "")


def latency(known: Known) -> str:
    """A row a device, and the conditions below it."""
    if known.is_network:
        return "A network is not what runs on a device: the cards of its exports have latencies."
    left = _left_out(known.left_out)
    if not known.records:
        return f"No device has measured this file yet.{left}"
    head = ("device", "median [95 %]", "p95", "p99", "peak memory", "verdict")
    rows = [_row(record) for record in known.records]
    conditions = "\n".join(f"- {_conditions(record)}" for record in known.records)
    return f"{table(head, rows)}\n\nMeasured how:\n\n{conditions}{left}"


def _left_out(count: int) -> str:
    if not count:
        return ""
    said = "One proof is" if count == 1 else f"{count} proofs are"
    return f"\n\n{said} of other files than these, or cannot be read, and not shown."


def _row(record: Mapping[str, Any]) -> list[str]:
    peak = number(at(record, "memory", "peak_rss_bytes"))
    return [
        safe(device_name(at(record, "device", "profile"))),
        *(_estimate(at(record, "timing", name)) for name in ("median", "p95", "p99")),
        f"{peak / 1e6:.1f} MB" if peak is not None else NOT_MEASURED,
        safe(at(record, "verdict", "state") or "none"),
    ]


def _estimate(found: Any) -> str:
    value, ends = number(at(found, "value")), numbers(at(found, "lo"), at(found, "hi"))
    if value is None:
        return safe(at(found, "method") or NOT_MEASURED)
    interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
    return f"{value:.3g} ms{interval}"


def _conditions(record: Mapping[str, Any]) -> str:
    """The device, the runtime, and everything that decides a time."""
    device, runtime, policy = (record.get(key) for key in ("device", "runtime", "policy"))
    on_cpu = str(at(runtime, "provider") or "CPU").startswith("CPU")
    chips = [at(device, key) for key in ("soc", "cpu", *([] if on_cpu else ["gpu"]))]
    settings = [
        f"{key.replace('_', ' ')} {at(device, key)}"
        for key in ("power_mode", "governor")
        if at(device, key)
    ]
    said = [
        ", ".join(str(chip) for chip in chips if chip) or "chip not known",
        f"{at(runtime, 'name')} {at(runtime, 'version')}, {at(runtime, 'provider')}",
        counted(at(policy, "threads"), "thread"),
        f"batch of {at(policy, 'batch_size') or 1}",
        f"clock {at(policy, 'clock') or 'inference'}",
        f"timed {at(policy, 'order') or 'alone'} on {at(policy, 'input') or 'an input'}",
        counted(at(record, "timing", "n"), "run"),
        *settings,
        f"edgekd {at(record, 'edgekd_version')}",
        str(at(record, "timestamp") or "")[:10],
    ]
    reasons = at(record, "verdict", "reasons")
    reasons = reasons if isinstance(reasons, list) else []
    words = "; ".join(safe(sentence(str(reason))) for reason in reasons)
    name = safe(device_name(at(device, "profile")))
    return f"{name}: {'; '.join(safe(part) for part in said if part)}" + (
        f". Verdict {safe(at(record, 'verdict', 'state'))}: {words}." if words else "."
    )
