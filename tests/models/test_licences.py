"""The terms of published weights go where the weights go; what nobody states is not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
from torchvision import models as torchvision_models

from edgekd.artifact import Artifact, create
from edgekd.models import build, from_artifact, licences, weights, zoo
from edgekd.models.licences import Licence, merged, of_file, of_manifest, of_published, to_list
from edgekd.recipe import Network

LABELS = tuple(map(str, range(10)))
ONE = Licence("mit", "a", "somebody")
TWO = Licence("apache-2.0", "b", "somebody")


def only(found: licences.Licences) -> Licence:
    assert found is not None
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("tag", "name"), [("a1_in1k", "apache-2.0"), ("fb_swsl_ig1b_ft_in1k", "cc-by-nc-4.0")]
)
def test_timm_says_under_what_terms_its_weights_are(tag: str, name: str) -> None:
    found = only(of_published(timm.create_model(f"resnet18.{tag}"), "resnet18"))
    assert (found.name, found.of) == (name, f"timm/resnet18.{tag}")
    assert found.source == f"timm {timm.__version__}"
    assert found.url.startswith("https://")


@pytest.mark.parametrize("said", [None, "", "unknown", "Other"])
def test_a_catalogue_that_does_not_know_states_nothing(said: str | None) -> None:
    model: Any = timm.create_model("resnet18")
    model.pretrained_cfg = {**model.pretrained_cfg, "license": said}
    assert only(of_published(model, "resnet18")).name is None


def test_a_hub_s_weights_are_called_as_they_were_asked_for() -> None:
    model: Any = timm.create_model("resnet18")
    model.pretrained_cfg = {"license": "mit"}
    assert only(of_published(model, "hf-hub:org/net")).of == "org/net"
    local = only(of_published(model, "local-dir:/home/ada/net"))
    assert (local.of, local.name) == ("net", "mit")


@pytest.mark.parametrize(
    ("network", "weight", "name"),
    [
        ("resnet18", "IMAGENET1K_V1", None),  # torchvision's own licence is its code's
        (
            "regnet_y_16gf",
            "IMAGENET1K_SWAG_E2E_V1",
            "https://github.com/facebookresearch/SWAG/blob/main/LICENSE",
        ),
    ],
)
def test_torchvision_states_few(
    monkeypatch: pytest.MonkeyPatch, network: str, weight: str, name: str | None
) -> None:
    def fetch(*_: Any, **__: Any) -> Any:
        return torchvision_models.resnet18()

    monkeypatch.setattr(torchvision_models, "get_model", fetch)
    model = zoo.create(f"torchvision/{network}", 0, tag=weight)
    found = only(of_published(model, f"torchvision/{network}"))
    assert found.name == name
    assert found.of.endswith(f"_Weights.{weight}")


def test_a_network_that_begins_at_random_inherits_nothing() -> None:
    assert build(Network("resnet8"), LABELS).licences == ()


def test_published_weights_bring_theirs_also_for_a_new_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: None)
    made = build(Network("resnet18", "pretrained"), LABELS, new_head=True)
    assert only(made.licences).name == "apache-2.0"


def test_a_file_states_nothing_and_an_artifact_hands_on_what_it_has(tmp_path: Path) -> None:
    model = zoo.create("resnet8", 10)
    file = tmp_path / "mine.safetensors"
    weights.write(model, file)
    started = build(Network("resnet8", str(file)), LABELS)
    mine = only(of_file("mine.safetensors"))
    assert started.licences == (mine,)
    manifest = {
        "kind": "network",
        "model": {"name": "resnet8"},
        "labels": list(LABELS),
        "input": {**started.preprocess.to_dict(), "dtype": "float32", "layout": "NCHW"},
        "licence": to_list(started.licences),
        "parent": {"name": "t", "sha256": "", "licence": to_list((ONE,))},
    }
    with create(tmp_path / "net", manifest) as folder:
        weights.write(model, folder / "model.safetensors")
    path = tmp_path / "net"
    assert from_artifact(Artifact.open(path)).licences == (mine, ONE)
    for new_head in (False, True):
        assert build(Network("", str(path)), LABELS, new_head=new_head).licences == (mine, ONE)


def test_a_manifest_says_what_its_own_and_its_teacher_s_weights_came_from() -> None:
    assert of_manifest({}) is None
    assert of_manifest({"licence": []}) == ()
    assert of_manifest({"licence": "x"}) is None
    assert of_manifest({"licence": to_list((ONE,)), "parent": None}) == (ONE,)
    taught = {"name": "t", "licence": to_list((TWO, ONE))}
    assert of_manifest({"licence": to_list((ONE,)), "parent": taught}) == (ONE, TWO)


def test_where_one_of_two_is_silent_that_is_said() -> None:
    assert merged(None, None) is None
    assert merged((), ()) == ()
    for found in (merged((ONE,), None), merged(None, (ONE,))):
        assert found is not None
        assert [licence.name for licence in found] == ["mit", None]
    assert merged(merged((ONE,), None), None) == merged((ONE,), None)
