"""The command line for trtexec: what each release from 8.5 to 11 takes.

Options were compared in NVIDIA/TensorRT, ``samples/common/sampleOptions.cpp``, at 8.5.3, 8.6.1,
10.3, 10.13.3, 11.0 and 11.1. An unknown option ends trtexec, so only what its own help lists is
passed; RELEASES stands in where the help cannot be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import AbstractSet, FrozenSet, List, Mapping, Optional

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.trtexec_log import Version

PERCENTILES = (50, 90, 95, 99)
FLAGS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8",)}
"""Permissions, as in ``builder``: int8 leaves the rest in the float32 its parity was proved in."""
ALWAYS = frozenset(
    f"--{name}"
    for name in (
        *("onnx", "saveEngine", "minShapes", "optShapes", "maxShapes"),
        *("loadEngine", "shapes", "loadInputs", "exportOutput"),
    )
)
EVER, NEVER = (0, 0, 0), (1000, 0, 0)
TYPES_ONLY = (11, 0, 0)
"""From here on the types of the graph hold, and there are no permissions."""
RELEASES = {  # option -> the first release that has it, and the first that has no use for it
    "--skipInference": ((8, 6, 0), NEVER),
    "--buildOnly": (EVER, (10, 0, 0)),
    "--stronglyTyped": ((10, 0, 0), TYPES_ONLY),
    "--fp16": (EVER, TYPES_ONLY),
    "--int8": (EVER, TYPES_ONLY),
    # What these ask for is what 11 does anyway.
    "--noDataTransfers": (EVER, TYPES_ONLY),
    "--useSpinWait": (EVER, TYPES_ONLY),
    "--useCudaGraph": (EVER, TYPES_ONLY),
    "--separateProfileRun": (EVER, TYPES_ONLY),
    # And these bring back what the ones before do.
    "--includeDataTransfers": (TYPES_ONLY, NEVER),
    "--noCudaGraph": (TYPES_ONLY, NEVER),
    "--noSpinWait": (TYPES_ONLY, NEVER),
}


@dataclass(frozen=True)
class Outputs:
    """The files to write, relative to the folder that trtexec runs in."""

    engine: str = "model.plan"
    layers: str = "layers.json"
    times: Optional[str] = None
    """Times of single queries. Without this and ``profile`` the engine is built and not run."""
    profile: Optional[str] = None
    """Times of the layers."""
    timing_cache: Optional[str] = None
    """Read and brought up to date."""

    @property
    def timed(self) -> bool:
        return self.times is not None or self.profile is not None


def offered(help_text: str) -> FrozenSet[str]:
    """The options that ``trtexec --help`` lists, without those it says do nothing any more."""
    lines = re.findall(r"^ {1,4}(--\w+)(.*)$", help_text, re.MULTILINE)
    return frozenset(name for name, rest in lines if "no-op" not in rest)


def is_typed(spec: BuildSpec, version: Version, options: AbstractSet[str] = frozenset()) -> bool:
    """Whether the network will be strongly typed: always from 11 on, by the spec on 10.

    Not for a DLA before 11: trtexec permits fp16 there by itself (sampleEngines.cpp), which a
    strongly typed network refuses.
    """
    if version >= TYPES_ONLY:
        return True
    wanted = spec.typed and spec.dla_core is None
    return wanted and _takes("--stronglyTyped", version, options)


def command(
    trtexec: str,
    spec: BuildSpec,
    version: Version,
    outputs: Outputs,
    options: AbstractSet[str] = frozenset(),
) -> List[str]:
    """The arguments that make an engine, and time it if ``outputs`` has files for that.

    Args:
        trtexec: its path.
        spec: what is wanted. Without ``inputs`` no shapes are passed, which is right for a file of
            fixed shapes only.
        version: of trtexec.
        outputs: which files to write.
        options: those its help lists; empty if that is not known.

    Raises:
        AgentError: a wish this release cannot grant.
    """
    _check(spec, version)
    wanted = [
        f"--onnx={spec.onnx.absolute()}",
        f"--saveEngine={outputs.engine}",
        *_shapes(spec),
        f"--memPoolSize=workspace:{spec.workspace_mib}",  # MiB
        *_precision(spec, version, options),
        *_accelerator(spec),
        "--profilingVerbosity=detailed",  # else the layers have names only
        f"--exportLayerInfo={outputs.layers}",
        *([f"--timingCacheFile={outputs.timing_cache}"] if outputs.timing_cache else []),
        *(_timed(spec, outputs) if outputs.timed else [_build_only(version, options)]),
    ]
    return [trtexec, *(one for one in wanted if _passes(one, version, options))]


def running(
    trtexec: str,
    plan: Path,
    spec: BuildSpec,
    files: Mapping[str, str],
    output: str,
    version: Version,
    options: AbstractSet[str] = frozenset(),
) -> List[str]:
    """The arguments that run an engine on one batch of its largest size and keep its outputs.

    Args:
        trtexec: its path.
        plan: the engine.
        spec: what the engine was built for.
        files: input -> its file of raw values, relative to the folder that trtexec runs in.
        output: the JSON file to write, relative to the same folder.
        version: of trtexec.
        options: those its help lists; empty if that is not known.
    """
    check_names(spec)
    shapes = {name: "x".join(map(str, spec.shapes(name)[2])) for name in spec.inputs}
    wanted = [
        f"--loadEngine={plan.absolute()}",
        f"--shapes={','.join(f'{name}:{sizes}' for name, sizes in shapes.items())}",
        f"--loadInputs={','.join(f'{name}:{file}' for name, file in files.items())}",
        f"--exportOutput={output}",
        "--iterations=1",
        "--duration=0",  # seconds; else it repeats the batch for three
        "--warmUp=0",
        # 11 leaves transfers out and captures a graph: it is to do what the others do
        *("--includeDataTransfers", "--noCudaGraph", "--noSpinWait"),
        *([] if spec.dla_core is None else [f"--useDLACore={spec.dla_core}"]),
    ]
    return [trtexec, *(one for one in wanted if _passes(one, version, options))]


def _check(spec: BuildSpec, version: Version) -> None:
    release = ".".join(map(str, version))
    if version < (8, 5, 0):
        raise AgentError(
            "library",
            f"trtexec is of TensorRT {release}; 8.5 or newer is needed, which JetPack 5 has. "
            "Update it.",
        )
    if spec.dla_core is not None and spec.precision == "fp32":
        raise AgentError(
            "provider",
            "a DLA computes fp16 and int8 only, and fp32 was asked for. Ask for --precision fp16.",
        )
    if version >= TYPES_ONLY and not spec.typed and FLAGS[spec.precision]:
        raise AgentError(
            "precision",
            f"TensorRT {release} takes the precision from the graph alone, and this graph is not "
            f"{spec.precision} itself. Export a typed one: --precision {spec.precision}.",
        )


def _shapes(spec: BuildSpec) -> List[str]:
    """``--minShapes=images:1x224x224x3`` and so on; a name may hold colons, the last one counts."""
    if not spec.inputs:
        return []
    check_names(spec)
    shapes = {name: spec.shapes(name) for name in spec.inputs}
    return [
        f"--{which}Shapes="
        + ",".join(f"{name}:{'x'.join(map(str, three[at]))}" for name, three in shapes.items())
        for at, which in enumerate(("min", "opt", "max"))
    ]


def check_names(spec: BuildSpec) -> None:
    """Refuse inputs whose names have a meaning of their own to trtexec."""
    for name in spec.inputs:
        if re.search(r"[,'*\s]", name) or not name:
            raise AgentError(
                "input",
                f"the input is named {name!r}, which trtexec's options cannot express (no comma, "
                "quote, asterisk or blank). Rename the input of the ONNX file.",
            )


def _precision(spec: BuildSpec, version: Version, options: AbstractSet[str]) -> List[str]:
    strict = ["--noTF32"]  # 10 bits of mantissa: not the float32 that the graph was proved in
    if is_typed(spec, version, options):
        return ["--stronglyTyped", *strict]  # left out where it says nothing, on 11
    missing = [name for name in FLAGS[spec.precision] if not _takes(name, version, options)]
    if missing:
        raise AgentError(
            "precision",
            f"this trtexec has no {missing[0]}, so the engine would not be {spec.precision}. "
            "Export a typed graph, or use TensorRT's Python bindings on the device.",
        )
    return [*FLAGS[spec.precision], *strict]


def _accelerator(spec: BuildSpec) -> List[str]:
    if spec.dla_core is None:
        return []
    return [f"--useDLACore={spec.dla_core}", "--allowGPUFallback"]


def _build_only(version: Version, options: AbstractSet[str]) -> str:
    newer = _takes("--skipInference", version, options)
    return "--skipInference" if newer else "--buildOnly"


def _timed(spec: BuildSpec, outputs: Outputs) -> List[str]:
    """The same conditions on every release: 11 has them by default, the ones before do not."""
    return [
        "--noDataTransfers",
        "--useSpinWait",
        # With a DLA the two exclude each other, which older releases do not check.
        *([] if spec.dla_core is not None else ["--useCudaGraph"]),
        "--separateProfileRun",  # else a profile takes the place of the times
        f"--percentile={','.join(map(str, PERCENTILES))}",
        *([f"--exportTimes={outputs.times}"] if outputs.times else []),
        *([f"--exportProfile={outputs.profile}"] if outputs.profile else []),
    ]


def _passes(argument: str, version: Version, options: AbstractSet[str]) -> bool:
    name = argument.partition("=")[0]
    return name in ALWAYS or _takes(name, version, options)


def _takes(name: str, version: Version, options: AbstractSet[str]) -> bool:
    if options:
        return name in options
    first, after = RELEASES.get(name, (EVER, NEVER))
    return first <= version < after
