"""Manifests, proofs and the other tables that edgekd reads back, changed by others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.artifact import MANIFEST
from edgekd.files import sha256
from edgekd.flow.proving import keep
from tests.bad_input.table import Cases, Place
from tests.flow.kept import artifact, record

Words = list[str | Path]
Table = dict[str, Any]
WHOLE = ["manifest.json is not a whole manifest", "Make the artifact again"]


def network(change: Callable[[Table], object]) -> Callable[[Place], Words]:
    """The teacher with its manifest changed, exported."""

    def case(place: Place) -> Words:
        copy = shutil.copytree(place.teacher, place.tmp / "changed")
        table = json.loads((copy / MANIFEST).read_text())
        change(table)
        (copy / MANIFEST).write_text(json.dumps(table))
        return ["export", copy, "-o", place.out]

    return case


def file(change: Callable[[Path], object], verb: str = "deploy") -> Callable[[Place], Words]:
    """An exported artifact with something done to its folder."""

    def case(place: Place) -> Words:
        made = artifact(place.tmp / "made")
        change(made)
        return [verb, made, "-o", place.out]

    return case


def manifest(**entries: Any) -> Callable[[Path], object]:
    """Of an exported artifact; as JSON has it."""

    def change(made: Path) -> None:
        table = json.loads((made / MANIFEST).read_text())
        (made / MANIFEST).write_text(json.dumps({**table, **entries}))

    return change


def text(words: str, name: str = MANIFEST) -> Callable[[Path], object]:
    return lambda made: (made / name).write_text(words)


def replaced(old: str, new: str) -> Callable[[Path], object]:
    """In the text of the manifest."""

    def change(made: Path) -> None:
        said = (made / MANIFEST).read_text()
        assert old in said
        (made / MANIFEST).write_text(said.replace(old, new, 1))

    return change


def linked(made: Path) -> None:
    """The model is a link out of the folder, to other bytes."""
    (made.parent / "secret").write_bytes(b"secret" * 99)
    (made / "model.onnx").unlink()
    (made / "model.onnx").symlink_to(made.parent / "secret")


def looped(made: Path) -> None:
    (made / "model.onnx").unlink()
    (made / "model.onnx").symlink_to("model.onnx")


def piped(made: Path) -> None:
    (made / MANIFEST).unlink()
    os.mkfifo(made / MANIFEST)


def large(made: Path) -> None:
    with (made / MANIFEST).open("r+") as content:
        content.truncate(2**40)  # a terabyte that takes no room


def proved(change: Callable[[Table], object], verb: str = "verify") -> Callable[[Place], Words]:
    """An artifact whose proof was changed."""

    def case(place: Place) -> Words:
        made = artifact(place.tmp / "made")
        proof = keep(made, "local", record(sha256(made / "model.onnx")), None, None, None, None)
        table = json.loads(proof.read_text())
        change(table)
        proof.write_text(json.dumps(table))
        return ["verify", made] if verb == "verify" else [verb, made, "-o", place.out]

    return case


def within(*keys: str, value: Any) -> Callable[[Table], object]:
    """Put a value there, however deep."""

    def change(table: Table) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return change


def told(name: str, words: str) -> Callable[[Place], Words]:
    """A file of a run's own, reported on."""

    def case(place: Place) -> Words:
        folder = place.tmp / "run"
        folder.mkdir()
        (folder / name).write_text(words)
        return ["report", folder, "-o", place.out]

    return case


def weights(place: Place) -> Words:
    """An artifact of which the weights say NaN, and the manifest has their hash."""
    import torch
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(place.teacher, place.tmp / "changed")
    held = load_file(copy / "model.safetensors")
    held["stem.conv.weight"][0] = torch.nan
    save_file(held, copy / "model.safetensors")
    table = json.loads((copy / MANIFEST).read_text())
    whole = copy / "model.safetensors"
    entry = {"sha256": sha256(whole), "bytes": whole.stat().st_size}
    table["files"]["model.safetensors"] = entry
    (copy / MANIFEST).write_text(json.dumps(table))
    return ["export", copy, "-o", place.out]


