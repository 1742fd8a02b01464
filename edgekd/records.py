"""Records: what the agent found, in the stable names of ``profile.schema.json``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekd import __version__, intervals
from edgekd.agent.failures import AgentError
from edgekd.agent.onnx_file import read_onnx
from edgekd.errors import UsageError
from edgekd.files import read_json, sha256
from edgekd.schema import RECORD

WAIT = "runtime's default"
"""How the CPU waits for a GPU: nothing sets it, so CUDA spins or sleeps as it sees fit."""
ENGINE = ".plan"
"""Of TensorRT; no other runtime reads it."""


def measured(
    path: Path,
    one: Mapping[str, Any],
    found: Mapping[str, Any],
    device: str,
    policy: Mapping[str, Any],
    head: Mapping[str, Any],
) -> dict[str, Any]:
    """One model's record, with the names of the schema."""
    facts, verdict = found["device"], one["verdict"]
    loads = {name: round(one[name], 3) for name in ("load_ms", "first_ms")}
    return {
        **head,
        "recipe_sha256": one["metadata"].get("edgekd.recipe_sha256"),
        "artifact": _artifact(path, one["metadata"], one.get("engine")),
        "device": {"profile": device} | {name: facts[name] for name in _DEVICE},
        "runtime": one["runtime"],
        "policy": _policy(policy, one, found),
        "timing": loads | one["timing"],
        "sweep": one["sweep"],
        "sustained": one["sustained"],
        "memory": {
            "peak_rss_bytes": one["peak_rss_bytes"],
            "peak_device_bytes": one["peak_device_bytes"],
            "unified": one["unified_memory"],
        },
        "energy": one["energy"],
        "layers": one["layers"],
        "verdict": {
            "state": verdict["state"],
            "budget": None,
            "reasons": verdict["reasons"] + _another(one.get("engine")) + found["warnings"],
        },
        "evidence": {
            "facts": facts,
            "asked": dict(policy),
            "reopened": one["reopened"],
            **found["moments"],
        },
    }


_DEVICE = ("soc", "cpu", "gpu", "ram_bytes", "os", "kernel", "power_mode", "governor")


def _policy(
    asked: Mapping[str, Any], one: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, Any]:
    """How it was measured, as it came about."""
    on_cpu = asked["provider"].startswith("CPU")
    transfers = "excluded" if one["clock"] == "compute" else "included"
    return {
        "clock": one["clock"],
        "batch_size": asked["batch_size"],
        "threads": one["threads"],
        "spinning": asked["spinning"] if asked["runtime"] == "ort" else None,
        "wait": None if on_cpu else WAIT,
        "affinity": one["affinity"],
        "cuda_graph": None if on_cpu else False,  # each run is enqueued anew, as in an application
        "transfers": None if on_cpu else transfers,
        "input": one["input"],
        "order": "interleaved" if found["comparisons"] else "alone",
    }


def head() -> dict[str, Any]:
    """What every record of a run begins with."""
    return {
        **RECORD.head,
        "edgekd_version": __version__,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _another(engine: Mapping[str, Any] | None) -> list[str]:
    """Say so where another engine was measured than the one that was given."""
    if engine is None or engine["rebuilt"] is None:
        return []
    return [f"the engine was built again on the device and that one measured: {engine['rebuilt']}"]


def _artifact(
    path: Path, metadata: Mapping[str, str], engine: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The file that was given, by its hash; and the engine that was run, where there is one.

    The precision found is that of what was run.
    """
    files = [path]
    if path.suffix == ENGINE:  # what lies beside it is not needed to run it
        facts = _engine_facts(path)
    else:
        opset, precision = graph_facts(path) if path.suffix == ".onnx" else (None, None)
        asked = metadata.get("edgekd.precision")
        facts = {"opset": opset, "precision_asked": asked, "precision_found": precision}
        files += beside(path)
    if engine is not None:
        facts["precision_found"] = engine["precision"]
    return {
        "sha256": sha256(path),
        "format": path.suffix.lstrip("."),
        **facts,
        "size_bytes": sum(file.stat().st_size for file in files),
        "engine": None if engine is None else dict(engine),
    }


def graph_facts(path: Path) -> tuple[int | None, str]:
    """Opset, and the precision the graph really has: its operators, else most of its weights.

    Raises:
        UsageError: it is not an ONNX model, or its weights lie elsewhere than beside it.
    """
    try:
        found = read_onnx(path)
    except AgentError as error:
        raise UsageError(str(error)) from error
    if QUANTISED & set(found.operators):
        return found.opset, "int8"
    most = max(found.weights, key=found.weights.__getitem__, default="FLOAT")
    return found.opset, _FLOATS[most]


QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
_FLOATS = {"FLOAT": "fp32", "FLOAT16": "fp16", "DOUBLE": "fp64", "BFLOAT16": "bf16"}


def failure(device: str, models: Sequence[str], message: str) -> dict[str, Any]:
    """That a device could not measure models, where others could."""
    found = {"device": device, "models": list(models), "message": message}
    return head() | {"failure": found}


def accuracy(
    answers: Mapping[str, Any] | None, truth: Sequence[int] | None
) -> dict[str, Any] | None:
    """What the agent's answers are worth; None where it was given no images."""
    if answers is None:
        return None
    record = intervals.accuracy(answers["predictions"], truth)
    hits = answers["top5_hits"]
    return record | {
        "top5": None if hits is None else hits / record["n"],
        "disagreements": None,
    }


def sample_lines(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows, for JSONL, of a ``samples`` event: one for each timed run, in order."""
    columns = ("at_ns", "wall_ns", "cpu_ns", "disturbed", "block")
    for run, values in enumerate(zip(*(event[column] for column in columns), strict=True)):
        yield {
            "model": event["model"],
            "null_pair": event["null_pair"],
            "run": run,
            **dict(zip(columns, values, strict=True)),
        }


def beside(path: Path) -> list[Path]:
    """What has to go with a model's file, where it is there.

    ONNX keeps big weights in a second file. An engine has its key, which says whom it fits, and the
    graph that a device builds it again from, where it does not.
    """
    names = [path.name + ".data"]
    if path.suffix == ENGINE:
        graph = path.with_suffix(".onnx").name
        names = [path.name + ".json", graph, graph + ".data"]
    there = [file for file in map(path.with_name, names) if file.is_file()]
    return [file for file in there if _belongs(file, path)]


def _belongs(file: Path, model: Path) -> bool:
    """Whether it lies where the model does: a link to elsewhere would have that file sent along."""
    real = file.resolve()
    return real.parent in (file.parent.resolve(), model.resolve().parent)


def _engine_facts(path: Path) -> dict[str, Any]:
    """What an engine was asked to be, by what lies beside it; the device says what it is."""
    try:
        side = read_json(path.with_name(path.name + ".json"))
        asked = side["key"]["options"]["precision"]
    except (OSError, ValueError, KeyError, TypeError):  # of another's making
        asked = None
    return {"opset": None, "precision_asked": asked, "precision_found": None}
