"""The JSON files of trtexec, of both generations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt import inspector
from edgekd.agent.tensorrt.trtexec_json import layers_of, outputs_of, profile_of, times_of

OUTPUTS = """[
  { "name" : "logits"
  , "dimensions" : "2x3"
  , "values" : [ 1.5, -2e-05, 3, nan, -inf, inf ]
  }
]
"""
SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "compute"), [("times-8.5.json", [4.24, 4.25]), ("times-10.3.json", [5.35, 7.1, 7.24])]
)
def test_times_of_single_queries(name: str, compute: list[float]) -> None:
    times = times_of(sample(name))
    assert times["computeMs"] == compute
    assert times["latencyMs"] == compute  # no transfers
    assert len({len(column) for column in times.values()}) == 1


def test_the_profile_counts_first() -> None:
    profile = profile_of(sample("profile-8.5.json"))
    assert (profile.count, len(profile.layers)) == (704, 2)
    last = profile.layers[-1]
    assert (last.name, last.total_ms, last.mean_ms, last.median_ms, last.percent) == (
        "conv1 + relu", 56.32, 0.08, 0.079, 80,
    )  # fmt: skip


def test_names_that_trtexec_did_not_escape() -> None:
    text = sample("profile-10.3.json")
    with pytest.raises(ValueError, match=r"delimiter|escape"):
        json.loads(text, strict=False)
    profile = profile_of(text)
    assert [layer.name for layer in profile.layers] == [
        "__myl_CastMul_myl0_1",
        'node "a" + C:\\models\\x',
        "conv\x1e[ONNX Layer: /conv]",
    ]
    assert sum(layer.percent for layer in profile.layers) == 100


@pytest.mark.parametrize("name", ["layers-8.6.json", "layers-11.1.json"])
def test_layers_go_to_the_inspector(name: str) -> None:
    found = inspector.inspect(layers_of(sample(name)))
    assert found.label == "fp16"


def test_a_layer_name_with_quotes_is_mended() -> None:
    (layer,) = json.loads(layers_of(sample("layers-11.1.json")))["Layers"]
    assert layer["Name"] == 'conv1 "fused" \\relu'
    assert layer["Outputs"][0]["DataType"] == "Half"


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (times_of, "[\n]\n", "timed no query"),
        (times_of, "[1, 2]", "list of tables"),
        (times_of, '[{"computeMs": "x"}]', "could not convert"),
        (times_of, "", "Report it"),
        (profile_of, "[]", "profile cannot be read"),
        (profile_of, '[{"count": 1}, {"name": "a"}]', "timeMs"),
        (profile_of, '{"count": 1}', "list of tables"),
        (layers_of, '{"Layers": [', "layer information cannot be read"),
    ],
)
def test_json_that_is_none(read: Callable[[str], object], text: str, says: str) -> None:
    with pytest.raises(AgentError, match=says) as caught:
        read(text)
    assert caught.value.kind == "output"


def test_outputs_have_shapes_and_numbers_that_json_has_not() -> None:
    (name, found), *others = outputs_of(OUTPUTS).items()
    assert (name, others) == ("logits", [])
    assert found.shape == (2, 3)
    assert found.values[:3] == [1.5, -2e-05, 3]
    assert math.isnan(found.values[3])
    assert found.values[4:] == [-math.inf, math.inf]


@pytest.mark.parametrize("text", ["", "{}", '[{"name": "a"}]', OUTPUTS.replace("1.5", '"x"')])
def test_outputs_that_are_none(text: str) -> None:
    with pytest.raises(AgentError, match="trtexec's outputs cannot be read"):
        outputs_of(text)
