"""Which images are shown: the test images for the end, the validation images to choose by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.artifact import Artifact
from edgekd.flow.gallery import Gallery
from edgekd.flow.mission import worth
from edgekd.loading import open_splits
from tests.flow.conftest import Mission


def test_a_gallery_of_either_split(mission: Mission, tmp_path: Path) -> None:
    path, data = mission.folder / "student-onnx", mission.recipe.data
    section = Artifact.open(path).manifest["input"]
    splits = open_splits(data)
    for name, split in (("test", splits.test), ("validation", splits.validation)):
        folder = tmp_path / name
        folder.mkdir()
        gallery = Gallery(folder, data, [path], name)  # type: ignore[arg-type]
        shown = gallery.shown(section).read()
        assert np.array_equal(shown.targets, split.targets)
        assert gallery.name(0).endswith(split.name(0))
        assert gallery.encoded().stat().st_size > 0


def test_the_teachers_answers_are_kept_beside_it(mission: Mission) -> None:
    teacher, splits = Artifact.open(mission.folder / "teacher"), open_splits(mission.recipe.data)
    found = worth.teacher_answers(teacher, splits, mission.recipe.data)
    right = np.equal(found, splits.validation.targets).mean()
    assert right == teacher.manifest["metrics"]["validation"]["top1"]
    file = teacher.path / worth.ANSWERS
    written = file.stat().st_mtime_ns
    assert worth.teacher_answers(teacher, splits, mission.recipe.data) == found
    assert file.stat().st_mtime_ns == written
    file.unlink()
