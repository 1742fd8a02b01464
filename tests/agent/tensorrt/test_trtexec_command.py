"""The options each release of trtexec is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.spec import Batch, BuildSpec
from edgekd.agent.tensorrt.trtexec_command import Outputs, command, is_typed, offered, running

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"
TABLE = json.loads((SAMPLES / "options.json").read_text("utf-8"))
RELEASES = tuple(TABLE["releases"])
SPEC = BuildSpec(Path("/m/model.onnx"), "fp16", {"images": (224, 224, 3)}, Batch(1, 8, 32))
TIMED = Outputs(times="times.json", profile="profile.json")
TIMING = {"--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun"}


def numbers(release: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, release.split("."))
    return major, minor, patch


def listed(release: str) -> frozenset[str]:
    """The options the help of a release would be read to have."""
    row = TABLE["releases"][release]
    return frozenset(row["options"]) - frozenset(row["no_op"])


def names(arguments: list[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments[1:]}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("outputs", [Outputs(timing_cache="t.cache"), TIMED])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("core", [None, 0])
@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("helped", [True, False])
def test_no_release_is_given_an_option_it_lacks(
    release: str, outputs: Outputs, precision: str, core: int | None, typed: bool, helped: bool
) -> None:
    spec = replace(SPEC, precision=precision, dla_core=core, typed=typed)
    version, options = numbers(release), listed(release) if helped else frozenset()
    impossible = (core is not None and precision == "fp32") or (
        version >= (11, 0, 0) and not typed and precision != "fp32"
    )
    if impossible:
        with pytest.raises(AgentError, match="precision"):
            command("trtexec", spec, version, outputs, options)
        return
    arguments = command("trtexec", spec, version, outputs, options)
    assert names(arguments) <= listed(release)
    assert arguments[0] == "trtexec"
    assert len(names(arguments)) == len(arguments) - 1  # each once
    assert ("--useDLACore=0" in arguments) == (core == 0)


@pytest.mark.parametrize("release", RELEASES)
def test_help_and_table_of_releases_agree(release: str) -> None:
    for outputs in (Outputs(), TIMED):
        by_help = command("trtexec", SPEC, numbers(release), outputs, listed(release))
        assert by_help == command("trtexec", SPEC, numbers(release), outputs)


def test_the_command_for_jetpack_5_in_full() -> None:
    outputs = replace(TIMED, timing_cache="/c/t.cache")
    assert command("/usr/src/tensorrt/bin/trtexec", SPEC, (8, 5, 2), outputs) == [
        "/usr/src/tensorrt/bin/trtexec",
        "--onnx=/m/model.onnx",
        "--saveEngine=model.plan",
        "--minShapes=images:1x224x224x3",
        "--optShapes=images:8x224x224x3",
        "--maxShapes=images:32x224x224x3",
        "--memPoolSize=workspace:1024",
        "--fp16",
        "--noTF32",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=layers.json",
        "--timingCacheFile=/c/t.cache",
        "--noDataTransfers",
        "--useSpinWait",
        "--useCudaGraph",
        "--separateProfileRun",
        "--percentile=50,90,95,99",
        "--exportTimes=times.json",
        "--exportProfile=profile.json",
    ]


@pytest.mark.parametrize(
    ("release", "only"),
    [("8.5.2", "--buildOnly")] + [(release, "--skipInference") for release in RELEASES[1:]],
)
def test_building_alone_runs_nothing(release: str, only: str) -> None:
    found = names(command("trtexec", SPEC, numbers(release), Outputs()))
    assert only in found
    assert not found & (TIMING | {"--percentile", "--exportTimes", "--exportProfile"})
    assert not names(command("trtexec", SPEC, numbers(release), TIMED)) & {only}


@pytest.mark.parametrize(
    ("release", "typed", "precision", "expected"),
    [
        ("8.5.2", True, "fp16", {"--fp16", "--noTF32"}),
        ("8.6.1", False, "int8", {"--int8", "--noTF32"}),
        ("8.6.1", True, "fp32", {"--noTF32"}),
        ("10.3.0", True, "fp16", {"--stronglyTyped", "--noTF32"}),
        ("10.3.0", True, "fp32", {"--stronglyTyped", "--noTF32"}),
        ("10.13.3", True, "int8", {"--stronglyTyped", "--noTF32"}),
        ("10.13.3", False, "int8", {"--int8", "--noTF32"}),
        ("11.1.0", True, "fp16", {"--noTF32"}),
        ("11.1.0", True, "int8", {"--noTF32"}),
        ("11.1.0", False, "fp32", {"--noTF32"}),
    ],
)
def test_precision_is_a_type_or_a_permission(
    release: str, typed: bool, precision: str, expected: set[str]
) -> None:
    spec = replace(SPEC, typed=typed, precision=precision)
    every = {"--fp16", "--int8", "--best", "--stronglyTyped", "--noTF32"}
    found = names(command("trtexec", spec, numbers(release), Outputs(), listed(release)))
    assert found & every == expected
    strong = "--stronglyTyped" in expected or release == "11.1.0"
    assert is_typed(spec, numbers(release), listed(release)) == strong


def test_a_dla_has_permissions_even_on_10_and_no_cuda_graph() -> None:
    spec = replace(SPEC, dla_core=1)
    found = command("trtexec", spec, (10, 3, 0), TIMED, listed("10.3.0"))
    assert {"--useDLACore=1", "--allowGPUFallback", "--fp16"} <= set(found)
    assert not {"--stronglyTyped", "--useCudaGraph"} & set(found)
    assert not is_typed(spec, (10, 3, 0))


def test_several_inputs_and_names_with_colons() -> None:
    spec = replace(SPEC, inputs={"a:0": (3,), "mask": ()}, batch=Batch(1, 1, 4))
    assert "--maxShapes=a:0:4x3,mask:4" in command("trtexec", spec, (8, 6, 1), Outputs())


def test_a_file_of_fixed_shapes_is_given_none() -> None:
    found = names(command("trtexec", replace(SPEC, inputs={}), (8, 6, 1), TIMED))
    assert not {name for name in found if "hapes" in name}


@pytest.mark.parametrize(
    ("change", "version", "kind", "says"),
    [
        ({"inputs": {"a,b": (3,)}}, (8, 6, 1), "input", "'a,b'"),
        ({"inputs": {"": (3,)}}, (8, 6, 1), "input", "''"),
        ({}, (8, 4, 1), "library", r"TensorRT 8\.4\.1; 8\.5 or newer"),
        ({"dla_core": 0, "precision": "fp32"}, (8, 5, 2), "provider", "fp16 and int8 only"),
        ({"typed": False}, (11, 1, 0), "precision", "Export a typed one: --precision fp16"),
    ],
)
def test_wishes_that_cannot_be_granted(
    change: dict[str, Any], version: tuple[int, int, int], kind: str, says: str
) -> None:
    with pytest.raises(AgentError, match=says) as caught:
        command("trtexec", replace(SPEC, **change), version, Outputs())
    assert caught.value.kind == kind


def test_a_permission_that_the_help_lacks_is_not_left_out_in_silence() -> None:
    options = listed("8.6.1") - {"--int8"}
    with pytest.raises(AgentError, match="has no --int8, so the engine would not be int8"):
        command("trtexec", replace(SPEC, precision="int8"), (8, 6, 1), Outputs(), options)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("core", [None, 0])
@pytest.mark.parametrize("helped", [True, False])
def test_no_release_is_given_an_option_it_lacks_to_answer(
    release: str, core: int | None, helped: bool
) -> None:
    options = listed(release) if helped else frozenset()
    spec, files = replace(SPEC, dla_core=core), {"images": "a.bin"}
    found = running("trtexec", Path("/m/a.plan"), spec, files, "o.json", numbers(release), options)
    assert names(found) <= listed(release)
    expected = [
        "trtexec",
        "--loadEngine=/m/a.plan",
        "--shapes=images:32x224x224x3",
        "--loadInputs=images:a.bin",
        "--exportOutput=o.json",
        "--iterations=1",
        "--duration=0",
        "--warmUp=0",
    ]
    # what 11 does by default, the others do not
    defaults = ["--includeDataTransfers", "--noCudaGraph", "--noSpinWait"]
    expected += defaults if release == "11.1.0" else []
    assert found == expected + (["--useDLACore=0"] if core == 0 else [])


def test_an_unreadable_help_lists_nothing() -> None:
    assert offered("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --help\n") == set()
