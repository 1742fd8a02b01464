"""One tiny mission, run once, for many questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekd.flow.running import Run, run
from edgekd.recipe import Recipe, recipe_from

TABLE: dict[str, Any] = {
    "data": {"source": "digits", "size": 8, "limit": 300},
    "teacher": {"name": "resnet14"},
    "student": {"name": "resnet8"},
    "method": {"ce": {"weight": 0.5}, "kd": {}, "fitnet": {"weight": 0.1}},
    "teach": {"epochs": 6, "batch_size": 32, "lr": 0.1, "precision": "fp32"},
    "train": {"epochs": 2, "batch_size": 32, "precision": "fp32", "ema": 0.5},
    "profile": {"max_seconds": 1.0},
    "export": {"samples": 16},
}


@dataclass
class Heard:
    """What a watch was told."""

    said: list[str] = field(default_factory=list)
    stages: list[tuple[str, int, int, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.stages.append((stage, done, total, note))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, *_ in self.stages))

    def taken(self) -> list[str]:
        """The stages that were done already."""
        return [stage for stage, _, _, note in self.stages if note.startswith("already")]


@dataclass(frozen=True)
class Mission:
    folder: Path
    recipe: Recipe
    summary: dict[str, Any]
    heard: Heard


@pytest.fixture(scope="session")
def mission(tmp_path_factory: pytest.TempPathFactory) -> Mission:
    """A run folder; only to read."""
    folder, recipe, heard = tmp_path_factory.mktemp("mission") / "run", recipe_from(TABLE), Heard()
    summary = run(Run(recipe, folder, heard, command="edgekd run tiny.toml"))
    return Mission(folder, recipe, summary, heard)
