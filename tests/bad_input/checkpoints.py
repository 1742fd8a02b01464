"""Weights of others: of another network, of odd numbers, damaged, or made to do harm."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from edgekd.models import zoo
from tests.bad_input.table import Cases, Place

State = dict[str, Tensor]
FIRST = "stem.conv.weight"
HARMFUL = ["could run code", "was not loaded", "safetensors"]
DAMAGED = ["cannot be read as weights; is it whole?"]


def state() -> State:
    """Weights that would fit."""
    torch.manual_seed(0)
    return dict(zoo.create("resnet14", 10).state_dict())


def given(place: Place, content: bytes, name: str = "w.pth") -> list[str | Path]:
    """A command with a file of weights."""
    (place.tmp / name).write_bytes(content)
    return place.distill(teacher=f"resnet14:{place.tmp / name}")


def instead(place: Place, make: Callable[[Path], None]) -> list[str | Path]:
    """A command with something that is no file."""
    make(place.tmp / "w.pth")
    return place.distill(teacher=f"resnet14:{place.tmp / 'w.pth'}")


def saved(value: Any, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def edited(change: Callable[[State], object]) -> Callable[[Place], list[str | Path]]:
    """Good weights with a change, as a file of PyTorch's."""

    def case(place: Place) -> list[str | Path]:
        weights = state()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tensors, that they are
            change(weights)
            return given(place, saved({"state_dict": weights}))

    return case


def replaced(make: Callable[[Tensor], Tensor]) -> Callable[[Place], list[str | Path]]:
    """The first tensor made into another one."""
    return edited(lambda weights: weights.update({FIRST: make(weights[FIRST])}))