DEEP = "[" * 10**5 + "]" * 10**5
AGAIN = ["is not a whole proof", "Remove it, and run edgekd profile"]
VERSION = "1.0\nevil @ https://example.org/evil.whl"

CASES: Cases = {
    "manifest: newer": (
        network(lambda m: m.update(schema_version=99)),
        1,
        ["has schema 99; this edgekd reads 1", "Update edgekd"],
    ),
    "manifest: of no version": (
        network(lambda m: m.pop("schema_version")),
        1,
        ["has schema None", "Make the artifact again"],
    ),
    "manifest: hash changed": (
        network(lambda m: m["files"]["model.safetensors"].update(sha256="0" * 64)),
        1,
        ["was changed after it was made"],
    ),
    "manifest: size changed": (
        network(lambda m: m["files"]["model.safetensors"].update(bytes=3)),
        1,
        ["was changed after it was made"],
    ),
    "manifest: file missing": (
        network(lambda m: m["files"].update(more={"sha256": "0" * 64, "bytes": 1})),
        1,
        ["is not complete: more is missing"],
    ),
    "manifest: further up": (
        network(lambda m: m["files"].update({"../x": {"sha256": "", "bytes": 1}})),
        1,
        [*WHOLE, "'../x', outside its folder"],
    ),
    "manifest: absolute": (
        network(lambda m: m["files"].update({"/etc/passwd": {}})),
        1,
        [*WHOLE, "'/etc/passwd', outside its folder"],
    ),
    "manifest: endless name": (
        network(lambda m: m["files"].update({"x" * 5000: {}})),
        1,
        [*WHOLE, "xxx..., outside its folder"],
    ),
    "manifest: hostile name": (
        network(lambda m: m["files"].update({"a\x1b[2J\n": {}})),
        1,
        [*WHOLE, "outside its folder"],
    ),
    "manifest: no files": (network(lambda m: m.update(files=[])), 1, [*WHOLE, "files is []"]),
    "manifest: odd kind": (
        network(lambda m: m.update(kind=[])),
        1,
        [*WHOLE, "kind is []; expected one of network, onnx, tensorrt"],
    ),
    "manifest: huge picture": (
        network(lambda m: m["input"].update(size=[10**9, 10**9])),
        1,
        [*WHOLE, "input.size[0] is 1000000000; expected at most 8192"],
    ),
    "manifest: no deviation": (
        network(lambda m: m["input"].update(std=[0, 1, 1])),
        1,
        [*WHOLE, "input.std[0] is 0; expected more than 0"],
    ),
    "manifest: odd labels": (
        network(lambda m: m.update(labels=[["a"], 3])),
        1,
        [*WHOLE, "labels[0] is ['a']; expected string"],
    ),
    "manifest: another network": (
        network(lambda m: m["model"].update(name="resnet56")),
        2,
        ["does not fit the network"],
    ),
    "manifest: no such network": (
        network(lambda m: m["model"].update(name="hf-hub:theirs/net")),
        2,
        [
            "says that its network is hf-hub:theirs/net, which would be fetched from elsewhere",
            "Make the artifact again",
        ],
    ),
    "manifest: other labels": (
        network(lambda m: m.update(labels=["a", "b"])),
        2,
        ["tells 2: a, b", "the same classes in the same order"],
    ),
    "manifest: odd recipe": (
        network(lambda m: m["recipe"].update(data={"source": 3})),
        2,
        ["data.source is 3"],
    ),
    "manifest: NaN weights": (weights, 2, ["holds NaN or infinity", "stem.conv.weight"]),
    "manifest: not JSON": (file(text("{")), 1, ["manifest.json cannot be read"]),
    "manifest: empty": (file(text("")), 1, ["manifest.json cannot be read"]),
    "manifest: nested": (file(text(DEEP)), 1, ["cannot be read", "nested too deeply"]),
    "manifest: NaN": (
        file(replaced('"crop_pct": 1.0', '"crop_pct": NaN')),
        1,
        ["cannot be read", "NaN, which is no number"],
    ),
    "manifest: too large a number": (
        file(replaced('"crop_pct": 1.0', '"crop_pct": 1e999')),
        1,
        ["cannot be read", "1e999, which is no number"],
    ),
    "manifest: endless number": (
        file(replaced('"parameters": 40', f'"parameters": {"9" * 5000}')),
        1,
        ["cannot be read", "which is no number"],
    ),
    "manifest: said twice": (
        file(replaced('"kind": "onnx"', '"kind": "onnx", "kind": "network"')),
        1,
        ["cannot be read", "says 'kind' twice"],
    ),
    "manifest: a pipe": (file(piped), 1, ["cannot be read", "no plain file"]),
    "manifest: of a terabyte": (file(large), 1, ["cannot be read", "expected at most"]),
    "manifest: model behind a link": (file(linked), 1, ["model.onnx was changed"]),
    "manifest: model in a loop": (file(looped), 1, ["model.onnx is missing"]),
    "manifest: odd time": (file(manifest(created="yesterday")), 1, [*WHOLE, "created is"]),
    "manifest: odd export": (file(manifest(export=[1])), 1, [*WHOLE, "export is [1]"]),
    "manifest: a line for pip": (
        file(manifest(export={"exporter_versions": {"onnxruntime": VERSION}})),
        1,
        ["which is no version", "Export the network again"],
    ),
    "manifest: no input": (
        file(manifest(input={"dtype": "uint8"})),
        1,
        ["does not say how its model takes pictures", "Export the network again"],
    ),
    "proof: newer": (
        proved(lambda p: p.update(schema_version=99)),
        1,
        ["has schema 99; this edgekd reads 1", "Update edgekd"],
    ),
    "proof: odd record": (proved(lambda p: p.update(record=[])), 1, AGAIN),
    "proof: no median": (
        proved(within("record", "timing", value={})),
        1,
        [*AGAIN, "timing has no median"],
    ),
    "proof: odd median": (
        proved(within("record", "timing", "median", "value", value="fast")),
        1,
        [*AGAIN, "timing.median.value is 'fast'"],
    ),
    "proof: a median below zero": (
        proved(within("record", "timing", "median", "value", value=-5.0)),
        1,
        ["timing.median.value is -5.0; expected at least 0", *AGAIN],
    ),
    "proof: odd threads": (
        proved(within("record", "policy", "threads", value=-1)),
        1,
        [*AGAIN, "policy.threads is -1"],
    ),
    "proof: unknown asked": (
        proved(within("record", "evidence", "asked", value={"magic": 1})),
        2,
        ["measured by edgekd 1.0 with magic", "Update edgekd"],
    ),
    "proof: odd asked": (
        proved(within("record", "evidence", "asked", value={"blocks": "many"})),
        2,
        ["blocks = 'many', which it cannot have been"],
    ),
    "proof: endless predictions": (
        proved(lambda p: p.update(predictions=[1e308], images={"sha256": "0", "n": 1})),
        1,
        [*AGAIN, "predictions[0] is 1e+308"],
    ),
    "proof: a line for pip": (
        proved(within("record", "runtime", "version", value=VERSION), "deploy"),
        2,
        ["in version '1.0\\nevil"],
    ),
    "report: run.json": (told("run.json", "[1]"), 2, ["run.json is not a table"]),
    "report: run.json cut": (told("run.json", '{"seconds": {'), 2, ["run.json is not valid JSON"]),
    "report: run.json newer": (
        told("run.json", '{"schema_version": 99}'),
        2,
        ["run.json has schema 99", "Update edgekd"],
    ),
    "report: compare.json nested": (
        told("compare.json", DEEP),
        2,
        ["compare.json is not valid JSON"],
    ),
    "report: profile.json of NaN": (
        told("profile.json", "[NaN]"),
        2,
        ["profile.json is not valid JSON", "NaN"],
    ),
}
