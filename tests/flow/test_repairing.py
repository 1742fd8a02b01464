"""The last rung: a network that int8 ruins is tuned for it, and judged against what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact
from edgekd.data import Images
from edgekd.errors import AccuracyError, GateError
from edgekd.export import Order, float_answers
from edgekd.flow import repairing
from edgekd.flow.ordering import Exporting, usual
from edgekd.loading import open_splits
from edgekd.recipe import Export, recipe_from
from edgekd.targets import Target
from tests.flow.conftest import Heard, Mission

INT8 = Export(precision="int8", repair="all", judged=40)


@pytest.fixture
def job(mission: Mission) -> Exporting:
    student = Artifact.open(mission.folder / "student")
    data = recipe_from(student.manifest["recipe"]).data
    return Exporting(student, INT8, data, open_splits(data), Target(), watch=Heard())


class Exports:
    """What was exported; the first ones are refused."""

    def __init__(self, refused: int) -> None:
        self.orders: list[tuple[Artifact, Order]] = []
        self.refused = refused

    def __call__(self, network: Artifact, out: Path, to: str, order: Order) -> Artifact:
        self.orders.append((network, order))
        if len(self.orders) <= self.refused:
            raise AccuracyError(f"attempt {len(self.orders)} loses 9 points.", {"sentence": "x"})
        return network


@pytest.fixture
def tuned(mission: Mission, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tuning gives another network, at once."""
    asked: list[Any] = []

    def retuned(*given: Any) -> Artifact:
        asked.append(given)
        return Artifact.open(mission.folder / "baseline")

    monkeypatch.setattr(repairing, "retuned", retuned)
    return asked


def test_the_tuned_network_is_judged_against_the_one_it_was(
    job: Exporting, tuned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = Exports(refused=1)
    monkeypatch.setattr(repairing, "export", exports)
    repairing.export_repaired(job, tmp_path / "int8", INT8)
    ((network, folder, *_),) = tuned
    assert (network, folder) == (job.network, tmp_path / "int8-tuned")
    (_, first), (second, order) = exports.orders
    assert first.answers is None
    assert second.path.name == "baseline"
    assert order.tuned_from == job.network.sha256
    assert order.answers is not None
    assert (order.answers == float_answers(job.network, job.images)).all()


def test_both_refusals_are_told(
    job: Exporting, tuned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairing, "export", Exports(refused=2))
    with pytest.raises(AccuracyError, match=r"attempt 1 .* Tuning it did not help: attempt 2"):
        repairing.export_repaired(job, tmp_path / "int8", INT8)


def test_a_teacher_that_cannot_teach_is_told_too(
    job: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retuned(*_: Any) -> Artifact:
        raise GateError("the teacher is near chance.")

    monkeypatch.setattr(repairing, "retuned", retuned)
    monkeypatch.setattr(repairing, "export", Exports(refused=1))
    with pytest.raises(AccuracyError, match=r"attempt 1 .* the teacher is near chance"):
        repairing.export_repaired(job, tmp_path / "int8", INT8)


@pytest.mark.parametrize(
    "options",
    [
        Export(precision="int8", repair="post", judged=40),
        Export(precision="int8", repair="none", judged=40),
        Export(precision="fp16", repair="all", judged=40),
    ],
)
def test_nothing_is_trained_that_was_not_asked_for(
    options: Export,
    job: Exporting,
    tuned: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repairing, "export", Exports(refused=1))
    with pytest.raises(AccuracyError, match=r"^attempt 1 loses 9 points\.$"):
        repairing.export_repaired(job, tmp_path / "x", options)
    assert tuned == []


def test_images_for_one_purpose_serve_no_other(job: Exporting) -> None:
    order = job.order(INT8)
    assert order.calibration is not None
    sets = [order.calibration.images, order.calibration.held_out, order.images]
    hashes = [{pixels.tobytes() for pixels in images.pixels} for images in sets]
    assert all(isinstance(images, Images) and len(images) for images in sets)
    assert not hashes[0] & hashes[2]
    assert not hashes[1] & hashes[2]
    assert job.order(Export()).calibration is None


@pytest.mark.parametrize(("images", "count"), [(10_000, 512), (1024, 512), (300, 150), (1, 1)])
def test_how_many_images_are_calibrated_on(images: int, count: int) -> None:
    assert usual(images) == count


def test_what_is_said_of_the_kept_file_is_true(
    job: Exporting, tuned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files were refused, and the second one took the first one's place."""
    count = 0

    def export(*_: Any) -> Artifact:
        nonlocal count
        count += 1
        refused = AccuracyError(f"file {count} loses.", {"sentence": f"{count}"}, [{}] * count)
        raise refused.keeping(f"Kept as {count}.")

    monkeypatch.setattr(repairing, "export", export)
    with pytest.raises(AccuracyError) as caught:
        repairing.export_repaired(job, tmp_path / "int8", INT8)
    assert str(caught.value) == "file 1 loses. Tuning it did not help: file 2 loses. Kept as 2."
    assert caught.value.explanation == {"sentence": "2"}
    assert len(caught.value.attempts) == 2
