"""Profiling, from an ONNX file to a record that fits the schema."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import edgekd
from edgekd import records
from edgekd.devices import address
from edgekd.devices.local import Local
from edgekd.errors import DeviceError, UsageError
from edgekd.profiling import Policy, pictures, profile
from edgekd.records import graph_facts, sample_lines

TINY = runpy.run_path(str(Path(__file__).parent / "agent/tiny_models.py"))
classifier: Callable[..., Path] = TINY["classifier"]
noise: Callable[..., Any] = TINY["pictures"]
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
        "wait": None,
        "affinity": record["evidence"]["facts"]["affinity"],  # nothing was asked for
        "cuda_graph": None,
        "transfers": None,
        "input": "photos (scikit-learn)",
        "order": "alone",
    }
    assert record["timing"]["n"] >= 5 * 30
    assert record["timing"]["load_ms"] > 0
    assert record["memory"]["peak_rss_bytes"] > 10_000_000
    assert "GlobalAveragePool" in {layer["type"] for layer in record["layers"]}
    assert (record["sweep"], record["sustained"], record["energy"]) == (None, [], None)
    assert record["accuracy"] is None
    assert record["memory"]["unified"] is False
    assert record["evidence"]["asked"]["max_seconds"] == 2.0
    text = record["timing"]["p99"]["method"]
    assert text.startswith(f"n/a ({record['timing']['n']} runs, need 459)") or "order" in text


def test_two_models_on_images(tmp_path: Path) -> None:
    images, targets = noise(120), np.arange(120) % 6
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "targets.npy", targets)
    first = classifier(tmp_path / "a.onnx", baked=False)
    second = classifier(tmp_path / "b.onnx", seed=1)
    events: list[dict[str, Any]] = []
    data: dict[str, Any] = {"images": tmp_path / "images.npy", "targets": tmp_path / "targets.npy"}
    truth = classifier_answers(first, images)
    records = quick(second, first, preprocess=PREPROCESS, on_event=events.append, **data)
    check(records)
    other, same, compared = records
    assert same["policy"]["input"] == "images"
    assert same["policy"]["order"] == "interleaved"
    assert same["accuracy"]["value"] == np.mean(np.array(truth) == targets)
    assert same["accuracy"]["delta"] is None  # nothing is said here of any float network
    assert other["accuracy"]["top5"] >= other["accuracy"]["value"]
    assert compared["comparison"]["null"]["value"] is not None
    assert compared["comparison"]["sentence"]
    found = [event for event in events if event["event"] == "found"]
    assert [event["model"] for event in found] == [0, 1]
    assert found[1]["predictions"] == truth
    fed = [int(np.argmax(logits)) for logits in found[1]["answers"]]
    assert fed == truth[: len(fed)]  # the first images are what was timed
    assert len(fed) > 1
    samples = [event for event in events if event["event"] == "samples"]
    lines = list(sample_lines(samples[0]))
    assert len(lines) == same["timing"]["n"]
    assert lines[7]["run"] == 7
    assert lines[7]["wall_ns"] > 0


def test_what_was_sent_once_is_not_sent_again(tmp_path: Path) -> None:
    """Images are named by their content: another call finds them where the first one put them."""
    device, pushed = Local(), list[str]()
    push = device.push

    def counted(local: Path, remote: str) -> None:
        if not (device.folder / remote).exists():
            pushed.append(remote.partition("/")[2] or remote.rpartition("-")[2])
        push(local, remote)

    device.push = counted  # type: ignore[method-assign]
    model = classifier(tmp_path / "a.onnx")
    for place in ("first", "second"):  # the same arrays, written anew
        (tmp_path / place).mkdir()
        np.save(tmp_path / place / "images.npy", noise(20))
        np.save(tmp_path / place / "targets.npy", np.arange(20) % 6)
        pushed.clear()
        profile(
            [model],
            device,
            Policy(**QUICK),
            images=tmp_path / place / "images.npy",
            targets=tmp_path / place / "targets.npy",
        )
        sent = {"a.onnx", "images.npy", "targets.npy", "agent.zip", "job.json"}
        assert set(pushed) == (sent if place == "first" else {"job.json"})
    assert (device.folder / address(tmp_path / "first" / "images.npy")).is_file()


def test_from_the_image_file_to_the_class(tmp_path: Path) -> None:
    """Clock end_to_end: the device decodes, and its answers are those to the decoded image."""
    taken = {"size": [8, 8], "interpolation": "bilinear", "crop_pct": 1.0}
    path, events = classifier(tmp_path / "a.onnx", size=(8, 8)), list[dict[str, Any]]()
    policy = {"clock": "end_to_end", "max_seconds": 1.0}
    (whole,) = quick(path, policy=policy, preprocess=taken, on_event=events.append)
    (bare,) = quick(path)
    check([whole, bare])
    assert (whole["policy"]["clock"], bare["policy"]["clock"]) == ("end_to_end", "inference")
    assert (whole["policy"]["input"], bare["policy"]["input"]) == (
        "encoded images",
        "photos (scikit-learn)",
    )
    with zipfile.ZipFile(pictures.encoded_photos(tmp_path / "photos.zip")) as archive:
        decoded = [
            np.asarray(Image.open(archive.open(name)).convert("RGB").resize((8, 8), 2))
            for name in archive.namelist()
        ]
    (found,) = [event for event in events if event["event"] == "found"]
    expected = classifier_answers(classifier(tmp_path / "f.onnx", baked=False), np.stack(decoded))
    assert [int(np.argmax(logits)) for logits in found["answers"][:2]] == expected


def test_the_same_images_are_the_same_zip(tmp_path: Path) -> None:
    images = [(".jpg", b"one"), (".png", b"two" * 1000)]
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    pictures.pack(first, images)
    with zipfile.ZipFile(pictures.pack(second, images)) as archive:
        entries = archive.infolist()
    assert first.read_bytes() == second.read_bytes()
    assert address(first).partition("/")[0] == address(second).partition("/")[0]
    assert [entry.filename for entry in entries] == ["00000.jpg", "00001.png"]
    assert all(entry.compress_size == entry.file_size for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_all_that_can_be_measured_beside(tmp_path: Path) -> None:
    beside: dict[str, Any] = {
        "sweep": True,
        "sustained_s": 0.4,
        "sustained_row_s": 0.2,
        "threads": 0,
    }
    beside |= {"energy": True, "idle_s": 0.1, "energy_s": 0.1, "affinity": "0"}
    (record,) = quick(classifier(tmp_path / "a.onnx"), policy=beside)
    check([record])
    assert record["policy"]["affinity"] == [0]
    assert record["policy"]["threads"] == 1  # as many as the affinity has cores
    assert [(row["threads"], row["spinning"]) for row in record["sweep"]["rows"]] == [(1, False)]
    assert record["sweep"]["best_latency"] == record["sweep"]["best_cpu"] == 0
    minutes = [row["minute"] for row in record["sustained"]]
    assert minutes == sorted(minutes)
    assert len(minutes) >= 2
    assert record["evidence"]["asked"]["sustained_s"] == 0.4
    if record["energy"] is None:  # most machines that run tests have no meter
        assert any("energy" in reason for reason in record["verdict"]["reasons"])


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
    images = noise(40)
    np.save(tmp_path / "images.npy", images)
    path = classifier(tmp_path / "a.onnx", baked=False, metadata=True)
    events: list[dict[str, Any]] = []
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
    path = pictures.decoded_photos(tmp_path / "photos.npy")
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
    np.save(tmp_path / "images.npy", noise(10, (9, 7)))
    (record,) = quick(path, images=tmp_path / "images.npy")
    assert record["accuracy"]["n"] == 10


def test_a_size_that_a_model_does_not_leave_free_is_refused(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", size=(8, 8))
    quick(path, policy={"image_size": (8, 8)})
    with pytest.raises(DeviceError, match="takes pictures of 8x8 only, and 10x12 was asked for"):
        quick(path, policy={"image_size": (10, 12)})


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
    with pytest.raises(DeviceError, match=r"a\.onnx is not a whole ONNX model\. Export"):
        quick(tmp_path / "a.onnx")


def test_a_batch_that_the_model_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="exported for batches of 4, and 1 was asked for"):
        quick(classifier(tmp_path / "a.onnx", batch=4))


def test_input_that_does_not_fit_together(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    images, targets = tmp_path / "images.npy", tmp_path / "targets.npy"
    np.save(images, noise(10))
    np.save(targets, np.arange(9))
    with pytest.raises(UsageError, match=r"found 10 in .*images.npy, 9 in .*targets.npy"):
        quick(path, images=images, targets=targets)
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
        ({"clock": "wall"}, "the clock is 'wall'; expected one of inference, end_to_end, compute"),
        ({"clock": "end_to_end", "input": "random"}, "starts at encoded images, which random"),
        ({"affinity": "all"}, "the affinity is 'all'; expected CPUs"),
        ({"affinity": "0-99999999999"}, "the affinity is '0-99999999999'; expected CPUs"),
        ({"image_size": (0, 8)}, r"the image size is \(0, 8\); expected height and width, 1 to"),
        ({"image_size": (8, 8193)}, r"the image size is \(8, 8193\); expected height and width"),
        ({"sustained_s": -1}, "sustained_s is -1"),
        ({"energy_s": 0}, "energy_s is 0"),
    ],
)
def test_policies_that_cannot_be(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Policy(**policy)


def test_a_job_may_take_as_long_as_was_asked_for() -> None:
    plain = Policy(timeout_s=100)
    assert plain.limit_s(2) == 100
    long = Policy(timeout_s=100, sustained_s=600, energy=True, energy_s=30, idle_s=10, wait_s=50)
    assert long.limit_s(2) == 100 + 2 * 640  # waiting comes before


def test_without_photographs_there_is_nothing_to_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    path = classifier(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match=r"needs encoded images.*--data, or use --clock inference"):
        quick(path, policy={"clock": "end_to_end"}, preprocess={"size": [8, 8]})


def test_a_failure_fits_the_schema() -> None:
    record = records.failure("pi4", ["a.onnx"], "pi4: there is no onnxruntime. Install it.")
    check([record])
    with pytest.raises(jsonschema.ValidationError):
        check([{**record, "failure": {**record["failure"], "models": []}}])


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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"threads": -1}, "threads is -1; expected at least 0"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0; expected more than 0"),
    ],
)
def test_what_is_too_low_is_told_the_least(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Policy(**given)
