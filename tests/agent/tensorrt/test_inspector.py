"""Both generations of the inspector's JSON, and what an engine is called by them.

The samples are written by hand from the keys that NVIDIA documents: the developer guide's example
of a layer (8.x: ``Format/Datatype`` in words), layers of Myelin (10.x: the type alone), and 11's
``Format`` and ``DataType``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.inspector import check, inspect, precision_of

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"


def conv(name: str, kind: str, ends: str, weights: str | None) -> dict[str, Any]:
    """A convolution as 8.x and 10.x write it."""
    tensor = {"Name": f"{name} out", "Dimensions": [1, 64, 56, 56], "Format/Datatype": ends}
    table = {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor]}
    return {**table, "Weights": {"Type": weights, "Count": 36864}} if weights else table


REFORMAT = {
    "Name": "Reformatting CopyNode for Input Tensor 0 to conv1",
    "LayerType": "Reformat",
    "Inputs": [{"Name": "images", "Format/Datatype": "Row major linear FP32"}],
    "Outputs": [{"Name": "Reformatted", "Format/Datatype": "Channel major FP16 format where 8"}],
    "ParameterType": "Reformat",
    "Origin": "REFORMAT",
}
EIGHT = {
    "Layers": [
        REFORMAT,
        conv("conv1 + relu", "CaskConvolution", "Channel major FP16 format where channel % 8 == 0",
             "Half"),
        conv("conv2", "CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format",
             "Int8"),
        conv("pool", "CaskPooling", "Row major linear FP16 format", None),
        conv("fc", "CudnnConvolution", "Row major linear FP32", "Float"),
    ],
    "Bindings": ["images", "logits"],
}  # fmt: skip
TEN = {
    "Layers": [
        conv("__myl_CastMulAdd_myl0_1", "kgen", "Half", None),
        {
            "Name": "qkv_myl0_2",
            "LayerType": "gemm",
            "Inputs": [{"Name": "a", "Dimensions": [1, 197, 192], "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "b", "Dimensions": [1, 197, 576], "Format/Datatype": "Half"}],
            "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: /blocks.0/attn/qkv/MatMul]",
        },
        {"Name": "signal", "LayerType": "signal", "Inputs": [], "Outputs": [], "StreamId": 1},
    ],
    "Bindings": ["images", "logits"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "conv1",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Format": "Channel major, channel % 8", "DataType": "Int8"}],
            "Outputs": [{"Name": "y", "Format": "Row major linear", "DataType": "Float"}],
        },
        {
            "Name": "mul",
            "LayerType": "PointWise",
            "Inputs": [{"Name": "y", "Format": "Row major linear", "DataType": "Float"}],
            "Outputs": [{"Name": "z", "Format": "Row major linear", "DataType": "Float"}],
        },
    ],
    "I/O Tensors": [
        {"Name": "images", "IOMode": "INPUT", "DataType": "UInt8", "Dimensions": [-1, 224, 224, 3],
         "Location": "DEVICE", "IsShapeInferenceIO": False,
         "ProfileInfo": [{"MinShape": [1, 224, 224, 3], "Format": "Row major linear"}]},
    ],
}  # fmt: skip


def test_of_8_each_weighted_layer_counts_with_its_weights() -> None:
    found = inspect(json.dumps(EIGHT))
    assert [layer.name for layer in found.layers] == ["conv1 + relu", "conv2", "pool", "fc"]
    assert found.counts == {"fp16": 2, "int8": 1, "fp32": 1}
    assert [layer.name for layer in found.judged] == ["conv1 + relu", "conv2", "fc"]
    assert found.shares == {"fp16": 1 / 3, "int8": 1 / 3, "fp32": 1 / 3}


def test_of_10_fused_layers_have_the_type_alone() -> None:
    found = inspect(json.dumps(TEN))
    assert found.counts == {"fp16": 2}
    assert [layer.name for layer in found.judged] == ["qkv_myl0_2"]
    assert found.label == "fp16"


def test_of_11_an_int8_convolution_that_puts_out_floats_is_int8() -> None:
    found = inspect(json.dumps(ELEVEN))
    assert found.counts == {"int8": 1, "fp32": 1}
    assert (found.label, found.shares) == ("int8", {"int8": 1.0})
    assert found.to_dict()["layers"][0] == ["conv1", "CaskConvolution", "int8"]


def test_without_a_layer_that_multiplies_all_count() -> None:
    found = inspect(json.dumps({"Layers": [conv("add", "ElementWise", "Half", None)]}))
    assert found.label == "fp16"


def test_an_engine_of_nothing_has_no_label() -> None:
    found = inspect('{"Layers": []}')
    assert (found.label, found.shares) == ("unknown", {})
    with pytest.raises(AgentError, match="no layer that computes") as caught:
        check(found, "fp16", 0.5)
    assert "Ask for unknown" not in str(caught.value)


VIT = json.loads((SAMPLES / "layers-vit-8.6.json").read_text("utf-8"))
MULTIPLICATIONS = 50  # of a small ViT: 12 blocks of 4, the patches and the head


def vit(patches: str, before: str, after: str) -> str:
    """A transformer on 8.6: a convolution of one type, and Myelin between two others."""
    reformat, first, myelin = VIT["Layers"]
    first = {**first, "Weights": {"Type": patches, "Count": 147456}}
    ends = {
        "Inputs": [{**myelin["Inputs"][0], "Format/Datatype": before}],
        "Outputs": [{**myelin["Outputs"][0], "Format/Datatype": after}],
    }
    return json.dumps({**VIT, "Layers": [reformat, first, {**myelin, **ends}]})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VIT),
        vit(
            "Half", "Row major linear FP32", "Row major linear FP32"
        ),  # nobody knows what is inside
        vit("Float", "Row major linear FP32", "Row major linear FP32"),
        json.dumps({**VIT, "Layers": VIT["Layers"][2:]}),  # Myelin alone, fp32 logits
    ],
    ids=["half into it", "half beside it", "float beside it", "alone"],
)
def test_what_myelin_hides_is_neither_vouched_for_nor_condemned(text: str) -> None:
    found = inspect(text, multiplications=MULTIPLICATIONS)
    assert found.label == "unknown"
    assert found.shares["unknown"] >= 0.98  # one node, and it is nearly the whole network
    with pytest.raises(AgentError, match=r"precision is unknown: .*ForeignNode.* TensorRT 10 or"):
        check(found, "fp16", 0.5)


def test_what_myelin_hides_is_known_where_the_types_are_binding_or_nothing_was_permitted() -> None:
    typed = inspect(json.dumps(VIT), "fp16", MULTIPLICATIONS)
    assert typed.shares == {"fp16": 1.0}
    check(typed, "fp16", 0.5)
    plain = inspect(vit("Float", "FP32", "FP32"), "fp32", MULTIPLICATIONS)
    assert plain.label == "fp32"
    check(plain, "fp32", 0.5)


def test_myelin_between_half_ends_is_half() -> None:
    text = vit("Float", "Row major linear FP16 format", "Row major linear FP16 format")
    found = inspect(text, multiplications=MULTIPLICATIONS)
    assert (found.label, found.shares["fp32"]) == ("fp16", 1 / 50)


def test_a_little_myelin_does_not_hide_a_convolutional_network() -> None:
    convs = [conv(f"conv{i}", "CaskConvolution", "Half", "Half") for i in range(19)]
    text = json.dumps({"Layers": [*convs, VIT["Layers"][2]]})
    found = inspect(text, multiplications=20)
    assert found.shares == {"fp16": 0.95, "unknown": 0.05}
    check(found, "fp16", 0.5)


def test_below_the_share_it_is_refused_by_name() -> None:
    found = inspect(json.dumps(EIGHT))
    with pytest.raises(AgentError) as caught:
        check(found, "fp16", 0.5)
    assert caught.value.kind == "precision"
    assert "33% of its 3 multiplying layers are fp16, expected 50%" in str(caught.value)
    assert "conv2 (int8), fc (fp32)" in str(caught.value)
    assert "conv1" not in str(caught.value)


def test_the_label_must_be_what_was_asked_for_and_a_tie_is_the_wider_ones() -> None:
    half = [conv(f"half{i}", "Convolution", "Half", "Half") for i in range(2)]
    full = [conv(f"full{i}", "Convolution", "Float", "Float") for i in range(2)]
    tied = inspect(json.dumps({"Layers": [*half, *full]}))
    assert tied.shares == {"fp16": 0.5, "fp32": 0.5}
    assert tied.label == "fp32"
    with pytest.raises(AgentError, match="fp16 was asked for and the engine is fp32: 50%"):
        check(tied, "fp16", 0.5)
    check(tied, "fp16", 0)  # to be timed, whatever it is
    most = inspect(json.dumps({"Layers": [*half, full[0]]}))
    check(most, "fp16", 0.5)
    with pytest.raises(AgentError, match="fp32 was asked for and the engine is fp16: 33%"):
        check(most, "fp32", 0.1)


def test_a_long_list_of_others_is_cut() -> None:
    layers = [conv(f"conv{i}", "Convolution", "Float", "Float") for i in range(9)]
    with pytest.raises(AgentError, match=r"conv3 \(fp32\) and 5 more"):
        check(inspect(json.dumps({"Layers": layers})), "int8", 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Layers": ["conv1", "conv2"]}', "names of its layers only"),
        ('{"Bindings": []}', "gave no layers"),
        ("not json", "gave no layers"),
        ("null", "gave no layers"),
    ],
)
def test_what_says_nothing_is_not_accepted(text: str, words: str) -> None:
    with pytest.raises(AgentError, match=words) as caught:
        inspect(text)
    assert caught.value.kind == "output"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("Half", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("BFloat16", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("UInt8", "other"),
        ("Int32", "other"),
        ("INT64", "other"),
        ("Bool", "other"),
        ("FP8", "fp8"),
        ("", "other"),
    ],
)
def test_words_of_both_generations(words: str, name: str) -> None:
    assert precision_of(words) == name
