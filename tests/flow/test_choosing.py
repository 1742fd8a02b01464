"""Which method trains: chosen by rule and said why, or refused before any image is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgekd.artifact import Artifact
from edgekd.errors import RecipeError, UsageError
from edgekd.flow.baseline import compare_alone
from edgekd.flow.choosing import LOGITS, MAPS, TOKENS, attends_to_tokens, choose
from edgekd.flow.preflight import check_run
from edgekd.flow.training import distill
from edgekd.models import Backbone, build, from_artifact, zoo
from edgekd.recipe import Network, Recipe, recipe_from
from tests.flow.conftest import TABLE, Heard

TARGETS = torch.arange(40) % 10
LABELS = [str(digit) for digit in range(10)]

Make = Callable[..., Recipe]


def network(name: str, size: int = 32) -> Backbone:
    return build(Network(name), LABELS, size)


@pytest.fixture
def recipe(taught: Path) -> Make:
    def make(*overrides: str) -> Recipe:
        table = {**TABLE, "teacher": {"name": "", "weights": str(taught)}}
        return recipe_from(table, ["train.epochs=1", *overrides])

    return make


# ---- auto ----


@pytest.mark.parametrize(
    ("student", "teacher", "size", "text", "why"),
    [
        ("resnet8", "resnet56", 32, MAPS, "the student has 9% of the teacher's parameters"),
        ("resnet8", "resnet20", 32, MAPS, "the student has 29% of the teacher's parameters"),
        ("resnet20", "resnet32", 32, LOGITS, "the student has 58% of the teacher's parameters"),
        ("vit_tiny_patch16_224", "resnet20", 32, TOKENS, "vit_tiny_patch16_224 attends to tokens"),
        ("resnet8", "vit_tiny_patch16_224", 32, TOKENS, "vit_tiny_patch16_224 attends to tokens"),
    ],
)
def test_auto_goes_by_capacity_and_architecture(
    student: str, teacher: str, size: int, text: str, why: str
) -> None:
    found = choose(network(student, size), network(teacher, size), TARGETS)
    assert found.text == text
    assert found.why.startswith(why)


@pytest.mark.parametrize(
    ("name", "attends"),
    [
        ("resnet8", False),
        ("test_efficientnet", False),  # its squeeze-and-excitation is no attention to places
        ("test_vit", True),
        ("test_byobnet", False),
        ("mobilevit_xxs", True),
        ("cait_xxs24_224", True),
        ("edgenext_xx_small", True),
        ("resnet50_clip", False),  # attention only pools
    ],
)
def test_who_attends_to_tokens(name: str, attends: bool) -> None:
    assert attends_to_tokens(zoo.create(name, 5)) is attends


def test_auto_takes_the_logits_where_there_are_no_maps() -> None:
    teacher = network("resnet20")
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    bare = torch.nn.Sequential(pool, torch.nn.Linear(3, 10))
    student = Backbone("pixel", bare, teacher.preprocess, teacher.labels)
    found = choose(student, teacher, TARGETS)
    assert found.text == LOGITS
    assert "rtk and kr suit students of low capacity, but Sequential shows no" in found.why


def test_auto_is_said_and_written_down(recipe: Make, tmp_path: Path) -> None:
    heard = Heard()
    made = distill(recipe("method=auto"), tmp_path / "s", heard)
    (said,) = [text for text in heard.said if text.startswith("method auto: ")]
    assert said.startswith(f"method auto: {LOGITS}: the student has ")
    assert made.manifest["method"] == "1*ce + 0.9*kd"
    assert made.manifest["recipe"]["method"] == {"auto": {"weight": 1.0}}


def test_auto_stands_alone(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match="'auto' chooses all terms and weights; expected it alone, found kd"
    ):
        distill(recipe("method=auto + kd"), tmp_path / "s")


# ---- refused before any image is read ----


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    """Two classes of files that are no images: whoever opens one fails."""
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "images" / label / f"{number}.png").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("text", "options", "student", "message"),
    [
        ("ce + kd", ["kd.temperature=-2"], "resnet8", "temperature must be above 0, got -2"),
        ("ce + rtk", ["rtk.k=99"], "resnet8", "k must be at most 6, the number of teacher maps"),
        ("ce + iekd", ["iekd.ratio=1.5"], "resnet8", "ratio must be "),
        ("ce + fitnet", ["fitnet.stage=7"], "resnet8", "stage 7 of 3: expected one there is"),
        ("ce + at", [], "vit_tiny_patch16_224", "feature maps of at least 2x2 places, got 1x1"),
        ("ce + rtk", [], "vit_tiny_patch16_224", "feature maps of at least 2x2 places, got 1x1"),
        ("ce + kr", [], "vit_tiny_patch16_224", "feature maps of at least 2x2 places, got 1x1"),
        ("at(ce)", [], "resnet8", "changes nothing for the terms in its parentheses"),
        ("ce + rtk", ["rtk.k=true"], "resnet8", "k must be a whole number, got True"),
        ("ce + kd", ["kd.temperature='hot'"], "resnet8", "temperature must be a number, got 'hot'"),
        ("ce + fitnet", ["fitnet.stage=1.5"], "resnet8", "stage must be a whole number, got 1.5"),
        ("ce + vid", ["vid.variance=1e300"], "resnet8", "method 'vid': "),
        (
            "ce + kd",
            ["kd.ramp=3"],
            "resnet8",
            r"ramp must be two parts of the training in \[0, 1\]",
        ),
    ],
)
def test_a_bad_option_is_refused_before_any_image_is_read(
    text: str, options: list[str], student: str, message: str, unreadable: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_file(zoo.create("resnet14", 2).state_dict(), tmp_path / "w.safetensors")
    table: dict[str, Any] = {
        **TABLE,
        "data": {"source": str(unreadable), "size": 16},
        "teacher": {"name": "resnet14", "weights": str(tmp_path / "w.safetensors")},
        "student": {"name": student},
    }
    made = recipe_from(table, [f"method={text}", *(f"method.{option}" for option in options)])
    with pytest.raises(RecipeError, match=message):
        distill(made, tmp_path / "s")
    with pytest.raises(RecipeError, match=message):
        check_run(made, tmp_path / "run")
    assert not (tmp_path / "s").exists()


# ---- beside a peer ----


def test_a_student_beside_a_peer(recipe: Make, tmp_path: Path) -> None:
    made = recipe('teacher.weights=""', "peer.name=resnet14", "method=ce + kd", "train.epochs=4")
    heard = Heard()
    student = distill(made, tmp_path / "s", heard)
    peer = Artifact.open(tmp_path / "s" / "peer")
    assert from_artifact(student).name == "resnet8"
    assert from_artifact(peer).name == "resnet14"
    assert peer.manifest["role"] == "peer"
    assert student.manifest["parent"] is None
    for artifact in (student, peer):
        assert artifact.manifest["metrics"]["test"]["top1"] > 0.2
    assert any(text.startswith("peer resnet14: ") for text in heard.said)
    _, gain = compare_alone(made, student, tmp_path / "alone", "cost", heard)
    shares = peer.manifest["model"]["macs"] / student.manifest["model"]["macs"]
    assert gain["baseline_epochs"] == round(4 * (1 + shares))


def test_a_method_is_tried_both_ways_between_peers(recipe: Make, tmp_path: Path) -> None:
    """Three maps there are in one of them, and six in the other."""
    made = recipe('teacher.weights=""', "peer.name=resnet14", "method=ce + rtk", "method.rtk.k=6")
    with pytest.raises(RecipeError, match="k must be at most 3, the number of teacher maps"):
        distill(made, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_teacher_handed_over_beside_a_peer_is_refused(recipe: Make, tmp_path: Path) -> None:
    made = recipe('teacher.weights=""', "peer.name=resnet14", "method=ce + kd")
    with pytest.raises(UsageError, match="found both"):
        distill(made, tmp_path / "s", teacher=network("resnet14", 8))


@pytest.mark.parametrize("table", [{"weight": 0.5}, {"foo": 3}, {"weight": [0, 1]}])
def test_auto_takes_no_weight_and_no_option(
    table: dict[str, Any], recipe: Make, tmp_path: Path
) -> None:
    made = recipe_from({**recipe().to_dict(), "method": {"auto": table}})
    with pytest.raises(RecipeError, match="'auto' chooses all terms and weights"):
        distill(made, tmp_path / "s")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["peer.name=resnet8"], "from a frozen teacher or beside a peer; found both"),
        (['teacher.weights=""', "peer.name=resnet8", "method=ce"], "ce does not look at a teacher"),
    ],
)
def test_a_peer_that_makes_no_sense(
    recipe: Make, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        distill(recipe(*overrides), tmp_path / "s")


def test_run_says_that_a_peer_is_for_distill(recipe: Make, tmp_path: Path) -> None:
    made = recipe('teacher.weights=""', "peer.name=resnet14")
    with pytest.raises(UsageError, match="edgekd distill --peer"):
        check_run(made, tmp_path / "run")
