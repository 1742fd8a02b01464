"""Candidates: which networks at which sizes, and how accurate they are said to be."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import pytest

from edgekd.errors import RecipeError, UnknownNameError, UsageError
from edgekd.models import build, zoo
from edgekd.recipe import Data, Network
from edgekd.scouting.candidates import Candidate, read_candidates
from edgekd.scouting.priors import NONE, Prior, reduction
from edgekd.scouting.reading import SIDE, members_of, read_space, space_names
from edgekd.scouting.weighing import Weight, weigh

BASES = {"published", "scaled", "fitted", "none"}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of candidates."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgekd" / "candidates"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["cifar", "timm"])
def test_every_network_of_a_shipped_file_exists(name: str) -> None:
    import timm

    for network in read_space(name).networks:
        assert timm.is_model(network.name), network
        config = timm.get_pretrained_cfg(network.name)
        assert network.fixed == bool(config and config.fixed_input_size), network
        assert not network.top1 or name == "cifar" or network.tag, network
        assert name == "cifar" or 100 <= network.size <= 256, network


def test_the_cifar_file_has_every_member_of_every_family() -> None:
    members = {name for family in zoo.FAMILIES for name in family.__all__}
    assert {network.name for network in read_space("cifar").networks} == members


def test_the_timm_file_has_as_many_as_was_asked_for() -> None:
    assert 40 <= len(read_space("timm").networks) <= 100
    assert "commit" in read_space("timm").source
    assert len(members_of("timm", (), 224)) > 200


def test_the_cifar_families_come_at_three_sizes_with_sourced_priors() -> None:
    found = read_candidates(["cifar"], [], 32, 10)
    assert {c.size for c in found} == {32, 24, 16}
    assert len({c.key for c in found}) == len(found) == 3 * len(read_space("cifar").networks)
    by_key = {c.key: c for c in found}
    assert by_key["resnet20-32px"].prior.value == pytest.approx(0.6906)
    assert by_key["resnet20-32px"].prior.basis == "published"
    assert "1910.10699" in by_key["resnet20-32px"].prior.source
    for candidate in found:
        assert candidate.prior.basis in BASES - {"none"}
        assert candidate.prior.source
        assert candidate.prior.value is not None
        assert 0.4 < candidate.prior.value < 0.8


def test_a_lower_resolution_costs_what_table_7_says() -> None:
    found = {c.size: c.prior for c in read_candidates(["resnet20"], [32, 16], 32, 10)}
    assert _value(found[16]) == pytest.approx(0.6906 * 0.5**0.164)
    assert found[16].basis == "scaled"
    assert "scaled" in found[16].source
    # and back to where the slope is from: MobileNet at 128 pixels
    assert 70.6 * reduction(128, 224) == pytest.approx(64.4, abs=0.05)


def test_what_is_not_published_lies_on_the_line_through_what_is() -> None:
    names = ["resnet20", "resnet32", "resnet56", "resnet44"]
    found = {c.name: c for c in read_candidates(names, [], 32, 10)}
    between = found["resnet44"].prior
    assert between.basis == "fitted"
    assert "3 published" in between.source
    assert _value(found["resnet32"].prior) < _value(between) < _value(found["resnet56"].prior)
    smaller = read_candidates(names, [16], 32, 10)[-1].prior
    assert _value(smaller) == pytest.approx(_value(between) * 0.5**0.164, rel=1e-3)


def test_two_published_figures_are_no_line() -> None:
    found = read_candidates(["resnet20", "resnet32", "resnet44"], [], 32, 10)
    assert found[-1].prior == NONE


def test_a_family_below_the_least_size_stays_at_the_datas_own() -> None:
    assert {m.size for m in members_of("cifar", (), 8)} == {8}
    assert {m.size for m in members_of("cifar", (), 14)} == {14, 10}


def test_timm_networks_come_at_their_own_size_and_below() -> None:
    sizes: dict[str, list[int]] = {}
    for member in members_of("timm", (), 32):
        sizes.setdefault(member.name, []).append(member.size)
    assert sizes["mobilenetv3_small_100"] == [224, 192, 160, 128]
    assert sizes["mobilevit_xxs"] == [256, 224, 192, 160, 128]
    assert sizes["tinynet_e"] == [106]
    assert sizes["efficientvit_m0"] == [224]  # its position biases are of one size


def test_sizes_that_are_asked_for_replace_the_files() -> None:
    asked = members_of("timm", (160,), 224)
    assert {m.size for m in asked} == {160}
    assert "efficientvit_m0" not in {m.name for m in asked}
    with pytest.raises(UsageError, match="0 pixels; expected 8 to 8,192"):
        members_of("timm", (0,), 224)


def test_parameters_and_macs_are_those_of_the_network() -> None:
    for name, size in (("resnet8", 24), ("mobilenetv3_small_050", 64)):
        backbone = build(Network(name), [str(i) for i in range(7)], size)
        (weight,) = weigh(name, [size], 7)
        assert (weight.parameters, weight.macs) == (backbone.parameters, backbone.macs())


def test_what_was_weighed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = weigh("resnet8", [16], 3)
    (file,) = (tmp_path / "edgekd/weighed").iterdir()
    assert weigh("resnet8", [16, 8], 3)[0] == first[0]
    assert sorted(json.loads(file.read_text())) == ["16", "8"]
    file.write_text('{"16": {"parameters": 1, "macs": 2, "refusal": "so"}}')
    assert weigh("resnet8", [16], 3) == [Weight(1, 2, "so")]
    file.write_text("{")
    assert weigh("resnet8", [16], 3) == first


def test_a_size_that_a_network_cannot_take_is_left_out_or_refused() -> None:
    two = read_candidates(["torchvision/alexnet"], [16, 64], 64, 10)
    assert [c.size for c in two] == [64]
    with pytest.raises(UsageError, match="torchvision/alexnet cannot take images of 16x16"):
        read_candidates(["torchvision/alexnet"], [16], 64, 10)


def test_a_key_is_safe_as_a_folders_name() -> None:
    made = Candidate("torchvision/résnet 18", 64, 1, 1, NONE)
    assert made.key == "torchvision-r-snet-18-64px"


def test_what_is_neither_a_file_nor_a_network_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet21'.*Did you mean .*resnet20"):
        read_candidates(["resnet21"], [], 32, 10)
    with pytest.raises(UsageError, match="cifar, timm"):
        read_candidates([], [], 32, 10)


def test_a_network_twice_is_one_candidate() -> None:
    found = read_candidates(["resnet8", "resnet8"], [], 32, 10)
    assert [c.key for c in found] == ["resnet8-32px"]


def test_a_file_of_the_users_own_is_found_and_comes_first(own: Path) -> None:
    text = """
    source = "measured here"
    sizes = [16]
    networks = [{ name = "resnet8", size = 32, top1 = 61.5 }, { name = "resnet14" }]
    """
    (own / "mine.toml").write_text(text)
    assert "mine" in space_names()
    found = read_candidates(["mine"], [], 32, 10)
    assert [c.key for c in found] == [
        *("resnet8-32px", "resnet8-16px", "resnet14-32px", "resnet14-16px")
    ]
    assert found[0].prior == Prior(0.615, "published", "resnet8, 61.5 % at 32 px: measured here")
    (named,) = read_candidates(["resnet8"], [], 32, 10)
    assert named.prior == found[0].prior


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("networks = 3", "expected a list of tables"),
        ("networks = []", "lists no networks"),
        ("networks = [{ name = 'resnet8', tpo1 = 3 }]", "Did you mean top1"),
        ("networks = [{ name = 'resnet8', top1 = 300 }]", "expected a percentage"),
        ("networks = [{ name = 'resnet8' }, { name = 'resnet8' }]", "twice"),
        ("networks = [{ name = 'resnet8' }]\nsizes = [1.5]", "whole numbers"),
        ("networks = [{ name = 'resnet8' }]\nsizes = [32, 7]", "expected a list of .* 8 to 8,192"),
        ("networks = [{ name = 'resnet8' }]\nsizes = [8193]", "expected a list of .* 8 to 8,192"),
        ("networks = [{ name = 'resnet8' }]\nleast = 7", "least is 7; expected 8 to 8,192"),
        ("networks = [{ name = 'resnet8', size = 7 }]", "size is 7; expected 0, or 8 to 8,192"),
        ("networks = [{ name = 'resnet8' }]\nshares = [-1]", "shares of the data"),
        ("networks = [{ name = 'resnet8' }]\nsize = [32]", "unknown key 'size'"),
        ("networks = [", "cannot read"),
        ("networks = [{ name = 'nosuchnet' }]", "which is no network"),
    ],
)
def test_a_broken_file_is_refused_by_what_is_wrong(own: Path, text: str, said: str) -> None:
    (own / "mine.toml").write_text(text)
    with pytest.raises(RecipeError, match=said):
        read_candidates(["mine"], [], 32, 10)


def test_a_side_is_bounded_as_that_of_a_recipe_is() -> None:
    """What is scouted at a size that no training takes names a student that cannot be had."""
    for side in (1, 7, 8, 8192, 8193):
        try:
            Data(size=side)
            taken = True
        except RecipeError:
            taken = False
        assert SIDE[0](side) == taken


def test_published_figures_are_percentages_of_a_kind() -> None:
    """A slip of the pen, such as 7.42 for 74.2, would show here."""
    for name, low, high in (("cifar", 60, 80), ("timm", 55, 80)):
        file = Path(__file__).parents[2] / "profiles" / "candidates" / f"{name}.toml"
        entries = tomllib.loads(file.read_text("utf-8"))["networks"]
        found = [entry["top1"] for entry in entries if "top1" in entry]
        assert len(found) >= 14
        assert all(low < top1 < high for top1 in found)


def _value(prior: Prior) -> float:
    assert prior.value is not None
    assert math.isfinite(prior.value)
    return prior.value


def test_published_figures_of_different_data_sets_put_nothing_in_order() -> None:
    alone = {c.name: c.prior for c in read_candidates(["resnet8x4"], [], 32, 10)}
    assert alone["resnet8x4"].basis == "published"
    mixed = read_candidates(["resnet8x4", "mobilenetv3_small_050"], [], 32, 10)
    assert [(c.prior.value, c.prior.basis) for c in mixed] == [(None, "none")] * 2
    assert "different data sets" in mixed[0].prior.source
