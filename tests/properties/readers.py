"""Everything that reads what came from outside, in one shape: for the properties and the fuzzer.

Each takes any bytes, and either reads them or refuses them in words that are meant for the user;
what else it raises is a defect. What was read has to be what it says it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_type_hints

from edgekd.agent.failures import AgentError
from edgekd.agent.job import Job
from edgekd.agent.onnx_file import read_onnx
from edgekd.agent.worker import read_job
from edgekd.artifact import MANIFEST, MODEL_FILES, Artifact
from edgekd.boards import Board, read_board
from edgekd.budget import METRICS, Budget
from edgekd.devices import Device, Event
from edgekd.devices._answers import RESULTS
from edgekd.devices._following import FINAL, OF_THE_LINK, Following
from edgekd.devices._listening import FloodError, _lines
from edgekd.errors import ArtifactError, DeviceError, RecipeError, UnknownNameError, UsageError
from edgekd.files import sha256
from edgekd.recipe import Recipe, recipe_from
from edgekd.scouting.reading import Network, read_space

HERE = Path(__file__).parent
MODEL = b"the bytes of a model"
TRUE = json.loads((HERE.parent / "fixtures" / "answers.json").read_text())
"""What agents really said, task by task."""
DEVICE = TRUE["describe"][-1]["device"]
LINES = (
    {"event": "hello", "agent": 2, "pid": 1, "device": DEVICE},
    {"event": "attached"},
    {"event": "progress", "step": "timing", "model": "a", "seconds": 1.0, "median_ms": {"a": 2.5}},
    {"event": "beat"},
    {"event": "note", "text": "what it has to say"},
    {"event": "error", "kind": "model", "message": "it cannot be loaded"},
    {"event": "result", "device": DEVICE, "tensorrt": None},
)


@dataclass(frozen=True)
class Reader:
    """One of them."""

    read: Callable[[bytes, Path], None]
    """Given the bytes and an empty folder; it raises what is a defect, and nothing else."""
    seeds: Sequence[bytes]
    """What is read to its end, and what nearly is: where a fuzzer begins."""
    words: Sequence[str] = ()
    """What a fuzzer would hardly find by itself."""


def _recipe(data: bytes, folder: Path) -> None:
    file = folder / "own.toml"
    file.write_bytes(data)
    try:
        made = Recipe.load(file)
    except (RecipeError, UnknownNameError) as error:
        _in_words(error)
        return
    again = recipe_from(tomllib.loads(made.to_toml()))
    assert again == made
    assert again.sha256 == made.sha256


def _override(data: bytes, folder: Path) -> None:
    text = os.fsdecode(data)  # as Python takes an argument of the command line
    try:
        made = recipe_from({}, [text])
    except RecipeError as error:
        _in_words(error)
        return
    assert isinstance(made.sha256, str)


def _budget(data: bytes, folder: Path) -> None:
    try:
        budget = Budget.parse(os.fsdecode(data))
    except UsageError as error:
        _in_words(error)
        return
    assert Budget.parse(str(budget)) == budget
    for clause in budget.clauses:
        assert clause.bound > 0 or clause.metric == "top1_drop"
        assert clause.bound <= 1 or METRICS[clause.metric].unit != "%"


def _manifest(data: bytes, folder: Path) -> None:
    (folder / MANIFEST).write_bytes(data)
    for name in MODEL_FILES.values():
        (folder / name).write_bytes(MODEL)
    (folder.parent / "outside").write_bytes(MODEL)
    try:
        found = Artifact.open(folder)
    except ArtifactError as error:
        _in_words(error)
        return
    names = found.manifest["files"]
    assert found.model_file.name in names
    for name, entry in names.items():
        file = folder / name
        assert file.parent == folder
        assert file.name == name
        assert sha256(file) == entry["sha256"]


def _board(data: bytes, folder: Path) -> None:
    file = folder / "own.toml"
    file.write_bytes(data)
    try:
        board = read_board(str(file))
    except (RecipeError, UnknownNameError) as error:
        _in_words(error)
        return
    assert board.runtime in ("ort", "openvino", "trt") or board.measure.runtime
    assert all(trap.text and trap.source for trap in board.traps)


def _candidates(data: bytes, folder: Path) -> None:
    file = folder / "own.toml"
    file.write_bytes(data)
    try:
        space = read_space(str(file))
    except (RecipeError, UnknownNameError) as error:
        _in_words(error)
        return
    assert space.networks
    for network in space.networks:
        assert all(side > 0 for side in space.sizes_of(network, [], 32))


def _protocol(data: bytes, folder: Path) -> None:
    """What an agent says, from the bytes on the link to the last event.

    The first line names the task, where it is the name of one.
    """
    first, _, rest = data.partition(b"\n")
    task = next((name for name in RESULTS if name.encode() == first), "")
    said = folder / "said"
    said.write_bytes(rest if task else data)
    told: list[Event] = []
    with said.open("rb") as pipe, Path(os.devnull).open("rb") as nothing:
        process = cast("Any", SimpleNamespace(stdout=pipe, poll=lambda: None))
        device = cast("Device", _Speaker(lambda: _lines(process, nothing.fileno())))
        following = Following(device, ["agent"], "job.json", 60.0, 0.0, told.append, task)
        try:
            last = following.follow()
        except DeviceError as error:
            _in_words(error)
        else:
            assert last["event"] in FINAL
    assert all(isinstance(event["event"], str) for event in told)
    assert not any(event["event"] in FINAL for event in told)
    assert following.heard >= sum(event["event"] not in (*OF_THE_LINK, "note") for event in told)


@dataclass(frozen=True)
class _Speaker:
    """A device whose program says what was written down, and ends."""

    lines: Callable[[], Any]
    name: str = "board"
    python: str = "python3"
    alone_s: float = 10.0

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        silence: float = float("inf"),
    ) -> str:
        said = []
        try:
            for line in () if "stop" in argv else self.lines():
                said.append(line)
                if on_line is not None:
                    on_line(line)
        except FloodError as error:
            raise DeviceError("it said too much") from error
        return "".join(said)


def _job(data: bytes, folder: Path) -> None:
    """What an agent is given."""
    file = folder / "job.json"
    file.write_bytes(data)
    (folder / "a.onnx").write_bytes(MODEL)
    try:
        read_job(file)
        job = Job.read(file)
    except AgentError as error:
        _in_words(error)
        return
    assert all(model.path.is_file() for model in job.models)


def _onnx(data: bytes, folder: Path) -> None:
    file = folder / "a.onnx"
    file.write_bytes(data)
    try:
        found = read_onnx(file)
    except AgentError as error:
        _in_words(error)
        return
    assert found.precision in ("fp32", "fp16", "int8")
    assert found.opset > 0
    assert 0 <= found.multiplications <= len(data)
    json.dumps({"operators": found.operators, "weights": found.weights})  # goes into records


def _in_words(error: Exception) -> None:
    """That it can be told; a terminal's codes in it are spelt out where it is printed."""
    text = str(error)
    assert text.strip()
    assert "Traceback" not in text


