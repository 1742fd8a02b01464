"""The state each device was in: what it is, how warm and how fast it ran, and who else did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgekd.agent.throttling import PI_BITS
from edgekd.report import text
from edgekd.report.comparing import comparison_place
from edgekd.report.layering import SHARES, provider_shares
from edgekd.report.places import LOCAL, Record, device_name, hardware, place, runtime_name
from edgekd.report.table import Cell, Column, Table, table
from edgekd.report.tables import ratio_cell
from edgekd.report.view import RunView, count, dig, leaves, number

MOMENTS = ("before", "during", "after")
HEAD = (Column("Fact", False), Column("Found", False))


def state_tables(view: RunView) -> list[Table]:
    """For each device what a reader needs to believe its numbers, or to doubt them."""
    found = []
    for index, (name, records) in enumerate(_by_place(view).items()):
        facts = {
            **_identity(records),
            **_conditions(records),
            "Null pair": _null_pairs(view, name),
        }
        rows = [[Cell(title), cell] for title, cell in facts.items() if cell.text != text.NONE]
        who = name if name not in ("", LOCAL) else device_name(records[0]) or "the device"
        caption = f"State of {text.plain(who, 80)}."
        found.append(table(f"state-{index + 1}", caption, HEAD, rows))
    return [each for each in found if each]


def _by_place(view: RunView) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in view.records:
        groups.setdefault(place(record), []).append(record)
    return groups


def _identity(records: Sequence[Record]) -> dict[str, Cell]:
    first = records[0]
    nodes, times = (_each(provider_shares(r, key) for r in records) for key in SHARES)
    return {
        "Board": Cell(text.plain(hardware(first)) or text.NONE),
        "Cores": Cell(_cores(dig(first, "evidence", "facts"))),
        "Governor": Cell(_each(dig(r, "device", "governor") for r in records)),
        "Power mode": Cell(_each(dig(r, "device", "power_mode") for r in records)),
        "Pinned to": Cell(_each(_affinity(dig(r, "policy", "affinity")) for r in records)),
        "Runtime": Cell(_each(runtime_name(record.get("runtime")) for record in records)),
        "Nodes": Cell(nodes),
        "Time": Cell(times),
    }


def _each(values: Iterable[Any]) -> str:
    """Different values side by side; what is the same for all records stands once."""
    said = [text.anything(value) for value in values]
    return " or ".join(dict.fromkeys(s for s in said if s != text.NONE)) or text.NONE


def _affinity(found: Any) -> str:
    cores = [count(core) for core in found] if isinstance(found, list) else []
    known = [core for core in cores if core is not None]
    return f"CPUs {text.spans(known)}" if known else ""


def _cores(facts: Any) -> str:
    """How many there are, and which of a kind, the fastest last."""
    listed = dig(facts, "clusters")
    kinds = [_cluster(each) for each in listed] if isinstance(listed, list) else []
    if any(kinds):
        return "; ".join(filter(None, kinds))
    physical = count(dig(facts, "physical_cores"))
    top = dig(facts, "core_max_khz")
    speeds = [value for each in top if (value := number(each))] if isinstance(top, list) else []
    speed = f", up to {text.gigahertz(max(speeds))}" if speeds else ""
    return text.NONE if physical is None else f"{physical} physical{speed}"


def _cluster(found: Any) -> str:
    cpus = _affinity(dig(found, "cpus"))
    top, part = number(dig(found, "max_khz")), dig(found, "part")
    speed = f"up to {text.gigahertz(top)}" if top else ""
    return " ".join(filter(None, (cpus, text.plain(part, 40) if part else "", speed)))


def _conditions(records: Sequence[Record]) -> dict[str, Cell]:
    """Before the first, during all, and after the last of what ran there."""
    taken = {name: [dig(r, "evidence", name) for r in records] for name in MOMENTS}
    moments = {
        "before": taken["before"][:1],
        "during": taken["during"],
        "after": taken["after"][-1:],
    }
    return {
        "Hottest zone": _over(moments, _hottest, text.celsius, max),
        "Slowest core": _over(moments, _slowest, text.gigahertz, min),
        "Load average": _over(moments, _load, "{:.2f}".format, max),
        "Held back by": Cell(_held_back(records)),
    }


def _over(
    moments: Mapping[str, Sequence[Any]],
    read: Callable[[Any], float | None],
    words: Callable[[float], str],
    worst: Callable[[list[float]], float],
) -> Cell:
    """``45.0 °C before, 71.0 °C during, 68.0 °C after``; of several the worst."""
    parts = []
    for name, several in moments.items():
        known = [value for one in several if (value := read(one)) is not None]
        if known:
            parts.append(f"{words(worst(known))} {name}")
    return Cell(", ".join(parts) or text.NONE)


def _values(found: Any) -> list[float]:
    """The numbers in a list or a table."""
    listed = list(found.values()) if isinstance(found, Mapping) else found
    known = map(number, listed) if isinstance(listed, list) else ()
    return [value for value in known if value is not None]


def _hottest(moment: Any) -> float | None:
    """Of the zones and the graphics cards."""
    cards = dig(moment, "gpus")
    known = _values([dig(card, "temperature_c") for card in _listed(cards)])
    return max(_values(dig(moment, "temperature_c")) + known, default=None)


def _slowest(moment: Any) -> float | None:
    return min(_values(dig(moment, "core_khz")), default=None)


def _load(moment: Any) -> float | None:
    return next(iter(_values(dig(moment, "load_average"))), None)


def _held_back(records: Sequence[Record]) -> str:
    """What slowed the board or the process down, as the board itself says; or that nothing did."""
    moments = [dig(r, "evidence", name) for r in records for name in MOMENTS]
    bits, kinds = 0, dict[str, None]()
    for moment in moments:
        bits |= count(dig(moment, "throttle_bits")) or 0
        kinds |= dict.fromkeys(_slowed_by(moment))
    said = [words for bit, words in PI_BITS.items() if bits >> bit & 1]
    said += [f"slowed by {text.plain(kind)}" for kind in kinds]
    stops = (("quota_stops", "stopped by the CPU quota"), ("heat_stops", "slowed by heat"))
    said += [f"{words} {n:,} times" for key, words in stops if (n := _rise(records, key))]
    keys = ("throttle_bits", "slowed_by", "quota_stops", "heat_stops")
    watched = any(dig(moment, key) is not None for moment in moments for key in keys)
    return ", ".join(said) or ("nothing that was seen" if watched else text.NONE)


def _slowed_by(moment: Any) -> list[str]:
    """Cooling at work, of the system and of each graphics card."""
    cards = dig(moment, "gpus")
    listed = [dig(moment, "slowed_by"), *(dig(c, "slowed_by") for c in _listed(cards))]
    return [str(kind) for found in listed for kind in _listed(found)]


def _rise(records: Sequence[Record], key: str) -> int:
    """By how much a counter grew while something was measured."""
    grown: dict[tuple[Any, Any], int] = {}
    for record in records:  # those of one call have the same moments
        first, last = (count(dig(record, "evidence", at, key)) for at in ("before", "after"))
        if first is not None and last is not None:
            grown[first, last] = max(last - first, 0)
    return sum(grown.values())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _null_pairs(view: RunView, name: str) -> Cell:
    """How far a model was from itself in the comparisons on a device."""
    entries = [e for e in view.comparisons if comparison_place(view, e) == name]
    cells = [ratio_cell(dig(entry, "comparison", "null")) for entry in entries]
    said = dict.fromkeys(cell.text for cell in cells if cell.text != text.NONE)
    return Cell(", ".join(said) or text.NONE)


def device_tables(view: RunView) -> list[Table]:
    """All facts of each device, and how it did meanwhile."""
    found = []
    for index, records in enumerate(_by_place(view).values()):
        rows = [[Cell(_title(k)), _device_fact(k, value)] for k, value in _facts(records[0])]
        caption = f"All facts of the device {text.plain(device_name(records[0]))}".rstrip() + "."
        found.append(table(f"device-{index + 1}", caption, HEAD, rows))
    return [facts for facts in found if facts]


def _facts(record: Record) -> list[tuple[str, Any]]:
    """Every fact once, though the record repeats some in its evidence."""
    evidence = record.get("evidence", {})
    other = {"facts", "asked"}
    more = (
        {k: v for k, v in evidence.items() if k not in other}
        if isinstance(evidence, Mapping)
        else {}
    )
    merged = dict(leaves(record.get("device")))
    merged |= {k: v for k, v in leaves(dig(evidence, "facts")) if k not in merged}
    return [*merged.items(), *leaves(more)]


def _title(key: str) -> str:
    return text.plain(key.removesuffix("_bytes").replace("_", " ").replace(".", ": "))


def _device_fact(key: str, value: Any) -> Cell:
    found = number(value)
    if key.endswith("bytes") and found is not None:
        return Cell(text.scaled(found, "B"), found)
    return Cell(text.anything(value), found)
