"""Engines kept beside their keys: what an engine was built for, and why it no longer fits.

Beside ``model.plan`` lies ``model.plan.json``, with the key and what was found in the engine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from edgekd.agent.tensorrt.cuda import Cuda, probe
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.timing import write_aside

CHUNK = 1 << 20
BUILDER = 2
"""Raised whenever engines are built in another way, so that older ones are not taken for it."""
WORDS = {"gpu": "GPU", "capability": "compute capability", "tensorrt": "TensorRT", "cuda": "CUDA"}


@dataclass(frozen=True)
class Place:
    """What an engine depends on beside its graph."""

    gpu: str
    capability: str
    tensorrt: str
    cuda: str

    @classmethod
    def here(cls, tensorrt: str, cuda: Optional[str] = None) -> Place:
        """This device, its first GPU; CUDA's runtime is asked for its version unless given."""
        gpu = probe().gpus[0]
        return cls(gpu.name, gpu.capability, tensorrt, cuda or Cuda().version)


def key_of(spec: BuildSpec, place: Place) -> Dict[str, Any]:
    """All that decides what engine comes out."""
    table = {"builder": BUILDER, "onnx": digest(spec.onnx), "options": spec.options()}
    return {**asdict(place), **table}


def digest(onnx: Path) -> str:
    """sha256 of an ONNX file, and of the weights beside it, where they are apart."""
    whole = hashlib.sha256()
    for file in (onnx, onnx.with_name(onnx.name + ".data")):
        if file.is_file():
            with file.open("rb") as stream:
                chunk = stream.read(CHUNK)
                while chunk:
                    whole.update(chunk)
                    chunk = stream.read(CHUNK)
    return whole.hexdigest()


def plan_file(onnx: Path, key: Mapping[str, Any]) -> Path:
    """Where an engine of a key is kept."""
    text = json.dumps(key, sort_keys=True).encode("utf-8")
    return onnx.with_name(f"{onnx.stem}.{hashlib.sha256(text).hexdigest()[:12]}.plan")


def side_file(plan: Path) -> Path:
    return plan.with_name(plan.name + ".json")


def read_side(plan: Path) -> Optional[Dict[str, Any]]:
    """What lies beside an engine; None if nothing that can be read does."""
    try:
        table = json.loads(side_file(plan).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and _is_whole(table) else None


def _is_whole(table: Mapping[str, Any]) -> bool:
    """Whether a side file has what is read of it; what another program wrote may not."""
    key, found = table.get("key"), table.get("inspection")
    return (
        isinstance(key, dict)
        and isinstance(key.get("options"), dict)
        and isinstance(found, dict)
        and isinstance(found.get("shares"), dict)
        and isinstance(found.get("label"), str)
    )


def keep_plan(plan: Path, data: bytes, side: Mapping[str, Any]) -> None:
    """Write an engine; what lies beside it comes last, and makes it valid."""
    write_aside(plan, data)
    write_aside(side_file(plan), json.dumps(side, sort_keys=True).encode("utf-8"))


def mismatch(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> Optional[str]:
    """Why an engine does not fit, in one line; None if it does."""
    for name, word in WORDS.items():
        if kept.get(name) != wanted[name]:
            return f"{word} {wanted[name]} here, the engine is for {kept.get(name)}"
    if kept.get("onnx") != wanted["onnx"]:
        return "the ONNX file is another than the engine was built from"
    old, now = kept.get("options") or {}, wanted["options"]
    for name in now:
        if old.get(name) != now[name]:
            return f"{name} {now[name]} asked for, the engine has {old.get(name)}"
    if kept.get("builder") != wanted["builder"]:
        return "this edgekd builds engines in another way than the one that made it"
    return None


def nearest_reason(onnx: Path, wanted: Mapping[str, Any]) -> Optional[str]:
    """Why none of the engines beside an ONNX file fits; None if there are none."""
    plans = sorted(  # no pattern: a name may hold brackets
        file
        for file in onnx.parent.iterdir()
        if file.suffix == ".plan" and file.name.startswith(onnx.stem + ".")
    )
    sides = [side["key"] for side in map(read_side, plans) if side is not None]
    nearest = min(sides, key=lambda kept: _differences(kept, wanted), default=None)
    return None if nearest is None else mismatch(nearest, wanted)


def _differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> int:
    """How many things a key has otherwise."""
    old, now = kept["options"], wanted["options"]
    own = [name for name in wanted if name != "options"]
    pairs = [(kept.get(name), wanted[name]) for name in own]
    pairs += [(old.get(name), now[name]) for name in now]
    return sum(1 for one, other in pairs if one != other)
