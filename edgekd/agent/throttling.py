"""Evidence turned into sentences: what held a device back, and the state it was found in."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

PI_BITS = {
    0: "the voltage is too low",
    1: "the frequency is capped",
    2: "it is throttled",
    3: "it is near its temperature limit",
    16: "the voltage was too low since boot",
    17: "the frequency was capped since boot",
    18: "it was throttled since boot",
    19: "it was near its temperature limit since boot",
}
SINCE_BOOT = 16  # the first of the bits that stay set
NEAR_C = 5.0
"""So close to its trip point a zone is taken for hot."""
FELL = 0.95
"""Of the fastest core's highest frequency so far, below which it is taken to have fallen."""
Moments = Sequence[Mapping[str, Any]]


def throttling(moments: Moments) -> List[str]:
    """Sentences for what held the device back between the first moment and the last."""
    return [*_counted(moments), *_pi(moments), *_slowed(moments), *_cards(moments)]


def warnings(device: Mapping[str, Any], before: Mapping[str, Any]) -> List[str]:
    """What the reader should know about the state the device was found in."""
    found = []
    load, cores = before.get("load_average"), device.get("physical_cores") or 1
    if load and load[0] > 0.5 * cores:
        found.append(f"load average {load[0]:.1f} on {cores} cores before the measurement")
    if device.get("governor") not in (None, "performance"):
        found.append(f"the CPU governor is {device['governor']}; nothing was changed")
    hot = _hot(before)
    if hot:
        found.append(f"{hot} before the measurement; let it cool down first")
    bits = before.get("throttle_bits") or 0
    return found + [text for bit, text in PI_BITS.items() if bits >> bit & 1]


def _counted(moments: Moments) -> List[str]:
    found = []
    stopped = _rise(moments, "quota_stops")
    if stopped:
        found.append(f"the container's CPU quota stopped the process {stopped} times")
    heat = _rise(moments, "heat_stops")
    if heat:
        found.append(f"the CPU slowed down for its heat {heat} times")
    return found


def _rise(moments: Moments, key: str) -> int:
    known: List[int] = [m[key] for m in moments if m.get(key) is not None]
    return known[-1] - known[0] if known else 0


def _pi(moments: Moments) -> List[str]:
    """What holds it back at a moment, and what did between two: bits 16 to 19 keep that."""
    known: List[int] = [m["throttle_bits"] for m in moments if m.get("throttle_bits") is not None]
    now = 0
    for bits in known:
        now |= bits
    since = new_bits(known[0], known[-1]) if known else 0
    found = [text for bit, text in PI_BITS.items() if bit < SINCE_BOOT and now >> bit & 1]
    return found + [
        PI_BITS[bit].replace("since boot", "between two looks")
        for bit in PI_BITS
        if bit >= SINCE_BOOT and since >> bit & 1 and not now >> bit - SINCE_BOOT & 1
    ]


def new_bits(first: int, last: int) -> int:
    """Those of Raspberry Pi's bits since boot that were set in the meantime."""
    return (last & ~first) >> SINCE_BOOT << SINCE_BOOT


def _slowed(moments: Moments) -> List[str]:
    """Cooling at work, else a clock that fell while it was hot."""
    kinds = sorted({kind for one in moments for kind in one.get("slowed_by") or ()})
    if kinds:
        return [f"the system slowed it down against heat ({', '.join(kinds)})"]
    fastest = 0
    for one in moments:
        now = max(one.get("core_khz") or [0])
        hot = _hot(one)
        if now and now < FELL * fastest and hot:
            return [f"the CPU's clock fell from {_ghz(fastest)} to {_ghz(now)} while {hot}"]
        fastest = max(fastest, now)
    return []


def _hot(moment: Mapping[str, Any]) -> Optional[str]:
    """The zone nearest to its trip point, if it is near."""
    degrees: Dict[str, float] = moment.get("temperature_c") or {}
    trips: Dict[str, float] = moment.get("trip_c") or {}
    gaps = {zone: trips[zone] - degrees[zone] for zone in set(trips) & set(degrees)}
    nearest = min(gaps, key=lambda zone: (gaps[zone], zone), default=None)
    if nearest is None or gaps[nearest] > NEAR_C:
        return None
    return f"{nearest} was at {degrees[nearest]:g} C, near its trip point of {trips[nearest]:g} C"


def _cards(moments: Moments) -> List[str]:
    """What slowed a graphics card down, each reason once."""
    found: Dict[str, None] = {}  # keeps the order
    for one in moments:
        for card in one.get("gpus") or ():
            for reason in card.get("slowed_by") or ():
                found[f"{card['name']} was slowed down by {reason}"] = None
    return list(found)


def _ghz(khz: float) -> str:
    return f"{khz / 1e6:.2f} GHz"