def _names(kind: Any, within: str = "") -> list[str]:
    """The keys of a dataclass and of those inside of it."""
    found = []
    for name, own in get_type_hints(kind).items():
        found.append(name)
        found += _names(own, name) if is_dataclass(own) else []
    return found


def _manifest_seed() -> bytes:
    manifest = {
        "schema_version": 1,
        "kind": "onnx",
        "role": "student",
        "created": "2026-01-02T03:04:05+00:00",
        "files": {"model.onnx": {"sha256": hashlib.sha256(MODEL).hexdigest(), "bytes": len(MODEL)}},
        "model": {"name": "resnet8", "arguments": {}, "parameters": 78042, "macs": 12_000_000},
        "input": {
            "size": [32, 32],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.2, 0.2, 0.2],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "dtype": "uint8",
            "layout": "NHWC",
        },
        "labels": ["a", "b"],
        "metrics": {"test": {"top1": 0.5, "top5": None, "loss": 1.0, "n": 100}},
        "recipe": Recipe().to_dict(),
        "method": "ce + 0.9*kd",
        "parent": {"sha256": "00", "name": "resnet20"},
        "licence": [],
        "versions": {"torch": "2.9"},
        "training": None,
        "export": {"opset": 18, "precision": "fp32"},
    }
    return json.dumps(manifest).encode()


