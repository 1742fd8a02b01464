"""What a measurement says, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from edgekd.cli._courses import print_courses
from edgekd.cli._layers import print_layers
from edgekd.cli._matrix import COLUMNS, devices_of, print_matrix
from edgekd.cli._tables import Grid, print_line


def print_profiles(records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """One column a model, one row a figure; then in words what was compared.

    Several devices are shown in one matrix first, and then one by one.

    Args:
        records: measurements, comparisons and failures.
        names: what a model is called, by its sha256.
    """
    console, devices = Console(), devices_of(records)
    if len(devices) < 2:
        _print_device(console, records, names)
        return
    print_matrix(console, records, names)
    for failure in (record["failure"] for record in records if "failure" in record):
        missed = ", ".join(failure["models"])
        print_line(console, f"{failure['device']} failed ({missed}): {failure['message']}")
    for device in devices:
        own = [record for record in records if _device(record) == device]
        if any("timing" in record for record in own):
            print_line(console, f"On {device}:")
            _print_device(console, own, names)


def _print_device(
    console: Console, records: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> None:
    measured = [record for record in records if "timing" in record]
    for first in range(0, len(measured), COLUMNS):
        part = measured[first : first + COLUMNS]
        table = Grid("", *(names[record["artifact"]["sha256"]] for record in part))
        for name, read in ROWS:
            cells = [read(record) for record in part]
            if any(cells):
                table.add_row(name, *cells)
        table.print(console)
    for record in measured:
        name = names[record["artifact"]["sha256"]]
        print_courses(console, name, record)
        print_layers(console, name, record["layers"])
        print_line(console, f"{name} is {_verdict(record)}.")
    for record in records:
        if "comparison" in record:
            print_line(console, _compared(record["comparison"]))


def _device(record: Mapping[str, Any]) -> str | None:
    """Whose record it is, where there are several devices."""
    if "timing" in record:
        return str(record["device"]["profile"])
    found = record.get("comparison") or record["failure"]
    return str(found["device"])


def _estimate(found: Mapping[str, Any]) -> str:
    """A value with its interval, or why there is none."""
    if found.get("value") is None:
        return str(found["method"])
    if found.get("lo") is None or found.get("hi") is None:
        return f"{found['value']:.4g} ms"
    return f"{found['value']:.4g} ms\n[{found['lo']:.4g}, {found['hi']:.4g}]"


def _accuracy(record: Mapping[str, Any]) -> str:
    found = record["accuracy"]
    if not found or found["value"] is None:
        return "not measured"
    low, high = found["interval"]
    return f"{found['value']:.2%} of {found['n']:,}\n[{100 * low:.2f}, {100 * high:.2f}]"


def _top5(record: Mapping[str, Any]) -> str:
    found = record["accuracy"]
    return "" if not found or found["top5"] is None else f"{found['top5']:.2%}"


def _delta(record: Mapping[str, Any]) -> str:
    """Against the float network on the same images, in points."""
    found = record["accuracy"]
    if not found or found["delta"] is None:
        return "n/a" if found else ""
    low, high = found["delta_interval"]
    return f"{100 * found['delta']:+.2f} points\n[{100 * low:+.2f}, {100 * high:+.2f}]"


def _memory(record: Mapping[str, Any]) -> str:
    found = record["memory"]
    peak = found["peak_rss_bytes"]
    text = "not known" if peak is None else f"{peak / 1e6:.0f} MB"
    if found["peak_device_bytes"] is None:
        return text
    place = "of it for the GPU" if found["unified"] else "on the GPU"
    return f"{text}\n{found['peak_device_bytes'] / 1e6:.0f} MB {place}"


def _shares(record: Mapping[str, Any]) -> str:
    """Which provider ran how many of the nodes: what fell back shows here."""
    shares = record["runtime"]["node_share"]
    return "\n".join(
        f"{name.removesuffix('ExecutionProvider')} {share:.0%}" for name, share in shares.items()
    )


def _verdict(record: Mapping[str, Any]) -> str:
    reasons = "; ".join(record["verdict"]["reasons"])
    return f"{record['verdict']['state']}{': ' if reasons else ''}{reasons}"


def _compared(found: Mapping[str, Any]) -> str:
    """The sentence, and the comparison's own state unless that is good: a ratio has its own."""
    said = f"Against {found['a']}: {found['sentence']}."
    if found["state"] == "stable":
        return said
    reasons = "; ".join(found["reasons"])
    return f"{said} The comparison is {found['state']}{': ' if reasons else ''}{reasons}."


def _timing(name: str) -> Any:
    return lambda record: _estimate(record["timing"][name])


ROWS: tuple[tuple[str, Any], ...] = (
    ("file size", lambda r: f"{r['artifact']['size_bytes'] / 1e6:.2f} MB"),
    ("median [95 %]", _timing("median")),
    ("p90", _timing("p90")),
    ("p95", _timing("p95")),
    ("p99", _timing("p99")),
    ("CPU time", lambda r: f"{r['timing']['cpu_ms']:.4g} ms a run"),
    ("load", lambda r: f"{r['timing']['load_ms']} ms"),
    ("first run", lambda r: f"{r['timing']['first_ms']} ms"),
    ("runs", lambda r: f"{r['timing']['n']:,}"),
    ("undisturbed", lambda r: f"{r['timing']['kept_share']:.0%}"),
    ("peak memory", _memory),
    ("top-1 [95 %]", _accuracy),
    ("top-5", _top5),
    ("against float", _delta),
    ("precision", lambda r: f"{r['artifact']['precision_found']}"),
    ("opset", lambda r: f"{r['artifact']['opset']}"),
    ("runtime", lambda r: f"{r['runtime']['name']} {r['runtime']['version']}"),
    ("nodes run by", _shares),
    ("clock", lambda r: str(r["policy"]["clock"])),
    ("threads", lambda r: f"{r['policy']['threads']}"),
    ("batch", lambda r: f"{r['policy']['batch_size']}"),
)
