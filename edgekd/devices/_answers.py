"""What the agent answers, task by task: what comes from a device is checked before it is read.

The agent that was sent would not say anything else; what stands in its place on a device may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgekd.agent.states import STATES
from edgekd.devices._device import Event
from edgekd.devices._kinds import (
    AMOUNT,
    ANY,
    COUNT,
    LOGIT,
    LONG,
    NUMBER,
    SOME,
    TEXT,
    TIME,
    TRUTH,
    WHOLE,
    Each,
    Kind,
    Maybe,
    OneOf,
    fault,
    unsound,
)

KNOWN = ("attached", "beat", "hello", "note", "progress", "samples", "result", "error")
"""Events of the agent's; another one says nothing to anybody here."""
MOST_PARTS = 2_000_000
"""Brackets and quotes of a line: each of them takes far more memory than its byte."""

_STATE = OneOf(STATES)
_ESTIMATE = {"value": Maybe(TIME), "lo": Maybe(AMOUNT), "hi": Maybe(AMOUNT), "method": TEXT}
_KNOWN_ESTIMATE = {**_ESTIMATE, "value": TIME}
_VERDICT = {"state": _STATE, "reasons": [TEXT]}
_CARD = {"name": TEXT, "slowed_by": Maybe([TEXT]), "temperature_c": Maybe(NUMBER)}
_CLUSTER = {"cpus": [COUNT], "part": Maybe(TEXT), "max_khz": Maybe(COUNT), "capacity": Maybe(COUNT)}
_DEVICE = {
    **dict.fromkeys(("soc", "gpu", "power_mode", "governor"), Maybe(TEXT)),
    **dict.fromkeys(("cpu", "os", "kernel", "machine", "python"), TEXT),
    "cpu_flags": [TEXT],
    "ram_bytes": Maybe(COUNT),
    "physical_cores": SOME,
    "affinity": [COUNT],
    "core_max_khz": Maybe([COUNT]),
    "clusters": [_CLUSTER],
}
_MOMENT = {
    "load_average": Maybe([NUMBER]),
    "free_bytes": Maybe(COUNT),
    "core_khz": Maybe([COUNT]),
    "devfreq": Maybe(Each({"khz": COUNT, "max_khz": Maybe(COUNT)})),
    "temperature_c": Maybe(Each(NUMBER)),
    "trip_c": Maybe(Each(NUMBER)),
    "slowed_by": Maybe([TEXT]),
    "heat_stops": Maybe(COUNT),
    "quota_stops": Maybe(COUNT),
    "throttle_bits": Maybe(COUNT),
    "gpus": Maybe([_CARD]),
}
_TIMING = {
    "warmup": {"n": COUNT, "reason": TEXT},
    "n": SOME,
    **dict.fromkeys(("seconds", "min", "cov", "kept_share", "cpu_ms"), NUMBER),
    "mean": TIME,
    "mean_interval": Maybe((NUMBER, NUMBER)),
    "median": _KNOWN_ESTIMATE,
    **dict.fromkeys(("median_undisturbed", "p10", "p50", "p90", "p95", "p99", "p99.9"), _ESTIMATE),
    "drift_pct_per_min": Maybe(NUMBER),
}
_RUN = {"median": TIME, "p95": Maybe(TIME), "cpu_ms": NUMBER, "n": SOME}
_MINUTE = {
    **_RUN,
    "minute": AMOUNT,
    "kept_share": NUMBER,
    "temperature_c": Maybe(NUMBER),
    "core_khz": Maybe(COUNT),
    "throttle_bits": Maybe(COUNT),
    "load": Maybe(NUMBER),
}
_SWEEP = {
    "rows": [{**_RUN, "threads": SOME, "spinning": TRUTH, "state": _STATE}],
    "best_latency": COUNT,
    "best_cpu": COUNT,
}
_ENERGY = {
    **dict.fromkeys(("j_per_inference", "idle_w", "busy_w", "rate_hz", "seconds"), NUMBER),
    "j_interval": (NUMBER, NUMBER),
    "scope": OneOf(("board", "rail")),
    "meter": TEXT,
    "n": SOME,
}
_ENGINE = {
    "sha256": TEXT,
    "size_bytes": COUNT,
    "precision": Maybe(TEXT),
    "shares": Maybe(Each(NUMBER)),
    "key": Maybe(Each(ANY)),
    "rebuilt": Maybe(TEXT),
}
_MODEL = {
    "runtime": {
        **dict.fromkeys(("name", "version", "provider"), TEXT),
        **dict.fromkeys(("node_share", "time_share"), Each(NUMBER)),
    },
    "engine": Maybe(_ENGINE),
    "metadata": Each(LONG),
    "threads": COUNT,
    "input": TEXT,
    "clock": OneOf(("inference", "end_to_end", "compute")),
    **dict.fromkeys(("load_ms", "first_ms"), AMOUNT),
    "peak_rss_bytes": Maybe(COUNT),
    "peak_device_bytes": Maybe(COUNT),
    "unified_memory": TRUTH,
    "layers": Maybe([{"name": LONG, "type": LONG, "ms": AMOUNT, "pct": NUMBER}]),
    "answers": Maybe([[Maybe(LOGIT)]]),
    "affinity": [COUNT],
    "timing": _TIMING,
    "verdict": _VERDICT,
    "reopened": TRUTH,
    "accuracy": Maybe({"predictions": [COUNT], "top5_hits": Maybe(COUNT)}),
    "sweep": Maybe(_SWEEP),
    "sustained": [_MINUTE],
    "energy": Maybe(_ENERGY),
}
_COMPARISON = {
    **dict.fromkeys(("a", "b", "sentence"), TEXT),
    "ratio": _KNOWN_ESTIMATE,
    "null": _KNOWN_ESTIMATE,
    "basis": OneOf(("undisturbed runs", "all runs")),
    **_VERDICT,
}
_PACKAGE = {
    **dict.fromkeys(("version", "path", "error"), Maybe(TEXT)),
    "providers": [TEXT],
}
_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "pillow")
_INSPECTION = {
    "label": TEXT,
    "shares": Each(NUMBER),
    "counts": Each(COUNT),
    "layers": [(LONG, LONG, LONG)],
}
_PROBED = {"tensorrt": Maybe({"version": Maybe(TEXT)})}

