"""Which file a device gets: by its profile, or by what the device says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.agent import facts
from edgekd.errors import UnknownNameError, UsageError
from edgekd.flow import preflight, targeting
from edgekd.flow.targeting import check_reachable, target_of
from edgekd.recipe import recipe_from


@pytest.mark.parametrize(
    ("machine", "flags", "flavour"),
    [
        ("x86_64", ["avx2"], "avx2"),
        ("x86_64", ["avx2", "avx512_vnni"], "vnni"),
        ("aarch64", [], "arm64"),
    ],
)
def test_this_machine_is_asked(
    machine: str, flags: list[str], flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "describe", lambda: {"machine": machine, "cpu_flags": flags})
    target = target_of("local")
    assert (target.name, target.runtime, target.flavour) == ("local", "ort", flavour)
    assert target_of("local", "tensorrt").precisions == ("fp32", "fp16", "int8")


def test_another_machine_is_asked_over_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(targeting, "reach", lambda name: reached.append(name))
    monkeypatch.setattr(targeting, "describe", lambda device: {"machine": "aarch64"})
    assert target_of("ssh://me@board").flavour == "arm64"
    assert reached == ["ssh://me@board"]


def test_a_profile_is_read_and_cannot_be_reached(tmp_path: Path) -> None:
    assert target_of("x86-avx2").flavour == "avx2"
    with pytest.raises(UsageError, match=r"x86-avx2 is a kind of board.* --profile x86-avx2"):
        check_reachable("x86-avx2")
    check_reachable("local")


@pytest.mark.parametrize(
    ("text", "runtime", "flavour", "asked"),
    [
        ('based_on = "rk3588"\n', "ort", "arm64", False),
        ('based_on = "x86-vnni"\n', "ort", "vnni", False),  # whose target is the default one
        ('based_on = "jetson-orin-jp5"\n', "trt", "tensorrt8", False),
        ("", "ort", "arm64", True),  # added with --profile none
        ('[export]\nflavour = "avx2"\n', "ort", "avx2", False),
    ],
)
def test_a_device_of_ones_own_takes_what_its_kind_takes(
    text: str,
    runtime: str,
    flavour: str,
    asked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgekd/devices").mkdir(parents=True)
    connect = '[connect]\naddress = "ssh://me@board"\n'
    (tmp_path / "edgekd/devices/mine.toml").write_text(text + connect)
    reached: list[str] = []
    monkeypatch.setattr(targeting, "reach", lambda name: reached.append(name))
    monkeypatch.setattr(targeting, "describe", lambda device: {"machine": "aarch64"})
    target = target_of("mine")
    assert (target.name, target.runtime, target.flavour) == ("mine", runtime, flavour)
    assert reached == (["mine"] if asked else [])
    check_reachable("mine")


def test_a_name_that_is_neither() -> None:
    with pytest.raises(UnknownNameError, match=r"no device 'x86-avx3'\. Did you mean x86-avx2"):
        target_of("x86-avx3")


TABLE: dict[str, Any] = {"data": {"source": "digits", "size": 8, "limit": 300}}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"export": {"opset": 99}}, r"opset 99 was asked for; the runtime of local reads"),
        ({"export": {"precision": "int8"}}, r"30 validation images cannot show"),
        ({"export": {"precision": "fp16", "max_drop": 0.05}}, r"it takes 73"),
        ({"profile": {"device": "aarch64"}}, "aarch64 is a kind of board"),
        ({"profile": {"device": "nowhere"}}, "no device 'nowhere'"),
    ],
)
def test_a_run_is_refused_before_anything_is_trained(
    section: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        preflight.check_run(recipe_from({**TABLE, **section}), tmp_path / "run")
