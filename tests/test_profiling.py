"""Profiling, from an ONNX file to a record that fits the schema."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekd
from edgekd import profiling
from edgekd.devices import Event
from edgekd.devices.local import Local
from edgekd.errors import DeviceError, UsageError
from edgekd.profiling import Policy, profile
from edgekd.records import graph_facts, sample_lines

TINY = runpy.run_path(str(Path(__file__).parent / "agent/tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
pictures: Callable[..., Any] = TINY["pictures"]
PREPROCESS = {"mean": TINY["MEAN"], "std": TINY["STD"]}
QUICK: dict[str, Any] = {
    "threads": 1,
    "warmup_seconds": 0.02,
    "block_seconds": 0.02,
    "min_seconds": 0.1,
    "max_seconds": 2.0,
}
SCHEMA = json.loads((Path(edgekd.__file__).parent / "profile.schema.json").read_text())


def quick(*models: Path, policy: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    return profile(models, Local(), Policy(**{**QUICK, **(policy or {})}), **more)


def check(records: list[dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for record in records:
        jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)


def test_one_model(tmp_path: Path) -> None:
    records = quick(classifier(tmp_path / "a.onnx", size=(32, 24)), policy={"layers": True})
    check(records)
    (record,) = records
    assert record["artifact"]["opset"] == 18
    assert record["artifact"]["precision_found"] == "fp32"
    assert record["device"]["profile"] == "local"
    assert record["runtime"]["node_share"] == {"CPUExecutionProvider": 1.0}
    assert record["policy"] == {
        "clock": "inference",
        "batch_size": 1,
        "threads": 1,
        "spinning": False,
        "affinity": record["evidence"]["facts"]["affinity"],
        "cuda_graph": None,
        "transfers": None,
        "input": "photos (scikit-learn)",
        "order": "alone",
    }
    assert record["timing"]["n"] >= 5 * 30
    assert record["timing"]["load_ms"] > 0
    assert record["memory"]["peak_rss_bytes"] > 10_000_000
    assert "GlobalAveragePool" in {layer["type"] for layer in record["layers"]}
    assert (record["sustained"], record["energy"], record["accuracy"]) == ([], None, None)
    assert record["evidence"]["asked"]["max_seconds"] == 2.0
    text = record["timing"]["p99"]["method"]
    assert text.startswith(f"n/a ({record['timing']['n']} runs, need 459)") or "order" in text


def test_two_models_on_images_against_a_reference(tmp_path: Path) -> None:
    images, targets = pictures(120), np.arange(120) % 6
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "targets.npy", targets)
    first = classifier(tmp_path / "a.onnx", baked=False)
    second = classifier(tmp_path / "b.onnx", seed=1)
    events: list[Event] = []
    data: dict[str, Any] = {"images": tmp_path / "images.npy", "targets": tmp_path / "targets.npy"}
    truth = classifier_answers(first, images)
    records = quick(
        second, first, preprocess=PREPROCESS, reference=truth, on_event=events.append, **data
    )
    check(records)
    other, same, compared = records
    assert same["policy"]["input"] == "images"
    assert same["policy"]["order"] == "interleaved"
    assert same["accuracy"]["value"] == np.mean(np.array(truth) == targets)
    assert same["accuracy"]["delta"] is None  # the reference is the first model's
    low, high = other["accuracy"]["delta_interval"]
    assert low < other["accuracy"]["delta"] < high
    assert 0 < other["accuracy"]["top1_agreement"] < 1
    assert other["accuracy"]["top5"] >= other["accuracy"]["value"]
    assert compared["comparison"]["null"]["value"] is not None
    assert compared["comparison"]["sentence"]
    answers = [event for event in events if event["event"] == "predictions"]
    assert answers[1] == {"event": "predictions", "model": 1, "predictions": truth}
    samples = [event for event in events if event["event"] == "samples"]
    lines = list(sample_lines(samples[0]))
    assert len(lines) == same["timing"]["n"]
    assert lines[7]["run"] == 7
    assert lines[7]["wall_ns"] > 0


def classifier_answers(path: Path, images: Any) -> list[int]:
    """What the float model says, with the preprocessing written out."""
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    normal = (images / 255 - np.array(TINY["MEAN"])) / np.array(TINY["STD"])
    logits = normal.mean(axis=(1, 2)) @ weights["weight"] + weights["bias"]
    return [int(value) for value in logits.argmax(axis=1)]


def test_the_same_model_twice_has_two_names(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    compared = quick(path, path)[-1]["comparison"]
    folder = tmp_path.name
    assert (compared["a"], compared["b"]) == (f"{folder}/a.onnx", f"{folder}/a.onnx (2)")


def test_float_models_find_their_preprocessing_in_their_metadata(tmp_path: Path) -> None:
    images = pictures(40)
    np.save(tmp_path / "images.npy", images)
    path = classifier(tmp_path / "a.onnx", baked=False, metadata=True)
    events: list[Event] = []
    quick(path, images=tmp_path / "images.npy", on_event=events.append)
    assert events[-1]["predictions"] == classifier_answers(path, images)
    bare = classifier(tmp_path / "b.onnx", baked=False)
    with pytest.raises(DeviceError, match="nothing says how to normalise them"):
        quick(bare, images=tmp_path / "images.npy")


def test_models_that_take_no_picture_run_on_random_input_when_asked(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", baked=False, channels=1)
    with pytest.raises(DeviceError, match=r"a.onnx takes x: float32\[\?,1,8,8\]; expected one"):
        quick(path)
    (record,) = quick(path, policy={"input": "random", "batch_size": 2})
    assert (record["policy"]["input"], record["policy"]["batch_size"]) == ("random", 2)


def test_without_photographs_the_record_says_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    (record,) = quick(classifier(tmp_path / "a.onnx"))
    assert record["policy"]["input"].startswith("random")
    check([record])


def test_photographs_are_written_as_numpy_would(tmp_path: Path) -> None:
    path = profiling._photos(tmp_path / "photos.npy")
    assert path is not None
    photos = np.load(path)
    assert (photos.shape, photos.dtype) == ((2, 427, 640, 3), np.uint8)
    assert 0 < photos[0].std() != photos[1].std() > 0
    np.save(tmp_path / "again.npy", photos)
    assert path.read_bytes() == (tmp_path / "again.npy").read_bytes()


def test_a_free_size_is_the_policys_or_the_images(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", size=("h", "w"))
    with pytest.raises(DeviceError, match="leaves its height or width free"):
        quick(path)
    quick(path, policy={"image_size": (10, 12)})
    np.save(tmp_path / "images.npy", pictures(10, (9, 7)))
    (record,) = quick(path, images=tmp_path / "images.npy")
    assert record["accuracy"]["n"] == 10


def test_weights_in_a_second_file_travel_along(tmp_path: Path) -> None:
    model = onnx.load(classifier(tmp_path / "a.onnx"))
    path, beside = tmp_path / "split.onnx", "split.onnx.data"
    onnx.save(model, path, save_as_external_data=True, location=beside, size_threshold=0)
    (record,) = quick(path)
    assert record["artifact"]["size_bytes"] > path.stat().st_size


def test_precision_is_what_the_graph_has(tmp_path: Path) -> None:
    values = [("half", np.float16, TensorProto.FLOAT16), ("whole", np.float32, TensorProto.FLOAT)]
    found = {}
    for name, dtype, kind in values:
        weight = numpy_helper.from_array(np.ones((3, 4), dtype), "w")
        nodes = [
            helper.make_node("Cast", ["x"], ["c"], to=kind),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
        ]
        found[name] = precision(nodes, weight, tmp_path / f"{name}.onnx")
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "w")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "w"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "w"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    found["quantised"] = precision(nodes, scale, tmp_path / "quantised.onnx")
    assert found == {"half": "fp16", "whole": "fp32", "quantised": "int8"}


def precision(nodes: list[onnx.NodeProto], weight: onnx.TensorProto, path: Path) -> str:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    opset, found = graph_facts(path)
    assert opset == 18
    return found


def test_a_provider_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="local: CUDAExecutionProvider was asked for"):
        quick(classifier(tmp_path / "a.onnx"), policy={"provider": "CUDAExecutionProvider"})


def test_a_corrupt_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(DeviceError, match=r"cannot load a\.onnx: the file is not a whole ONNX"):
        quick(tmp_path / "a.onnx")


def test_a_batch_that_the_model_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="exported for batches of 4, and 1 was asked for"):
        quick(classifier(tmp_path / "a.onnx", batch=4))


def test_input_that_does_not_fit_together(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    images, targets = tmp_path / "images.npy", tmp_path / "targets.npy"
    np.save(images, pictures(10))
    np.save(targets, np.arange(9))
    with pytest.raises(UsageError, match=r"found 10 in .*images.npy, 9 in .*targets.npy"):
        quick(path, images=images, targets=targets)
    with pytest.raises(UsageError, match="4 in the reference predictions"):
        quick(path, images=images, reference=[1, 2, 3, 4])
    with pytest.raises(UsageError, match="without images"):
        quick(path, targets=targets)
    with pytest.raises(UsageError, match="has no std"):
        quick(path, preprocess={"mean": [0, 0, 0]})
    with pytest.raises(UsageError, match=r"no file .*none.onnx"):
        quick(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="at least one"):
        quick()
    with pytest.raises(UsageError, match=r"is not a .npy array"):
        quick(path, images=path)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"input": "noise"}, "expected photos or random"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"max_seconds": 0}, "max_seconds is 0"),
    ],
)
def test_policies_that_cannot_be(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Policy(**policy)


def test_nothing_of_training_is_imported(tmp_path: Path) -> None:
    """G22: no torch, timm, torchvision or scikit-learn on the way to a number."""
    path = classifier(tmp_path / "a.onnx")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgekd.devices.local import Local\n"
        "from edgekd.profiling import Policy, profile\n"
        "assert not {'numpy', 'onnx', 'PIL'} & set(sys.modules), 'imported too early'\n"
        f"profile([Path({str(path)!r})], Local(), Policy(**{QUICK!r}))\n"
        "print(*sorted({'torch', 'timm', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(edgekd.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("\n", "")