def _job_seed() -> bytes:
    job = {
        "agent": 2,
        "task": "profile",
        "runtime": "ort",
        "policy": {"threads": 1, "batch_size": 1, "provider": "CPUExecutionProvider"},
        "models": [{"name": "a", "path": "a.onnx"}],
        "preprocess": None,
    }
    return json.dumps(job).encode()


def _onnx_seed() -> bytes:
    """A ModelProto: an opset, metadata, and a graph of two nodes and two weights."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number * 8 + 2, len(content)]) + content

    weight = b"\x08\x03\x08\x02" + b"\x10\x01"  # dims 3 and 2, FLOAT
    packed = field(1, b"\x03\x02") + b"\x10\x0a"  # the same, packed; FLOAT16
    nodes = field(1, field(4, b"Conv")) + field(1, field(4, b"Relu"))
    graph = nodes + field(5, weight) + field(5, packed)
    opset = field(8, field(1, b"") + b"\x10\x12")
    return opset + field(14, field(1, b"edgekd.precision") + field(2, b"fp32")) + field(7, graph)


def _lines_of(*events: Any) -> bytes:
    return "".join(f"{json.dumps(event)}\n" for event in events).encode()


RECIPE = Recipe().to_toml().encode()
BOARD = b"""title = "a board"
match = ["x86_64( avx2)?"]
meters = ["rapl"]
[export]
opset = 17
precisions = ["fp32", "fp16"]
[measure]
threads = 4
affinity = "4-7"
[[traps]]
text = "what goes wrong"
source = "measured"
when = "onnxruntime 1.21"
"""
CANDIDATES = b"""title = "ours"
source = "measured, 2 seeds"
sizes = [96, 64]
shares = [1, 0.5]
networks = [{ name = "resnet18", size = 128, top1 = 91.5 }, { name = "resnet20", size = 32 }]
"""
READERS = {
    "recipe": Reader(
        _recipe,
        [RECIPE, b'method = "mgd(ce + 0.9*kd) + 0..1*at"\n[train]\nepochs = 3\n', b"a = [[[["],
        [f"{name} = " for name in _names(Recipe)] + [f"[{one.name}]\n" for one in fields(Recipe)],
    ),
    "override": Reader(
        _override,
        [b"train.epochs=4", b"method=ce + kd", b"method.kd.weight=[0, 1]", b"data.source=./a b"],
        [f"{name}=" for name in _names(Recipe)],
    ),
    "budget": Reader(
        _budget,
        [b"p95<=30ms, top1_drop<=1%, peak_mb<=300", b"fps>=1e2/s,j_per_inf<=5 mJ", b"top1>=.9%"],
        [f"{name}{metric.sense}" for name, metric in METRICS.items()] + ["ms", "us", "MB", "mJ"],
    ),
    "manifest": Reader(
        _manifest,
        [_manifest_seed(), b"{}", b"[]"],
        ['"schema_version": 1', '"kind"', '"onnx"', '"files"', '"sha256"', "model.onnx", "../"],
    ),
    "board": Reader(
        _board,
        [BOARD, b'based_on = "raspberry-pi-5"\n[connect]\naddress = "pi@board"\n'],
        [f"{name} = " for name in _names(Board)] + ["[[traps]]\n", 'based_on = "raspberry-pi-5"\n'],
    ),
    "candidates": Reader(
        _candidates,
        [CANDIDATES, b"networks = [{ size = 32 }]"],
        [f"{name} = " for name in (*_names(Network), "networks", "sizes", "shares", "least")],
    ),
    "protocol": Reader(
        _protocol,
        [_lines_of(*LINES), *(name.encode() + b"\n" + _lines_of(*TRUE[name]) for name in TRUE)],
        [f'"{word}"' for word in ("event", "result", "error", "message", "note", "beat")],
    ),
    "job": Reader(
        _job,
        [_job_seed()],
        [f'"{word}"' for word in ("agent", "models", "name", "path", "policy", "photos")],
    ),
    "onnx": Reader(_onnx, [_onnx_seed()], ["edgekd.precision", "ai.onnx", "QuantizeLinear"]),
}
