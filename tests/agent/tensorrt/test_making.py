"""Engines are kept with their keys, built again with a reason, and refused in a wrong precision."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Session, load
from edgekd.agent.tensorrt import cache, timing
from edgekd.agent.tensorrt.fitting import Fitting, fitting
from edgekd.agent.tensorrt.makers import Made
from edgekd.agent.tensorrt.making import make
from edgekd.agent.tensorrt.spec import Batch, BuildSpec

SAMPLES = Path(__file__).parents[2] / "fixtures" / "trtexec"


@pytest.fixture(autouse=True)
def _listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgekd.agent")


def spec_of(file: Path, **more: Any) -> BuildSpec:
    return BuildSpec(file, batch=Batch(1, 1, 8), **more)


def artifact(folder: Path, file: Path, plan: Path) -> Path:
    """``model.plan``, its key and ``model.onnx``, as the host keeps them."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(file.read_bytes())
    (folder / "model.plan").write_bytes(plan.read_bytes())
    (folder / "model.plan.json").write_bytes(cache.side_file(plan).read_bytes())
    return folder / "model.plan"


def test_an_engine_is_built_once(graph: Callable[..., Path], device: Callable[..., Any]) -> None:
    world, file = device("10.3.0"), graph()
    first, second = make(spec_of(file), {}), make(spec_of(file), {})
    assert (first.built, second.built) == (True, False)
    assert first.plan == second.plan
    assert len(world.called("Builder", "build_serialized_network")) == 1
    assert first.side["key"] == {
        "gpu": "Orin",
        "capability": "8.7",
        "tensorrt": "10.3.0",
        "cuda": "12.6",
        "builder": cache.BUILDER,
        "onnx": cache.digest(file),
        "options": spec_of(file).options(),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.13.3.9"}, "TensorRT 10.13.3.9 here, the engine is for 10.3.0"),
        ({"name": "Thor"}, "GPU Thor here, the engine is for Orin"),
        ({"workspace_mib": 64}, "workspace_mib 64 asked for, the engine has 1024"),
        ({"seed": 1}, "the ONNX file is another than the engine was built from"),
    ],
    ids=["tensorrt", "gpu", "options", "onnx"],
)
def test_what_changes_builds_again_with_a_reason(
    change: dict[str, Any],
    reason: str,
    graph: Callable[..., Path],
    device: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    device("10.3.0")
    file = graph()
    old = make(spec_of(file), {}).plan
    device(change.pop("version", "10.3.0"), name=change.pop("name", "Orin"))
    graph(seed=change.pop("seed", 0))
    made = make(spec_of(file, **change), {})
    assert made.built
    assert made.plan != old
    assert caplog.messages[-1] == f"{reason}: building it again"


def test_weights_beside_the_graph_are_part_of_the_key(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("10.3.0")
    file = graph()
    data = file.with_name(file.name + ".data")
    data.write_bytes(b"weights")
    first = cache.digest(file)
    data.write_bytes(b"others")
    assert cache.digest(file) != first
    data.unlink()
    assert cache.digest(file) not in (first, None)


def test_engines_that_were_built_in_another_way_are_not_reused(
    graph: Callable[..., Path],
    device: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device("10.3.0")
    file = graph()
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), {}).plan)
    monkeypatch.setattr(cache, "BUILDER", cache.BUILDER + 1)
    assert fitting(plan, {}) == Fitting(plan)  # given to be measured, however it was made
    assert make(spec_of(file), {}).built
    assert "this edgekd builds engines in another way" in caplog.messages[-1]


def test_the_reason_is_that_of_the_engine_that_nearly_fits(
    device: Callable[..., Any],
    graph: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "runs [old]").mkdir()
    file = graph().rename(tmp_path / "runs [old]" / "r[1].onnx")
    device("10.3.0")
    near = make(spec_of(file), {}).plan
    device("8.6.1", name="Xavier")
    far = make(spec_of(file, workspace_mib=64), {}).plan
    far.rename(far.with_name("r[1].0.plan"))  # first by name
    cache.side_file(far).rename(cache.side_file(far.with_name("r[1].0.plan")))
    device("10.3.0")
    assert make(spec_of(file, precision="fp16", typed=False), {}).plan != near
    assert "precision fp16 asked for, the engine has fp32: " in caplog.messages[-1]


