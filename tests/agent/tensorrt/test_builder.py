"""The builder on eight releases of TensorRT, each with no more names than it really has."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.builder import build
from edgekd.agent.tensorrt.engine import load_engine
from edgekd.agent.tensorrt.spec import Batch, BuildSpec

FAKE = runpy.run_path(str(Path(__file__).parents[1] / "fake_tensorrt.py"))
VERSIONS: list[str] = FAKE["VERSIONS"]
BATCHES = (Batch(1, 1, 1), Batch(1, 4, 32))


def major(version: str) -> int:
    return int(version.split(".")[0])


def spec_of(onnx: Path, precision: str, version: str, **more: Any) -> BuildSpec:
    return BuildSpec(onnx, precision, {"x": (8, 8, 3)}, typed=major(version) >= 10, **more)


def typed_graph(graph: Callable[..., Path], precision: str, version: str) -> Path:
    """What the host writes: from 10 on fp16 is in the graph; int8 always is."""
    in_graph = precision if precision == "int8" or major(version) >= 10 else "fp32"
    return graph(in_graph)


def flags_of(world: Any) -> set[str]:
    return {flag.name for (flag,) in world.called("IBuilderConfig", "set_flag")}


def test_the_table_has_the_releases_that_matter() -> None:
    assert VERSIONS[0] == "8.5.2.2"
    assert {major(version) for version in VERSIONS} == {8, 10, 11}
    assert len(VERSIONS) == 8


@pytest.mark.parametrize(
    ("precision", "dla"),
    [("fp32", None), ("fp16", None), ("fp16", 1), ("int8", None), ("int8", 1)],
)
@pytest.mark.parametrize("batch", BATCHES, ids=["fixed", "dynamic"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_builds_what_it_can(
    version: str, precision: str, batch: Batch, dla: int | None, graph: Callable[..., Path]
) -> None:
    world = FAKE["make"](version, dla_cores=2)
    onnx = typed_graph(graph, precision, version)
    spec = spec_of(onnx, precision, version, batch=batch, dla_core=dla, workspace_mib=64)
    plan = build(world.module, spec)
    assert plan.data.endswith(onnx.read_bytes())
    # a DLA has permissions as long as there are any; trtexec of 10 sets them for it by itself
    typed = major(version) >= (10 if dla is None else 11)
    assert plan.typed == typed

    ((flags,),) = world.called("Builder", "create_network")
    names = world.module.NetworkDefinitionCreationFlag
    asked = {flag.name for flag in names if flags >> int(flag) & 1}
    explicit = {"EXPLICIT_BATCH"} if major(version) < 10 else set()
    assert asked == explicit | ({"STRONGLY_TYPED"} if typed else set())

    weak = {"fp32": set(), "fp16": {"FP16"}, "int8": {"INT8"}}[precision]
    expected = (set() if typed else weak) | ({"GPU_FALLBACK"} if dla == 1 else set())
    assert flags_of(world) == expected
    cleared = [flag.name for (flag,) in world.called("IBuilderConfig", "clear_flag")]
    assert cleared == ["TF32"]  # of every precision: the float layers were proved in float32
    assert world.called("module", "init_libnvinfer_plugins") == [("",)]

    ((pool, size),) = world.called("IBuilderConfig", "set_memory_pool_limit")
    assert (pool.name, size) == ("WORKSPACE", 64 << 20)
    ((verbosity,),) = world.called("IBuilderConfig", "set profiling_verbosity")
    assert verbosity.name == "DETAILED"
    shapes = [(n, 8, 8, 3) for n in (batch.least, batch.best, batch.most)]
    assert world.called("IOptimizationProfile", "set_shape") == [("x", *shapes)]
    devices = [
        device.name for (device,) in world.called("IBuilderConfig", "set default_device_type")
    ]
    assert devices == (["DLA"] if dla == 1 else [])
    assert world.called("IBuilderConfig", "set DLA_core") == ([(1,)] if dla == 1 else [])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "touch",
    [
        lambda trt: trt.BuilderFlag.FP16,
        lambda trt: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH,
        lambda trt: trt.Builder(None).platform_has_fast_fp16,
    ],
    ids=["FP16", "EXPLICIT_BATCH", "platform_has_fast_fp16"],
)
def test_names_that_11_lacks_fail_there_and_only_there(
    version: str, touch: Callable[[Any], Any]
) -> None:
    """A builder that touched one of them would not pass the test above."""
    trt = FAKE["make"](version).module
    if major(version) < 11:
        touch(trt)
    else:
        with pytest.raises(AttributeError):
            touch(trt)


@pytest.mark.parametrize("version", [v for v in VERSIONS if major(v) < 10])
def test_a_builder_for_11_alone_fails_on_8(version: str, graph: Callable[..., Path]) -> None:
    """No EXPLICIT_BATCH, and a half graph without permission for it: both are refused there."""
    trt = FAKE["make"](version).module
    network = trt.Builder(None).create_network(0)
    assert not trt.OnnxParser(network, None).parse_from_file(str(graph()))
    with pytest.raises(AgentError, match="half weights need the FP16 flag"):
        build(trt, spec_of(graph("fp16"), "fp32", version))


def test_8_5_lacks_what_8_6_added() -> None:
    config = FAKE["make"]("8.5.2.2").module.IBuilderConfig()
    with pytest.raises(AttributeError, match="builder_optimization_level"):
        config.builder_optimization_level = 3
    FAKE["make"]("8.6.1").module.IBuilderConfig().builder_optimization_level = 3


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11"])
def test_10_can_choose_types_by_itself_too(version: str, graph: Callable[..., Path]) -> None:
    world = FAKE["make"](version)
    plan = build(world.module, BuildSpec(graph(), "fp16", typed=False))
    assert not plan.typed
    assert flags_of(world) == {"FP16"}


@pytest.mark.parametrize(("kind", "flags"), [("fp16", {"FP16"}), ("int8", {"INT8"})])
@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1"])
def test_8_is_permitted_what_a_typed_graph_has(
    version: str, kind: str, flags: set[str], graph: Callable[..., Path]
) -> None:
    world = FAKE["make"](version)
    assert not build(world.module, BuildSpec(graph(kind))).typed
    assert flags_of(world) == flags


def test_11_has_no_permission_to_give(graph: Callable[..., Path]) -> None:
    world = FAKE["make"]("11.4.0.106")
    with pytest.raises(AgentError, match=r"11\.4\.0\.106 takes no fp16 permission") as caught:
        build(world.module, BuildSpec(graph(), "fp16", typed=False))
    assert caught.value.kind == "precision"


def test_a_fixed_batch_needs_no_profile(graph: Callable[..., Path]) -> None:
    world = FAKE["make"]("10.3.0")
    build(world.module, BuildSpec(graph(batch=2)))
    assert world.called("IBuilderConfig", "add_optimization_profile") == []


def test_sizes_come_from_the_graph_where_the_job_names_none(graph: Callable[..., Path]) -> None:
    world = FAKE["make"]("10.3.0")
    build(world.module, BuildSpec(graph(), batch=Batch(1, 2, 3)))
    shapes = ("x", (1, 8, 8, 3), (2, 8, 8, 3), (3, 8, 8, 3))
    assert world.called("IOptimizationProfile", "set_shape") == [shapes]


@pytest.mark.parametrize(
    ("cores", "core", "precision", "words"),
    [
        (0, 0, "fp16", "this device has none"),
        (2, 2, "fp16", "has 2, numbered from 0"),
        (2, 0, "fp32", "fp16 and int8 only"),
    ],
)
def test_a_dla_that_is_not_there_is_a_sentence(
    cores: int, core: int, precision: str, words: str, graph: Callable[..., Path]
) -> None:
    trt = FAKE["make"]("10.3.0", dla_cores=cores).module
    with pytest.raises(AgentError, match=words) as caught:
        build(trt, BuildSpec(graph("fp16"), precision, dla_core=core))
    assert caught.value.kind == "provider"


def test_a_file_that_is_no_onnx_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x00broken")
    with pytest.raises(AgentError, match=r"cannot read model\.onnx: not an ONNX file") as caught:
        build(FAKE["make"]("8.6.1").module, BuildSpec(tmp_path / "model.onnx"))
    assert caught.value.kind == "model"


def test_a_free_height_is_refused(graph: Callable[..., Path]) -> None:
    with pytest.raises(AgentError, match="more than the batch of x free"):
        build(FAKE["make"]("10.3.0").module, BuildSpec(graph(size=("h", "w"))))


@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_a_gpu_that_tensorrt_refuses_is_a_sentence(
    kind: str, graph: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bindings of 8.6.1, 10.3.0 and 11.4.0 raised on a machine without a GPU."""
    trt = FAKE["make"]("10.3.0").module

    def refuse(logger: Any) -> None:
        logger.log(trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, kind, refuse)
    with pytest.raises(AgentError, match="failure with error: 35") as caught:
        load_engine(trt, build(trt, BuildSpec(graph())).data, "model.plan")
    assert caught.value.kind == "gpu"


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 8, 4)])
def test_batches_out_of_order_are_refused(batch: tuple[int, int, int]) -> None:
    with pytest.raises(AgentError, match="least <= best <= most"):
        Batch(*batch)


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(AgentError, match="'fp8'; expected one of fp32, fp16, int8"):
        BuildSpec(Path("model.onnx"), "fp8")
