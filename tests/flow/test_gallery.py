"""The test images of a call: decoded, encoded, and how plain files take theirs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from PIL import Image

from edgekd.artifact import Artifact
from edgekd.errors import DataError, UsageError
from edgekd.flow.gallery import Gallery
from edgekd.flow.grouping import groups_of
from edgekd.flow.unpacking import taken_by
from edgekd.loading import open_splits
from edgekd.profiling import Policy
from edgekd.recipe import Data
from tests.flow.conftest import Mission

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Photographs of noise in two formats, ten of each class."""
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(10):
            pixels = draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            suffix = "jpg" if number % 2 else "png"
            file = tmp_path / "pictures" / label / f"{number}.{suffix}"
            Image.fromarray(pixels).save(file)
    return tmp_path / "pictures"


def test_encoded_images_are_the_files_themselves(pictures: Path, tmp_path: Path) -> None:
    data = Data(str(pictures), test=0.4)
    gallery = Gallery(tmp_path, data, [])
    test = open_splits(data).test
    with zipfile.ZipFile(gallery.encoded(4)) as archive:
        sent = [(Path(name).suffix, archive.read(name)) for name in archive.namelist()]
    files = [Path(test.name(index)) for index in range(len(test))]
    assert sent == [(file.suffix, file.read_bytes()) for file in files]
    assert len(sent) == 8
    assert {suffix for suffix, _ in sent} == {".jpg", ".png"}
    assert gallery.name(0) == f"{files[0].parent.name}/{files[0].name}"  # and no folder of ours
    assert gallery.encoded() == gallery.encoded()


def test_images_that_never_were_files_are_made_such(tmp_path: Path) -> None:
    """As many digits as eight batches take, without a loss."""
    gallery = Gallery(tmp_path, Data("digits", size=8), [])
    test = open_splits(gallery.data).test
    with zipfile.ZipFile(gallery.encoded(8)) as archive:
        names = archive.namelist()
        first = Image.open(io.BytesIO(archive.read(names[0])))
        zero = int(np.flatnonzero(test.targets == 0)[0])
        assert (np.asarray(first) == np.asarray(test.image(zero))).all()
    assert len(names) == 64
    assert {Path(name).suffix for name in names} == {".png"}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_encoded_images_are_of_all_classes(batch_size: int, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, Data("digits", size=8), [])
    test = open_splits(gallery.data).test
    known = {np.asarray(test.image(i)).tobytes(): int(test.targets[i]) for i in range(len(test))}
    with zipfile.ZipFile(gallery.encoded(batch_size)) as archive:
        images = [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    classes = [known[np.asarray(image).tobytes()] for image in images]
    assert len(classes) == 8 * batch_size
    assert len(set(classes)) == min(10, 8 * batch_size)


def test_each_way_to_take_images_is_decoded_once(mission: Mission, tmp_path: Path) -> None:
    model = mission.folder / "student-onnx"
    section = Artifact.open(model).manifest["input"]
    (tmp_path / "again").mkdir()
    gallery = Gallery(tmp_path, mission.recipe.data, [model])
    first = gallery.shown(section)
    assert gallery.shown({**section, "mean": [0, 0, 0]}) is first  # colours are the model's own
    other = gallery.shown({**section, "crop_pct": 0.5})
    assert other.sha256 != first.sha256
    again = Gallery(tmp_path / "again", mission.recipe.data, [model]).shown(section)
    assert again.images.read_bytes() == first.images.read_bytes()  # nothing is sent twice
    images = first.read()
    assert images.pixels.shape == (len(images.targets), 8, 8, 3)


def test_images_of_other_classes_are_refused(
    mission: Mission, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="classes"):
        Gallery(tmp_path, Data(str(pictures)), [mission.folder / "student-onnx"])


# ---- how a file takes its pictures ----


def test_an_exported_file_says_how_it_takes_images(mission: Mission, tmp_path: Path) -> None:
    model = mission.folder / "student-onnx"
    section = Artifact.open(model).manifest["input"]
    names = ("size", "interpolation", "crop_pct")
    assert taken_by(model / "model.onnx", None) == ({name: section[name] for name in names}, "")
    policy = Policy(clock="end_to_end")
    (group,) = groups_of([model], policy)
    assert group.taken == {name: section[name] for name in names}
    assert groups_of([model], replace(policy, clock="inference"))[0].taken is None


def test_a_plain_file_says_its_size_at_most(tmp_path: Path) -> None:
    fixed = classifier(tmp_path / "fixed.onnx", size=(24, 32))
    taken, assumed = taken_by(fixed, None)
    assert taken == {"size": [24, 32], "interpolation": "bilinear", "crop_pct": 1.0}
    assert assumed.startswith("fixed.onnx does not say how its images are made: they are resized")
    turned = classifier(tmp_path / "turned.onnx", size=(24, 32), baked=False)
    assert taken_by(turned, None)[0]["size"] == [24, 32]
    free = classifier(tmp_path / "free.onnx", size=("h", "w"))
    assert taken_by(free, (16, 20))[0]["size"] == [16, 20]
    with pytest.raises(UsageError, match=r"no height and width to decode.*--image-size 224 224"):
        taken_by(free, None)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"broken\.onnx is not a whole ONNX model"):
        taken_by(tmp_path / "broken.onnx", None)
    with pytest.raises(UsageError, match=r"model\.plan does not say how its images are made"):
        taken_by(tmp_path / "model.plan", None)