@pytest.mark.parametrize(
    "side",
    [
        {"key": {}},
        {"key": {"options": {}}, "inspection": {"shares": {}, "label": "fp32"}},
        {"key": {"options": {"precision": "fp32"}}, "inspection": {}},
        {"key": {"options": []}, "inspection": {"shares": {}, "label": "fp32"}},
    ],
)
def test_a_side_file_that_lacks_something_says_nothing(
    side: dict[str, Any], graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0")
    plan = artifact(tmp_path / "artifact", graph(), make(spec_of(graph()), {}).plan)
    cache.side_file(plan).write_text(json.dumps(side))
    assert fitting(plan, {"batch_size": 1}) == Fitting(plan)


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1"])
def test_a_graph_that_would_be_misread_is_refused(
    version: str, graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    world, file = device(version), graph(opset=18)
    with pytest.raises(AgentError, match=rf"opset 18, and TensorRT {version} reads up to 17"):
        fitting(file, {})
    assert world.called("Builder", "build_serialized_network") == []
    device("10.3.0")
    assert fitting(file, {}).plan.is_file()


def test_8_5_lacks_layer_normalisation(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    file = graph()
    model = onnx.load(file)
    scale = numpy_helper.from_array(np.ones(6, np.float32), "scale_n")
    model.graph.initializer.append(scale)
    node = helper.make_node("LayerNormalization", ["scores", "scale_n"], ["logits"])
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(node)
    onnx.save(model, file)
    device("8.5.2.2")
    with pytest.raises(AgentError, match=r"1 LayerNormalization nodes.* --opset 16"):
        make(spec_of(file), {})
    device("8.6.1")
    assert make(spec_of(file), {}).built


@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8"])
def test_a_graph_alone_is_built_as_what_it_is(
    kind: str, graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    """As ``export --trt --precision`` builds it; its metadata stay with it."""
    device("10.3.0")
    plan = fitting(graph(kind, metadata=True), {}).plan
    side = cache.read_side(plan) or {}
    assert side["key"]["options"]["precision"] == kind
    assert sorted(load("trt").open(plan, {}).metadata) == ["edgekd.mean", "edgekd.std"]


def test_an_engine_that_had_its_precision_has_to_have_it_again(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("8.6.1")
    file = graph()
    made = make(spec_of(file, precision="fp16", typed=False), {})
    plan = artifact(tmp_path / "artifact", file, made.plan)
    device("8.6.1", obedient=False)
    with pytest.raises(AgentError, match="fp16 was asked for and the engine is fp32"):
        fitting(plan, {"batch_size": 16})


def test_what_was_run_is_known_whatever_was_given(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0")
    file = graph()
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), {}).plan)
    own = load("trt").made(plan, {"batch_size": 1}) or {}
    assert own["sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (own["rebuilt"], own["precision"]) == (None, "fp32")
    other = load("trt").made(plan, {"batch_size": 16}) or {}
    assert other["sha256"] != own["sha256"]
    assert other["key"]["options"]["batch"] == [1, 16, 16]
    assert other["rebuilt"] == "batch 16 asked for, the engine takes 1 to 8"
    again = load("trt").made(plan, {"batch_size": 16}) or {}  # it is there, and not that one still
    assert again == other
    assert load("ort").made(file, {}) is None


@dataclass(frozen=True)
class Eight:
    """What builds engines of which Myelin hides nearly all, as 8.6 does of a transformer."""

    typed: bool
    name: str = "eight"
    one_batch_a_process: bool = False

    def place(self) -> cache.Place:
        return cache.Place("Orin", "8.7", "8.6.1", "11.4")

    def make(self, spec: BuildSpec, place: cache.Place) -> Made:
        layers = (SAMPLES / "layers-vit-8.6.json").read_text("utf-8")
        only_myelin = json.dumps({"Layers": json.loads(layers)["Layers"][2:]})
        return Made(b"plan", only_myelin, self.typed, 1.0, "none")

    def open(self, plan: Path, spec: BuildSpec, dtype: str) -> Session:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "asked", "typed", "label"),
    [
        ("fp32", "fp32", False, "fp32"),  # nothing else was permitted
        ("fp16", "fp16", True, "fp16"),  # the graph's types are binding
        ("int8", "int8", True, "int8"),
        ("fp32", "fp16", False, None),
        ("fp16", "fp32", False, None),  # what a half graph has was permitted
        ("int8", "int8", False, None),
    ],
)
def test_what_the_inspector_cannot_see_is_judged_by_what_was_permitted(
    kind: str, asked: str, typed: bool, label: str | None, graph: Callable[..., Path]
) -> None:
    spec = spec_of(graph(kind), precision=asked, typed=typed)
    if label is not None:
        assert make(spec, {}, Eight(typed)).side["inspection"]["label"] == label
        return
    with pytest.raises(AgentError, match="precision is unknown: TensorRT fused 100%"):
        make(spec, {}, Eight(typed))
    assert not list(spec.onnx.parent.glob("*.plan"))
    made = make(replace(spec, share=0), {}, Eight(typed))  # to be timed; the record will say so
    assert made.side["inspection"]["label"] == "unknown"


def test_an_engine_in_use_is_as_good_as_new(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("10.3.0")
    file = graph()
    plan = make(spec_of(file), {}).plan
    for kept in (plan, cache.side_file(plan)):
        os.utime(kept, (0, 0))
    assert not make(spec_of(file), {}).built
    assert min(plan.stat().st_mtime, cache.side_file(plan).stat().st_mtime) > 1e9


def test_a_plan_that_fits_is_taken_as_it_is(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    world, file = device("10.3.0"), graph()
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), {}).plan)
    assert load("trt").prepare(plan, {"batch_size": 8}) == plan
    assert len(world.called("Builder", "build_serialized_network")) == 1


def test_a_plan_of_another_release_is_built_again_from_the_graph_beside_it(
    graph: Callable[..., Path],
    device: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device("10.13.3.9")
    file = graph()
    metadata = {"edgekd.mean": "[0.5, 0.5, 0.5]"}
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), metadata).plan)
    before = plan.read_bytes()
    world = device("10.3.0")
    renewed = load("trt").prepare(plan, {"batch_size": 1})
    assert "TensorRT 10.3.0 here, the engine is for 10.13.3.9: building it again" in caplog.messages
    assert renewed != plan
    assert plan.read_bytes() == before  # it may be a link to the user's own file
    assert load("trt").open(renewed, {}).metadata == metadata
    assert load("trt").prepare(plan, {"batch_size": 1}) == renewed
    assert len(world.called("Builder", "build_serialized_network")) == 1


