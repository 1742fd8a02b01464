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
from edgekd.files import write_json, write_text
from edgekd.models import Backbone, weights
from edgekd.recipe import Recipe
from edgekd.trainer import Scores

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


def keep(
    backbone: Backbone, out: Path, origin: Origin, validation: Scores, test: Scores
) -> Artifact:
    """Write the artifact; the answers on the test images go with it, for paired comparisons."""
    teacher = origin.teacher
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
        "recipe": origin.recipe.to_dict(),
        "method": origin.method,
        "parent": None if teacher is None else {"name": teacher.name, "sha256": teacher.parent},
        "versions": versions(),
        "training": origin.training,
        "export": None,
        "fingerprint": origin.fingerprint,
    }
    answers = {"predictions": test.predictions.tolist(), "targets": test.targets.tolist()}
    with artifact.create(out, manifest) as folder:
        weights.write(backbone.model, folder / "model.safetensors")
        write_text(folder / "recipe.toml", origin.recipe.to_toml())
        write_json(folder / "answers.json", {"split": "test", **answers})
    return Artifact.open(out)


def versions() -> dict[str, str]:
    """What made an artifact."""
    found = {"edgekd": edgekd.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}
