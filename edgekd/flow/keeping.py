"""Keep what a training left: weights, answers and recipe as an artifact with its manifest."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgekd
from edgekd import artifact
from edgekd.artifact import Artifact
from edgekd.cards import write_card
from edgekd.files import write_json, write_text
from edgekd.hiding import hidden
from edgekd.intervals import paired_difference
from edgekd.models import Backbone, licences, weights
from edgekd.recipe import Recipe
from edgekd.trainer import Scores
from edgekd.trainer.collective import meet, wait

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "safetensors", "numpy")


@dataclass(frozen=True)
class Origin:
    """Where a network came from."""

    role: str
    recipe: Recipe
    fingerprint: str
    """Hash of all that decided its weights."""
    method: str = ""
    teacher: Backbone | None = None
    training: dict[str, Any] | None = None
    taught: Scores | None = None
    """The teacher's answers to the validation images, as it was shown them."""


def keep(
    backbone: Backbone, out: Path, origin: Origin, validation: Scores, test: Scores
) -> Artifact:
    """Write the artifact; the answers to the single images go with it, for paired comparisons."""
    manifest = {
        "kind": "network",
        "role": origin.role,
        "model": {
            "name": backbone.name,
            "parameters": backbone.parameters,
            "macs": backbone.macs(),
        },
        "input": {**backbone.preprocess.to_dict(), "dtype": "float32", "layout": "NCHW"},
        "labels": list(backbone.labels),
        "metrics": {"validation": validation.to_dict(), "test": test.to_dict()},
        "recipe": hidden(origin.recipe.to_dict()),
        "method": origin.method,
        "parent": _parent(origin, validation),
        "licence": licences.to_list(backbone.licences),
        "versions": versions(),
        "training": origin.training,
        "export": None,
        "fingerprint": origin.fingerprint,
    }
    answers = {"split": "test", **_said(test), "validation": _said(validation)}
    if meet().is_main:
        with artifact.create(out, manifest) as folder:
            weights.write(backbone.model, folder / "model.safetensors")
            write_text(folder / "recipe.toml", origin.recipe.to_toml(hidden))
            write_json(folder / "answers.json", answers)
        write_card(out)
    wait()
    return Artifact.open(out)


def _said(scores: Scores) -> dict[str, list[int]]:
    """The class that was chosen for each image, beside the true one."""
    return {"predictions": scores.predictions.tolist(), "targets": scores.targets.tolist()}


def _parent(origin: Origin, validation: Scores) -> dict[str, Any] | None:
    """The teacher: who it is, under what terms it was published, and how well it did itself."""
    teacher, taught = origin.teacher, origin.taught
    if teacher is None:
        return None
    parent: dict[str, Any] = {
        "name": teacher.name,
        "sha256": teacher.parent,
        "licence": licences.to_list(teacher.licences),
    }
    if taught is None or taught.n != validation.n:
        return parent
    gained = int((validation.correct & ~taught.correct).sum())
    lost = int((taught.correct & ~validation.correct).sum())
    gap = paired_difference(gained, lost, taught.n)
    beside = {"top1": taught.top1, "n": taught.n, "delta": gap.value}
    return parent | {"validation": {**beside, "delta_interval": [gap.lo, gap.hi]}}


def versions() -> dict[str, str]:
    """What made an artifact."""
    found = {"edgekd": edgekd.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}