def test_a_bigger_batch_builds_again(
    graph: Callable[..., Path],
    device: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device("10.3.0")
    file = graph()
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), {}).plan)
    found = fitting(plan, {"batch_size": 64})
    renewed = found.plan
    assert found.reason == "batch 64 asked for, the engine takes 1 to 8"
    assert "batch 64 asked for, the engine takes 1 to 8: building it again" in caplog.messages
    assert (cache.read_side(renewed) or {})["key"]["options"]["batch"] == [1, 64, 64]


def test_a_plan_that_does_not_fit_and_has_no_graph_is_a_sentence(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.13.3.9")
    file = graph()
    plan = artifact(tmp_path / "artifact", file, make(spec_of(file), {}).plan)
    (tmp_path / "artifact/model.onnx").unlink()
    assert fitting(plan, {}) == Fitting(plan)  # it fits: the graph is not needed
    device("10.3.0")
    with pytest.raises(AgentError, match=r"model\.onnx is not beside it"):
        fitting(plan, {})


def test_a_plan_of_unknown_origin_is_left_to_tensorrt(
    device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0")
    (tmp_path / "model.plan").write_bytes(b"made by trtexec")
    assert fitting(tmp_path / "model.plan", {}) == Fitting(tmp_path / "model.plan")


def test_a_graph_alone_is_built_for_the_batch_that_is_measured(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("8.6.1")
    plan = fitting(graph(), {"batch_size": 4, "precision": "fp16"}).plan
    options = (cache.read_side(plan) or {})["key"]["options"]
    assert options["batch"] == [1, 4, 32]
    assert options["precision"] == "fp16"


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0.106"])
@pytest.mark.parametrize("asked", ["fp16", "int8"])
def test_an_engine_that_stayed_in_float_is_refused(
    version: str, asked: str, graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device(version, obedient=False)
    typed = not version.startswith("8")
    file = graph(asked if typed or asked == "int8" else "fp32")
    with pytest.raises(
        AgentError, match=rf"{asked} was asked for and the engine is fp32"
    ) as caught:
        make(spec_of(file, precision=asked, typed=typed), {})
    assert caught.value.kind == "precision"
    assert "(fp32)" in str(caught.value)
    assert not list(file.parent.glob("*.plan"))  # nothing that looks good is left


def test_an_engine_kept_from_timing_does_not_pass_for_one_that_was_asked_for(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("8.6.1", obedient=False)
    wanted = spec_of(graph(), precision="fp16", typed=False)
    assert make(replace(wanted, share=0), {}).built  # timed, whatever it became
    assert not make(replace(wanted, share=0), {}).built
    with pytest.raises(AgentError, match="fp16 was asked for and the engine is fp32"):
        make(wanted, {})


@pytest.mark.parametrize("asked", ["fp32", "fp16", "int8"])
def test_the_label_is_what_the_engine_has(
    asked: str, graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("10.3.0")
    made = make(spec_of(graph(asked), precision=asked), {})
    assert made.side["inspection"]["label"] == asked
    assert made.side["inspection"]["shares"] == {asked: 1.0}


def test_the_timing_cache_is_kept_for_the_release_and_the_gpu(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0", name="NVIDIA Orin (nvgpu)")
    folder = tmp_path / "timings"
    first = make(spec_of(graph(), timing_cache=folder), {})
    (file,) = folder.iterdir()
    assert file.name == "nvidia-orin-nvgpu-tensorrt-10.3.0.cache"
    assert file == timing.cache_file(folder, "10.3.0", "NVIDIA Orin (nvgpu)")
    world = device("10.3.0", name="NVIDIA Orin (nvgpu)")
    second = make(spec_of(graph(seed=1), timing_cache=folder), {})
    assert [one.side["timing_cache"] for one in (first, second)] == ["new", "used"]
    assert world.called("IBuilderConfig", "create_timing_cache") == [(b"TIMED",)]
    assert file.read_bytes() == b"TIMEDTIMED"


def test_a_refused_timing_cache_is_not_fatal(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0", refuses_caches=True)
    file = timing.cache_file(tmp_path / "timings", "10.3.0", "Orin")
    file.parent.mkdir()
    file.write_bytes(b"of another GPU")
    made = make(spec_of(graph(), timing_cache=file.parent), {})
    assert made.side["timing_cache"] == "refused"
    assert file.read_bytes() == b"TIMED"


def test_a_folder_that_cannot_be_written_costs_only_time(
    graph: Callable[..., Path], device: Callable[..., Any], tmp_path: Path
) -> None:
    device("10.3.0")
    (tmp_path / "file").write_text("")
    assert make(spec_of(graph(), timing_cache=tmp_path / "file"), {}).built


def test_a_full_disk_is_a_sentence(
    graph: Callable[..., Path], device: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(plan: Path, data: bytes, side: Any) -> None:
        raise OSError(28, "No space left on device")

    device("10.3.0")
    monkeypatch.setattr(cache, "keep_plan", full)
    with pytest.raises(AgentError, match=r"No space left on device\)\. Make room"):
        make(spec_of(graph()), {})


def test_a_damaged_side_file_builds_again(
    graph: Callable[..., Path], device: Callable[..., Any]
) -> None:
    device("10.3.0")
    file = graph()
    plan = make(spec_of(file), {}).plan
    cache.side_file(plan).write_text('{"key":')
    assert make(spec_of(file), {}).built
    assert json.loads(cache.side_file(plan).read_text())["key"]["gpu"] == "Orin"
