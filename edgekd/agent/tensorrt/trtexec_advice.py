"""What to do when trtexec refuses, by what it says."""

from __future__ import annotations

import re
from pathlib import Path

from edgekd.agent.failures import AgentError, Crash, explain
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.trtexec_log import Verdict, verdict_of, version_of

ADVICE = (  # the first that fits what it said: kind of error, what to do
    (
        r"Unknown option|Model missing or format not recognized",
        "internal",
        "edgekd passed it an option that this release does not know. Report it with its version.",
    ),
    (
        r"Saving engine to file failed|No space left",
        "output",
        "It could not write the engine: check the free space of the device's disk.",
    ),
    (
        r"file cannot be found|[Cc]ould not open file|Failed to open file",
        "model",
        "The ONNX file is not there or cannot be read; copy it again, and its file of weights.",
    ),
    (
        r"DLA engine, \S+ not available|DLA core|dlaCore|nvdla|nvmediaDla|libnvdla",
        "provider",
        "This device has no such DLA (a Jetson Orin Nano has none; in a container the device files "
        "must be passed in). Build for its GPU: leave the DLA core out.",
    ),
    (
        r"Static model does not take explicit shapes",
        "input",
        "The file has a fixed batch. Export it with a free one, or leave the input sizes out.",
    ),
    (
        r"UNSUPPORTED_NODE|[Uu]nsupported (ONNX )?(op|operator)\b|No importer registered|"
        r"Plugin not found|could not find plugin|No op registered",
        "model",
        "An operator of the graph is not in this release of TensorRT. Export with a lower --opset "
        "(17 for 8.6, 16 for 8.5), or update TensorRT.",
    ),
    (
        r"Could not find any implementation|insufficient workspace|insuff?icient memory",
        "memory",
        "Most often no kernel fits the workspace: give it more (workspace_mib), or a smaller "
        "batch. If that does not help, another precision or release may.",
    ),
    (
        r"[Oo]ut of memory|OutOfMemory|cudaErrorMemoryAllocation",
        "memory",
        "The GPU's memory is full. Stop other programs, or use a smaller batch.",
    ),
    (
        r"CUDA initialization failure|no CUDA-capable device|CUDA driver version is insufficient|"
        r"Cuda failure|cudaErrorNoDevice",
        "gpu",
        "No GPU that fits this TensorRT is visible. Check nvidia-smi or the JetPack release; in a "
        "container, start it with the NVIDIA runtime.",
    ),
    (
        r"Invalid Node|While parsing node|Failed to parse onnx|In node -?\d+",
        "model",
        "It cannot read the graph. Export it for this device's release, or with a lower --opset.",
    ),
    (r"", "model", "Try another precision or release; the whole log is {log}."),
)


def judge(code: int, text: str, spec: BuildSpec, log: Path, doing: str = "build") -> None:
    """Whether a run went well: both its exit code and its own last line have to say so.

    Args:
        code: how it ended, as ``subprocess`` reports it.
        text: all it printed.
        spec: what was wanted.
        log: where the text is kept.
        doing: what it cannot do, if it failed.

    Raises:
        AgentError: it failed.
    """
    if code < 0:
        raise explain(Crash(code, text, spec.onnx.name, "trtexec"))
    verdict = verdict_of(text)
    if code != 0 or not verdict.passed:
        raise _refused(verdict, text, spec, log, doing)


def _refused(verdict: Verdict, text: str, spec: BuildSpec, log: Path, doing: str) -> AgentError:
    """The error for a run that failed: what it said, and what may help."""
    everything = " ".join(verdict.errors)
    kind, advice = next(
        (kind, advice) for words, kind, advice in ADVICE if re.search(words, everything)
    )
    release = ".".join(map(str, version_of(text)))  # which also explains a missing library
    return AgentError(
        kind,
        f"trtexec of TensorRT {release} cannot {doing} {spec.onnx.name} in {spec.precision}. "
        f"{advice.format(log=log)} It said: {verdict.sentence}",
    )