def with_value(value: float, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    def make(tensor: Tensor) -> Tensor:
        made = tensor.to(dtype, copy=True)
        made.view(-1)[0] = value
        return made

    return make


# ---- what would run code ----


class Trap:
    """Touches the canary when it is unpickled."""

    def __init__(self, place: Place, kind: str = "system") -> None:
        self._command, self._kind = f"touch {place.tmp / 'canary'}", kind

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self._kind == "eval":
            return builtins.eval, (f"__import__('os').system({self._command!r})",)
        if self._kind == "getattr":
            return getattr, ("", "format")
        return os.system, (self._command,)


def trapped(kind: str, wrap: Callable[[Any], Any], *, zipped: bool = True) -> Any:
    return lambda place: given(place, saved(wrap(Trap(place, kind)), zipped=zipped))


def bare_pickle(place: Place, protocol: int) -> list[str | Path]:
    return given(place, pickle.dumps({"state_dict": Trap(place)}, protocol))


def old_tar(place: Place) -> list[str | Path]:
    """The first format there was: a tar of pickles."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Trap(place))
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return given(place, file.getvalue())


def whole_network(place: Place) -> list[str | Path]:
    """Not its weights: the object itself, with whatever code its class has."""
    return given(place, saved(nn.Sequential(nn.Linear(2, 2))))


def torchscript(place: Place) -> list[str | Path]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps({}))
        archive.writestr("w/constants.pkl", pickle.dumps(()))
        archive.writestr("w/code/__torch__.py", "class M(Module):\n  pass\n")
        archive.writestr("w/version", "3\n")
    return given(place, file.getvalue())


# ---- what would fill the memory ----


def repacked(place: Place, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> Any:
    """Good weights, each member written anew."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(state()))) as whole,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name in whole.namelist():
            change(archive, name, whole.read(name))
    return given(place, file.getvalue())


def inflating(place: Place) -> list[str | Path]:
    """A member of a few kilobytes that unpacks to thirty megabytes; it could be terabytes."""

    def change(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        if name.endswith("/data/0"):
            archive.writestr(name, bytes(30_000_000), zipfile.ZIP_DEFLATED, 9)
        else:
            archive.writestr(name, content)

    found: list[str | Path] = repacked(place, change)
    return found


def claiming(place: Place) -> list[str | Path]:
    """The sizes of its directory changed to four gigabytes each, but for one."""
    content = bytearray(saved(state()))
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFFE)
        at = content.find(b"PK\x01\x02", at + 4)
    return given(place, bytes(content))


def claiming_tensor(place: Place) -> list[str | Path]:
    """An old file whose tensor has a terabyte, and no bytes that would be it."""
    content = saved({FIRST: torch.zeros(1)}, zipped=False)
    count = b"K\x01Nt"  # one number, no view: of the storage
    assert count in content
    return given(place, content.replace(count, b"\x8a\x05\x00\x00\x00\x00\x01Nt"))


def beyond(place: Place) -> list[str | Path]:
    """A tensor that claims more than its own member has, and what it claims lies in another one."""

    def change(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        if name.endswith("/data.pkl"):
            assert content.count(b"M\xb0\x01tq") == 1  # 432 numbers: the first tensor's
            content = content.replace(b"M\xb0\x01tq", b"J\xb0\x01\x02\x00tq")
        archive.writestr(name, content)

    found: list[str | Path] = repacked(place, change)
    return found


def headed(head: Any, body: bytes = b"", claimed: int | None = None) -> bytes:
    """A file of safetensors by hand."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + body


def tensors(place: Place, head: Any, body: bytes = b"", claimed: int | None = None) -> Any:
    return given(place, headed(head, body, claimed), "w.safetensors")


def entry(*offsets: int, shape: tuple[int, ...] = (1,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
TWICE += b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'


# ---- the state of a training ----


def kept(place: Place, content: bytes) -> list[str | Path]:
    """A state in the output folder, to be gone on with."""
    (place.out / "training").mkdir(parents=True)
    (place.out / "training" / "metrics.jsonl").touch()
    (place.out / "training" / "checkpoint.pt").write_bytes(content)
    return place.distill()


def changed_bit(content: bytes, tensor: Tensor) -> bytes:
    """One bit of a tensor's values, which torch.load itself does not notice."""
    raw = tensor.numpy().tobytes()
    at = content.index(raw)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def damaged_state(place: Place) -> list[str | Path]:
    values = torch.arange(100.0) + 0.5
    return kept(place, changed_bit(saved({"version": 1, "w": values}), values))


CASES: Cases = {
    "weights: of another shape": (
        replaced(lambda w: w[:3]),
        2,
        ["does not fit the network", "of another shape: stem.conv.weight"],
    ),
    "weights: missing": (
        edited(lambda w: w.pop(FIRST)),
        2,
        ["does not fit the network", "missing: stem.conv.weight"],
    ),
    "weights: too many": (
        edited(lambda w: w.update({"more": torch.zeros(1)})),
        2,
        ["unexpected: more", "of the very network that was named"],
    ),
    "weights: hostile names": (
        edited(lambda w: w.update({"\x1b[2J\u202e" + 9999 * "x": torch.zeros(1)})),
        2,
        ["unexpected: ", "xxx..."],
    ),
    "weights: head of no classes": (
        edited(lambda w: w.update({"head.fc.bias": torch.tensor(1.0)})),
        2,
        ["of another shape: head.fc.bias"],
    ),
    "weights: fp8": (
        replaced(lambda w: w.to(torch.float8_e4m3fn)),
        2,
        ["stem.conv.weight is float8_e4m3fn", "expected tensors of float32", "scale"],
    ),
    "weights: complex": (replaced(lambda w: w.to(torch.complex64)), 2, ["is complex64"]),
    "weights: int8": (
        replaced(lambda w: w.to(torch.int8)),
        2,
        ["of whole numbers, as quantised ones are: stem.conv.weight"],
    ),
    "weights: quantised": (
        replaced(lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)),
        2,
        ["stem.conv.weight is qint8"],
    ),
    "weights: sparse": (replaced(lambda w: w.to_sparse()), 2, ["is sparse or nested"]),
    "weights: nested": (
        replaced(lambda w: torch.nested.nested_tensor([w[0], w[0, :, :1]])),
        2,
        HARMFUL,
    ),
    "weights: without values": (replaced(lambda w: w.to("meta")), 2, ["is without values"]),
    "weights: NaN": (
        replaced(with_value(float("nan"))),
        2,
        ["holds NaN or infinity", "in: stem.conv.weight", "diverged"],
    ),
    "weights: infinity": (
        replaced(with_value(float("-inf"), torch.float16)),
        2,
        ["holds NaN or infinity, in: stem.conv.weight"],
    ),
    "weights: beyond float32": (
        replaced(with_value(1e300, torch.float64)),
        2,
        ["holds NaN or infinity, in: stem.conv.weight"],
    ),
    "weights: not named": (
        lambda p: given(p, saved([*state().values()])),
        2,
        ["holds no state dict", "a mapping from name to tensor"],
    ),
    "weights: endless": (
        lambda p: given(p, saved({"state_dict": endless()})),
        2,
        ["holds no state dict"],
    ),
    "weights: pickled code": (trapped("system", lambda t: {"state_dict": t}), 2, HARMFUL),
    "weights: code beside them": (
        trapped("system", lambda t: {"state_dict": state(), "optimizer": [{"x": t}]}),
        2,
        HARMFUL,
    ),
    "weights: eval": (trapped("eval", lambda t: OrderedDict(a=t)), 2, HARMFUL),
    "weights: getattr": (trapped("getattr", lambda t: (t,)), 2, HARMFUL),
    "weights: code in an old file": (
        trapped("system", lambda t: {"net": [t]}, zipped=False),
        2,
        HARMFUL,
    ),
    "weights: code in a bare pickle": (lambda p: bare_pickle(p, 2), 2, HARMFUL),
    "weights: code in a newer pickle": (lambda p: bare_pickle(p, 5), 2, DAMAGED),
    "weights: code in a tar": (old_tar, 2, HARMFUL),
    "weights: a whole network": (whole_network, 2, HARMFUL),
    "weights: TorchScript": (torchscript, 2, HARMFUL),
    "weights: zip bomb": (inflating, 2, [*DAMAGED, "claims to unpack to"]),
    "weights: zip of terabytes": (claiming, 2, [*DAMAGED, "claims to unpack to"]),
    "weights: tensor of a terabyte": (claiming_tensor, 2, DAMAGED),
    "weights: beyond its member": (beyond, 2, DAMAGED),
    "weights: cut zip": (lambda p: given(p, saved(state())[:-900]), 2, DAMAGED),
    "weights: empty": (lambda p: given(p, b""), 2, DAMAGED),
    "weights: text": (lambda p: given(p, b"<html>" * 99, "w.bin"), 2, DAMAGED),
    "weights: a folder": (
        lambda p: instead(p, Path.mkdir),
        2,
        ["holds 0 .safetensors files", "no manifest.json"],
    ),
    "weights: a pipe": (
        lambda p: instead(p, os.mkfifo),
        2,
        ["w.pth is a pipe or a device", "expected a file of weights", "Correct the path"],
    ),
    "safetensors: cut": (lambda p: given(p, save(state())[:-4], "w.safetensors"), 2, DAMAGED),
    "safetensors: empty": (lambda p: given(p, b"", "w.safetensors"), 2, DAMAGED),
    "safetensors: endless head": (lambda p: tensors(p, {}, b"", 2**63), 2, DAMAGED),
    "safetensors: large head": (lambda p: tensors(p, b"{" + 10**6 * b" ", b"", 10**9), 2, DAMAGED),
    "safetensors: deep head": (lambda p: tensors(p, b'{"a":' * 10**5), 2, DAMAGED),
    "safetensors: beyond the file": (lambda p: tensors(p, {"a": entry(0, 2**40)}), 2, DAMAGED),
    "safetensors: of exabytes": (
        lambda p: tensors(p, {"a": entry(0, 4, shape=(2**62, 2**62))}, bytes(4)),
        2,
        DAMAGED,
    ),
    "safetensors: overlapping": (
        lambda p: tensors(p, {"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)),
        2,
        DAMAGED,
    ),
    "safetensors: negative": (lambda p: tensors(p, {"a": entry(-4, 0)}, bytes(4)), 2, DAMAGED),
    "safetensors: named twice": (lambda p: tensors(p, TWICE, bytes(8)), 2, DAMAGED),
    "safetensors: odd numbers": (
        lambda p: tensors(p, {"a": entry(0, 4, dtype="F3")}, bytes(4)),
        2,
        DAMAGED,
    ),
    "state: text": (
        lambda p: kept(p, b"not a checkpoint"),
        2,
        ["checkpoint.pt cannot be read; start again with --restart"],
    ),
    "state: cut": (
        lambda p: kept(p, saved({"version": 1})[:-100]),
        2,
        ["checkpoint.pt cannot be read; start again with --restart"],
    ),
    "state: a changed bit": (damaged_state, 2, ["cannot be read", "--restart", "was changed"]),
    "state: code": (
        lambda p: kept(p, saved({"version": 1, "generators": Trap(p)})),
        2,
        ["checkpoint.pt cannot be read; start again with --restart"],
    ),
    "state: of another recipe": (
        lambda p: kept(p, saved({"version": 1, "fingerprint": "00"})),
        2,
        ["unfinished training of another recipe", "--restart"],
    ),
    "state: newer": (
        lambda p: kept(p, saved({"version": 99, "fingerprint": "00"})),
        2,
        ["checkpoint.pt has schema 99", "Update edgekd"],
    ),
    "state: of no version": (
        lambda p: kept(p, saved([torch.zeros(1)])),
        2,
        ["checkpoint.pt has schema None", "--restart"],
    ),
}

KEPT = ["training", "training/checkpoint.pt", "training/metrics.jsonl"]
LEFT = {name: KEPT for name in CASES if name.startswith("state: ")}


def endless() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found
