"""Answers: which of a teacher's are kept for whom, and that keeping them changes no student."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekd.flow.identity import answers
from edgekd.flow.training import distill
from edgekd.loading import Splits, loaders, open_splits
from edgekd.models import build
from edgekd.recipe import Data, Network, Train, recipe_from
from edgekd.watching import Silent


class Heard(Silent):
    """Who is told, and remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return open_splits(Data("digits", size=8, limit=60))


def test_they_depend_on_the_picture_and_the_arithmetic_alone(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, train = Data("digits", size=8), Train(batch_size=32)
    names = ("resnet14", "resnet8", "resnet14")
    teacher, student, other = (build(Network(name), splits.labels, 8) for name in names)
    large = build(Network("resnet8"), splits.labels, 16)
    loader = loaders(splits, student.preprocess, data, train).train
    given = teacher, student, train, data, "shift", loader
    known = answers(*given)
    careless = Train(batch_size=16, seed=7, epochs=99, lr=1.0, cache_gb=9.0, log_steps=1)
    assert answers(teacher, other, careless, *given[3:]) == known
    assert answers(*given[:3], replace(data, order=3, workers=0), *given[4:]) == known
    darker, fixed = copy.copy(loader), replace(data, teacher_views=4)
    darker._stored = loader._stored // 2  # type: ignore[attr-defined]
    found = [
        answers(other, *given[1:]),
        answers(teacher, large, *given[2:]),
        answers(teacher, student, replace(train, compile=True), *given[3:]),
        answers(*given[:4], "shift+flip", loader),
        answers(*given[:5], darker),
        answers(*given[:3], fixed, *given[4:]),
        answers(*given[:2], replace(train, seed=7), fixed, *given[4:]),
        answers(*given[:3], replace(fixed, order=3), *given[4:]),
    ]
    for package in ("Pillow", "timm", "torchvision"):
        monkeypatch.setattr(
            "edgekd.flow.identity.version", lambda name, new=package: "9" if name == new else "1"
        )
        found.append(answers(*given))
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    found.append(answers(*given))
    monkeypatch.undo()
    monkeypatch.setattr("edgekd.flow.identity.cpu_model", lambda: "another one")
    found.append(answers(*given))
    assert len({known, *found}) == 1 + len(found)


def test_a_student_is_the_same_with_them_and_without(taught: Path, tmp_path: Path) -> None:
    table = {
        "data": {"source": "digits", "size": 8, "limit": 200},
        "teacher": {"name": "", "weights": str(taught)},
        "student": {"name": "resnet8"},
        "train": {"epochs": 2, "batch_size": 32, "precision": "fp32"},
        "method": {"ce": {"weight": 1.0}, "kd": {"weight": 0.9}},
    }
    weights, said = [], []
    for name, settings in (("off", ["train.cache_gb=0"]), ("cold", []), ("hot", [])):
        heard = Heard()
        made = distill(recipe_from(table, settings), tmp_path / name, heard)
        weights.append((made.path / "model.safetensors").read_bytes())
        said.append([text for text in heard.notes if "answers" in text])
    assert weights[0] == weights[1] == weights[2]
    assert said[0] == []
    assert said[2] == ["teacher: 100% of its answers were there already"]
