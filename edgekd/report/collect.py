"""Find what a run folder holds and read it into a :class:`RunView`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.artifact import MANIFEST, is_artifact, read_manifest
from edgekd.errors import UsageError
from edgekd.files import sha256
from edgekd.report.curves import training_from
from edgekd.report.privacy import (
    shareable,
    shareable_command,
    shareable_text,
    shareable_toml,
    without_machine,
)
from edgekd.report.results import results_from
from edgekd.report.view import ArtifactView, RunView, Training, role_rank

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
    artifacts = _artifacts(folder, folders)
    records, comparisons = _measurements(folder / "profile.json")
    trainings = _trainings(folder, folders)
    run = _run(folder / "run.json")
    rejected = tuple(
        shareable_text(file.relative_to(folder).as_posix())
        for inner in folders
        for file in sorted(inner.glob("*.rejected"))
    )
    if not (artifacts or records or comparisons or trainings or run or rejected):
        raise UsageError(_nothing(folder))
    return RunView(
        artifacts=artifacts,
        records=records,
        comparisons=comparisons,
        trainings=trainings,
        run=run,
        recipe=_recipe(folder / "recipe.toml"),
        results=results_from(artifacts, records),
        rejected=rejected,
    )


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


def _artifacts(root: Path, folders: list[Path]) -> tuple[ArtifactView, ...]:
    """Every artifact once, by its hash: a copy or a link of one adds nothing."""
    found: dict[str, ArtifactView] = {}
    for folder in folders:
        place = folder.relative_to(root)
        if len(place.parts) > DEPTH or not is_artifact(folder):
            continue
        manifest = shareable(read_manifest(folder))
        manifest |= {
            section: without_machine(manifest[section])
            for section in ("recipe", "export")
            if section in manifest
        }
        view = ArtifactView(place.as_posix(), sha256(folder / MANIFEST), manifest)
        found.setdefault(view.sha256, view)
    return tuple(sorted(found.values(), key=lambda view: (role_rank(view.role), view.path)))


def _measurements(
    file: Path,
) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]:
    """Records of one network each, and comparisons of two."""
    content = _read_json(file)
    entries = content if isinstance(content, list) else [content] if content else []
    if not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{file} is not a list of measurements. Run edgekd profile again.")
    clean = []
    for entry in entries:
        private = without_machine(shareable(entry))
        if "command" in entry:
            private["command"] = shareable_command(entry["command"])
        clean.append(private)
    records = tuple(entry for entry in clean if "comparison" not in entry)
    return records, tuple(entry for entry in clean if "comparison" in entry)


def _trainings(root: Path, folders: list[Path]) -> tuple[Training, ...]:
    trainings = []
    for folder in folders:
        file = folder / "metrics.jsonl"
        if file.is_file():
            place = folder.relative_to(root)
            names = [part for part in place.parts if part != "training"]
            name = names[-1] if names else _role(folder)
            training = training_from(name, (place / file.name).as_posix(), _lines(file))
            if training.losses or training.epochs:
                trainings.append(training)
    return tuple(sorted(trainings, key=lambda training: role_rank(training.name)))


def _role(folder: Path) -> str:
    """Whose training it is where no folder's name says so."""
    manifest = read_manifest(folder) if is_artifact(folder) else {}
    return str(manifest.get("role") or "training")


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """Every whole line; a training that was killed may leave half of one at the end."""
    with _readable(file).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield shareable(entry)


def _run(file: Path) -> Mapping[str, Any]:
    content = _read_json(file)
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{file} is not a table, but {type(content).__name__}. Run again.")
    run: dict[str, Any] = without_machine(shareable(content or {}))
    if content and "command" in content:
        run["command"] = shareable_command(content["command"])
    return run


def _recipe(file: Path) -> str:
    if not file.is_file():
        return ""
    return shareable_toml(_readable(file).read_text("utf-8", "replace"))


def _read_json(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(_readable(file).read_text("utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{file} is not valid JSON: {error}. "
            "Move it away, or run the stage that wrote it again."
        ) from error


def _readable(file: Path) -> Path:
    """The file, or a sentence why it cannot be opened."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}.") from error
    return file


def _nothing(folder: Path) -> str:
    names = sorted(item.name + "/" * item.is_dir() for item in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    found = f"found {', '.join(names[:8])}{more}" if names else "it is empty"
    return (
        f"{folder} holds nothing to report: {found}. Expected artifacts (folders with a "
        f"{MANIFEST}), profile.json, metrics.jsonl or run.json, as edgekd run leaves them."
    )
