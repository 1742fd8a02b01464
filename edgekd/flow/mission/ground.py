"""Ground: what all attempts of a mission stand on, and where what comes of them lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekd.artifact import Artifact
from edgekd.budget import Budget
from edgekd.flow.mission import worth
from edgekd.flow.mission.patience import fields_for
from edgekd.flow.mission.plans import Plan
from edgekd.flow.mission.scouted import Student, median_of
from edgekd.flow.mission.teachers import suspicion
from edgekd.flow.running import Run
from edgekd.loading import Splits
from edgekd.recipe import Export, Network, Recipe


@dataclass(frozen=True)
class Ground:
    """What all attempts of a mission stand on."""

    task: Run
    budget: Budget
    teacher: Artifact
    splits: Splits
    students: Sequence[Student] = ()
    """As the scout found them."""

    @property
    def device(self) -> str:
        return self.task.recipe.profile.device

    def said(self, plan: Plan, measured: float | None = None) -> dict[str, Any]:
        """Fields of the policy that a plan's file is measured by.

        Args:
            plan: the scout knows how long its student takes.
            measured: median in ms of a measurement of the file itself; the longer of both counts.
        """
        known = [each for each in (median_of(self.students, plan), measured) if each is not None]
        return fields_for(self.budget, self.task.recipe.profile, max(known, default=None))

    @cached_property
    def teacher_says(self) -> list[int]:
        """Of the validation images."""
        return worth.teacher_answers(self.teacher, self.splits, self.task.recipe.data)

    @cached_property
    def suspicion(self) -> str:
        """Why nobody should be compared with the teacher; nothing where there is no reason."""
        return suspicion(self.teacher)

    def recipe(self, plan: Plan) -> Recipe:
        """The recipe of a plan's student."""
        recipe = self.task.recipe
        return replace(
            recipe,
            data=replace(recipe.data, size=plan.size),
            teacher=Network("", str(self.teacher.path)),
            student=Network(plan.network, ""),
            train=replace(recipe.train, epochs=plan.epochs),
            export=self.export(plan),
        )

    def export(self, plan: Plan) -> Export:
        """How a plan's student is exported."""
        drop = plan.max_drop
        return replace(self.task.recipe.export, precision=plan.precision, max_drop=drop)

    def folder(self, plan: Plan) -> Path:
        """Of a plan's student."""
        return self.task.out / plan.key

    def exported(self, plan: Plan) -> Path:
        """Of a plan's file."""
        return self.folder(plan) / f"onnx-{plan.precision}"

    def outcome(self, plan: Plan) -> Path:
        """The file that is written when an attempt is over."""
        return self.folder(plan) / f"outcome-{plan.precision}.json"