RESULTS: dict[str, Mapping[str, Any]] = {
    "describe": {"device": _DEVICE, **_PROBED},
    "survey": {
        "device": _DEVICE,
        **dict.fromkeys(("python", "executable", "machine"), TEXT),
        "glibc": Maybe(TEXT),
        "bits": COUNT,
        "packages": dict.fromkeys(_PACKAGES, _PACKAGE),
        "trtexec": Maybe(TEXT),
        "disk_free_bytes": Maybe(COUNT),
        "writable": TRUTH,
        "meters": [{"name": TEXT, "scope": TEXT, "note": TEXT}],
        "moment": _MOMENT,
        "warnings": [TEXT],
        "lock": Maybe(TEXT),
        "uptime_s": Maybe(AMOUNT),
    },
    "profile": {
        "device": _DEVICE,
        "warnings": [TEXT],
        "moments": dict.fromkeys(("before", "during", "after"), _MOMENT),
        "models": [_MODEL],
        "comparisons": [_COMPARISON],
    },
    "build": {
        "engine": TEXT,
        "logits": TEXT,
        "bytes": COUNT,
        "built": TRUTH,
        "typed": TRUTH,
        "seconds": AMOUNT,
        **dict.fromkeys(("maker", "timing_cache"), TEXT),
        "key": {**dict.fromkeys(("tensorrt", "gpu"), TEXT)},
        "inspection": _INSPECTION,
    },
    "furnish": {"python": TEXT, "versions": Each(TEXT)},
}
"""The last word of each task."""
_STEPS: dict[str, Mapping[str, Any]] = {
    "timing": {"seconds": NUMBER, "median_ms": Each(NUMBER)},
    "row": {"row": {"minute": AMOUNT, "median": NUMBER}},
    "done": {"done": AMOUNT, "of": AMOUNT},
}
_COLUMNS = ("at_ns", "wall_ns", "cpu_ns", "disturbed", "block")
_SAMPLES = {
    "model": Maybe(COUNT),
    "null_pair": TRUTH,
    **{column: [WHOLE] for column in _COLUMNS},
}
_KIND = Kind("a text", lambda value: isinstance(value, str))


def read_event(line: str) -> Event | None:
    """One of the agent's lines; None where a library wrote to standard output.

    Raises:
        ValueError: it is no such line and would be read as one; with what is wrong, in words.
    """
    if not line.lstrip().startswith("{"):
        return None
    if sum(map(line.count, '[{"')) > MOST_PARTS:
        raise ValueError(f"a line of more than {MOST_PARTS:,} parts")
    try:
        event = json.loads(line)
        if "\\ud" in line.lower():  # half of a character, as of a path that is not UTF-8
            whole = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")
            event = json.loads(whole)
    except RecursionError as error:
        raise ValueError("something nested too deep") from error
    except ValueError:
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    wrong = unsound(event) or fault(event["event"], _KIND, "event") or _of_any_task(event)
    if wrong:
        raise ValueError(wrong)
    return event


def _of_any_task(event: Event) -> str:
    if event["event"] == "error":
        return fault(event, {"message": LONG}, "error")
    return fault(event, {"text": LONG}, "note") if event["event"] == "note" else ""


def check(event: Event, task: str) -> None:
    """See that an event of a task is what the agent says of such.

    Raises:
        ValueError: it is not; with what is wrong, in words.
    """
    kind, wrong = event["event"], ""
    if kind == "result" and task in RESULTS:
        wrong = fault(event, RESULTS[task], task) or (_beyond(event) if task == "profile" else "")
    elif kind == "progress" and task == "profile":
        wrong = fault(event, _step_of(event), "progress")
    elif kind == "samples":
        wrong = fault(event, _SAMPLES, "samples")
        if not wrong and len({len(event[column]) for column in _COLUMNS}) > 1:
            wrong = "samples has columns of different lengths"
    if wrong:
        raise ValueError(wrong)


def _step_of(event: Event) -> Mapping[str, Any]:
    shape = _STEPS["timing"] if event.get("step") == "timing" else {}
    for key in ("row", "done"):
        if not shape and key in event:
            shape = _STEPS[key]
    return {"step": TEXT, **shape}


def _beyond(result: Event) -> str:
    """Places that are not there: the best rows of a sweep."""
    for number, model in enumerate(result["models"]):
        sweep = model["sweep"]
        if sweep and max(sweep["best_latency"], sweep["best_cpu"]) >= len(sweep["rows"]):
            return f"profile.models[{number}].sweep names a row that it does not have"
    return ""
