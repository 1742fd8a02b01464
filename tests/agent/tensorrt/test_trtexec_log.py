"""What trtexec prints, of both generations. The samples and their sources: fixtures/trtexec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.trtexec_log import summary_of, verdict_of, version_of, warnings_of

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("v8201]", (8, 2, 1)),
        ("v8502]", (8, 5, 2)),
        ("v8510]", (8, 5, 10)),
        ("v8603]", (8, 6, 3)),
        ("v100001]", (10, 0, 1)),
        ("v100300]", (10, 3, 0)),
        ("v101303] [b33]", (10, 13, 3)),
        ("v101601] [b11]", (10, 16, 1)),
        ("v110100] [b106]", (11, 1, 0)),
        ("v11.1.0.106] [b48]", (11, 1, 0)),
        ("v8.6]", (8, 6, 0)),
    ],
)
def test_the_version_is_in_the_first_line(banner: str, version: tuple[int, int, int]) -> None:
    assert version_of(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner} # x\nmore") == version


def test_another_program_is_no_trtexec() -> None:
    with pytest.raises(AgentError, match=r"found 'usage: tar'.*trtexec --help"):
        version_of("usage: tar\n")
    missing = "trtexec: error while loading shared libraries: libnvinfer.so.8: cannot open shared"
    with pytest.raises(AgentError, match=r"needs libnvinfer\.so\.8"):
        version_of(missing + " object file: No such file or directory")


@pytest.mark.parametrize(
    ("log", "throughput", "p99", "walltime"),
    [
        ("passed-8.2.log", 27207, 0.578552, 3.00158),
        ("passed-8.5.log", 234.19, 4.27209, 3.00294),
        ("passed-10.3.log", 130.298, 12.9485, 3.00082),
        ("passed-11.1.log", 15473.2, 0.0649414, 3.00013),
    ],
)
def test_the_summary_of_each_generation(
    log: str, throughput: float, p99: float, walltime: float
) -> None:
    found = summary_of(sample(log))
    assert found is not None
    assert (found.throughput_qps, found.walltime_s) == (throughput, walltime)
    assert found.milliseconds["compute"]["p99"] == p99
    stages = {"latency", "enqueue", "h2d", "compute", "d2h"}
    assert set(found.milliseconds) == stages | ({"end_to_end"} if "8.2" in log else set())
    assert all(
        {"min", "max", "mean", "median", "p99"} <= set(r) for r in found.milliseconds.values()
    )
    assert verdict_of(sample(log)).passed
    assert json.loads(json.dumps(found.to_dict()))["throughput_qps"] == throughput


def test_every_number_of_a_line_of_the_last_summary() -> None:
    found = summary_of(sample("passed-10.3.log") + sample("dla-8.5.log"))
    assert found == summary_of(sample("passed-10.3.log"))
    found = summary_of(sample("passed-8.2.log") + sample("passed-10.3.log"))
    assert found is not None
    assert found.milliseconds["latency"] == {
        "min": 5.38672,
        "max": 13.3664,
        "mean": 7.60628,
        "median": 7.16092,
        "p90": 10.2996,
        "p95": 10.8698,
        "p99": 12.9675,
    }
    assert found.compute_s == 2.96536


def test_warnings_that_make_the_numbers_worth_less() -> None:
    found = summary_of(sample("passed-10.3.log"))
    assert found is not None
    bound, unstable = found.warnings
    assert bound.startswith("Throughput may be bound by Enqueue Time rather than GPU Compute")
    assert bound.endswith("--useCudaGraph (utilize CUDA graphs where possible) may increase the "
                          "throughput.")  # fmt: skip
    assert "coefficient of variance = 16.4497%" in unstable
    steady = summary_of(sample("passed-11.1.log"))
    assert steady is not None
    assert steady.warnings == ()


def test_alike_warnings_are_counted() -> None:
    weights, layers, unstable = warnings_of(sample("passed-8.5.log"))
    assert "INT64 weights" in weights
    assert layers.startswith("Layer '/model.24/Constant_1_output_0' (CONSTANT): Unsupported on DLA")
    assert layers.endswith("(and 2 more like it)")
    assert unstable.startswith("* GPU compute time is unstable")
    assert warnings_of(sample("passed-11.1.log")) == ()  # that a flag is old is no news to users


def test_no_summary_and_half_a_summary() -> None:
    assert summary_of(sample("dla-8.5.log")) is None
    text = sample("passed-10.3.log")
    with pytest.raises(AgentError, match="has no line 'Total Host Walltime'"):
        summary_of(text[: text.index("[10/03/2024-10:47:59] [I] Total Host")])


@pytest.mark.parametrize(
    ("log", "errors"),
    [
        (
            "operator-8.0.log",
            [
                "3: getPluginCreator could not find plugin: Round version: 1",
                'While parsing node number 87 [Round -> "Round_87:0"]:',
                "ERROR: builtin_op_importers.cpp:4643 In function importFallbackPluginImporter: "
                '[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, '
                'and namespace correct?"',
            ],
        ),
        (
            "node-10.16.log",
            [
                "broadcast dimensions must be conformable",
                'While parsing node number 103 [Where -> "/Where_6_output_0"]:',
                "ERROR: ModelImporter.cpp:506 In function parseNode: [6] Invalid Node - /Where_6",
            ],
        ),
        (
            "workspace-8.5.log",
            [
                "Could not find any implementation for node {ForeignNode[177...Reshape_81 + "
                "(Unnamed Layer* 146) [Shuffle]]}."
            ],
        ),
        ("dla-8.5.log", ["Cannot create DLA engine, 0 not available"]),
        (
            "option-10.3.log",
            [
                "Unknown option: --workspace 2048",
                "Unknown option: --buildOnly",
                "Unknown option: --explicitBatch",
            ],
        ),
        ("option-11.1.log", ["Unknown option: --fp16"]),
    ],
)
def test_errors_without_their_consequences(log: str, errors: list[str]) -> None:
    verdict = verdict_of(sample(log))
    assert not verdict.passed
    assert list(verdict.errors) == errors
    assert verdict.sentence == " / ".join(errors)


def test_an_end_without_a_verdict_is_a_failure() -> None:
    text = sample("passed-8.5.log")
    cut = verdict_of(text[: text.rindex("&&&& PASSED")])
    assert not cut.passed
    assert "no error line" in cut.sentence
    assert not verdict_of("").passed


def test_consequences_alone_are_better_than_nothing() -> None:
    text = "[01/02/2026-03:04:05] [E] Engine set up failed\n&&&& FAILED TensorRT.trtexec x\n"
    assert verdict_of(text).errors == ("Engine set up failed",)
