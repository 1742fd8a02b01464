"""Find what a run folder holds and read it into a :class:`RunView`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekd import schema
from edgekd.artifact import MANIFEST, MODEL_FILES, check_unchanged, read_manifest
from edgekd.errors import UsageError
from edgekd.files import sha256
from edgekd.report.addresses import Addresses
from edgekd.report.classes import answered_in
from edgekd.report.curves import training_from
from edgekd.report.measured import measured_from
from edgekd.report.privacy import (
    shareable,
    shareable_command,
    shareable_text,
    shareable_toml,
    without_machine,
)
from edgekd.report.reading import (
    devices_in,
    entries_in,
    others_in,
    own_file,
    read_json,
    readable,
    there,
)
from edgekd.report.results import results_from
from edgekd.report.standing import settled, training_name
from edgekd.report.view import ArtifactView, RunView, Training, dig, role_rank
from edgekd.schema import COMPARE, PROOF, RECORD, RUN, SCOUT

OWN = {"run": RUN, "scout": SCOUT, "compare": COMPARE}
"""Files that have a name of their own, and what they are."""
DEPTH = 2
"""How many folders deep an artifact may lie: ``run/student/onnx``."""


def collect(folder: Path) -> RunView:
    """Read every artifact, measurement and curve in a run folder; what is missing is left out.

    Raises:
        UsageError: there is no such folder, it holds nothing to report, or a file in it is broken.
        ArtifactError: a manifest cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder. Expected one that edgekd run, distill, export or profile "
            "wrote into."
        )
    folders = list(_folders(folder, DEPTH + 1))
    profile = folder / "profile.json"
    content = entries_in(read_json(profile), profile)
    others = others_in(folder, content)
    files = {name: own_file(folder / f"{name}.json", schema) for name, schema in OWN.items()}
    measured = measured_from(
        profile, content, others, _proofs(folder, folders), devices_in(files.values())
    )
    own = {name: _shareable(said, measured.addresses) for name, said in files.items()}
    run, scout, compare = own["run"], own["scout"], own["compare"]
    artifacts = settled(_artifacts(folder, folders, measured.addresses), run, compare)
    trainings = _trainings(folder, folders, run, compare)
    alone = not compare  # of a comparison's many students none is the student
    answered, changes = answered_in(folder, artifacts if alone else ())
    rejected = _rejected(folder, folders)
    profiled = measured.records or measured.comparisons or measured.failures
    told = run or scout or compare
    if not (artifacts or profiled or trainings or told or rejected):
        raise UsageError(_nothing(folder))
    return RunView(
        artifacts=artifacts,
        records=measured.records,
        comparisons=measured.comparisons,
        trainings=trainings,
        run=run,
        recipe=_recipe(folder / "recipe.toml", measured.addresses),
        results=results_from(artifacts, measured.records),
        rejected=rejected,
        failures=measured.failures,
        scout=scout,
        compare=compare,
        answered=answered,
        changes=changes,
    )


def _rejected(root: Path, folders: list[Path]) -> tuple[str, ...]:
    """Files that failed their proof."""
    files = [file for folder in folders for file in sorted(folder.glob("*.rejected"))]
    return tuple(shareable_text(file.relative_to(root).as_posix()) for file in files)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those inside, without hidden ones: a hidden one is still being written."""
    yield folder
    if depth:
        try:
            inside = sorted(folder.iterdir())
        except OSError as error:
            raise UsageError(f"cannot look into {folder}: {error.strerror}.") from error
        for inner in inside:
            if inner.is_dir() and not inner.name.startswith("."):
                yield from _folders(inner, depth - 1)


def _holds_artifact(folder: Path) -> bool:
    """Other programs have manifests of that name as well; theirs are left alone."""
    file = folder / MANIFEST
    with suppress(OSError, ValueError):  # which whoever reads it has words for
        return there(file) and not schema.MANIFEST.is_foreign(file)
    return True


def _artifacts(root: Path, folders: list[Path], addresses: Addresses) -> tuple[ArtifactView, ...]:
    """Every artifact once, by its hash: a copy or a link of one adds nothing."""
    found: dict[str, ArtifactView] = {}
    for folder in folders:
        place = folder.relative_to(root)
        if len(place.parts) > DEPTH or not _holds_artifact(folder):
            continue
        manifest = read_manifest(folder)
        model = folder / MODEL_FILES[manifest["kind"]]
        if model.is_file():  # a folder may be sent without
            check_unchanged(model, manifest["files"].get(model.name, {}))
        manifest = shareable(manifest)
        manifest |= {
            section: without_machine(addresses.hide(manifest[section]))
            for section in ("recipe", "export")
            if section in manifest
        }
        view = ArtifactView(place.as_posix(), sha256(folder / MANIFEST), manifest)
        found.setdefault(view.sha256, view)
    return tuple(sorted(found.values(), key=lambda view: (role_rank(view.role), view.path)))


def _proofs(root: Path, folders: list[Path]) -> Iterator[Any]:
    """The records that ``edgekd profile`` left beside artifacts, where they are of this file."""
    for folder in folders:
        if len(folder.relative_to(root).parts) > DEPTH or not _holds_artifact(folder):
            continue
        view = ArtifactView("", sha256(folder / MANIFEST), read_manifest(folder))
        for file in sorted((folder / "proof").glob("*.json")):
            proof = PROOF.shown(read_json(file), file)
            if dig(proof, "model_sha256") in view.hashes:
                yield RECORD.shown(dig(proof, "record"), file)


def _trainings(
    root: Path, folders: list[Path], run: Mapping[str, Any], compare: Mapping[str, Any]
) -> tuple[Training, ...]:
    trainings = []
    for folder in folders:
        file = folder / "metrics.jsonl"
        if there(file):
            place = folder.relative_to(root)
            names = [part for part in place.parts if part != "training"]
            name = training_name(names, run, compare)
            name = name or (names[-1] if names else _role(folder))
            training = training_from(name, (place / file.name).as_posix(), _lines(file))
            if training.losses or training.epochs:
                trainings.append(training)
    return tuple(sorted(trainings, key=lambda training: role_rank(training.name)))


def _role(folder: Path) -> str:
    """Whose training it is where no folder's name says so."""
    manifest = read_manifest(folder) if _holds_artifact(folder) else {}
    return str(manifest.get("role") or "training")


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """Every whole line; a training that was killed may leave half of one at the end."""
    with readable(file).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield shareable(entry)


def _shareable(content: Mapping[str, Any], addresses: Addresses) -> Mapping[str, Any]:
    """What a file of the run's own says, as it may be shared."""
    said: dict[str, Any] = without_machine(shareable(addresses.hide(content)))
    if "command" in content:
        said["command"] = addresses.hide(shareable_command(content["command"]))
    return said


def _recipe(file: Path, addresses: Addresses) -> str:
    if not there(file):
        return ""
    text = str(addresses.hide(readable(file).read_text("utf-8", "replace")))
    return shareable_toml(text)


def _nothing(folder: Path) -> str:
    names = sorted(item.name + "/" * item.is_dir() for item in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    found = f"found {', '.join(names[:8])}{more}" if names else "it is empty"
    return (
        f"{folder} holds nothing to report: {found}. Expected artifacts (folders with a "
        f"{MANIFEST}), profile.json or another file of edgekd profile's, "
        "metrics.jsonl, run.json, scout.json or compare.json, as edgekd run, scout and compare "
        "leave them."
    )
