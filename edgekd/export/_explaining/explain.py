"""Where, on the way from a network to its file, the first large error appears.

The way has stages, each compared with the one before: preprocessing, export, fp16 or int8, and the
kernels the runtime fuses for this CPU. Inside a stage the values between the nodes are compared.

What it costs does not grow with ``pixels`` beyond one run of them through the network and each
file. Of :data:`LOOKED_INTO` images it takes at most four runs of each file node by node, nothing
fused, image by image, and one run of the float file for each of the at most six nodes that are
given a reason. In memory are all values between the nodes of both files for one image, or those
around one node for all the images. Only where the float file is bad is each of its values compared,
by 2,048 numbers an image, with each of the network's of the same size: in transformers, whose
values mostly are, that grows with the square of the depth. Without ``float_file`` an export comes
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekd.data import Pixels
from edgekd.errors import EdgeKDError, UsageError
from edgekd.export._explaining.blame import JUMP_DB
from edgekd.export._explaining.comparing import (
    Case,
    Found,
    export_stage,
    reduced_stage,
    runtime_stage,
)
from edgekd.export._explaining.normalising import check_preprocess
from edgekd.export._explaining.stages import PREPROCESS, Explanation, Spot, Stage, kind_of
from edgekd.export._explaining.tensors import Shown
from edgekd.export._exporters import EXPORTERS, reason_of
from edgekd.export._graph import facts, opset_of
from edgekd.export._network import Baked, reparameterised
from edgekd.export._parity import CAP_DB, Logits
from edgekd.export._running import answers, run_file
from edgekd.preprocess import Preprocess
from edgekd.scratch import temporary

__all__ = ["Explanation", "explain"]

LOOKED_INTO = 8
"""Images whose values between the nodes are compared: half the worst, half as they come."""


def explain(
    network: nn.Module,
    preprocess: Preprocess,
    pixels: Pixels,
    file: Path,
    float_file: Path | None = None,
) -> Explanation:
    """Say where the first large error of an exported file appears.

    Args:
        network: what was exported, in evaluation mode, on the CPU, float32.
        preprocess: what it expects.
        pixels: real images (N, H, W, 3); some tens are enough.
        file: an ONNX file with one input and one output, of any precision.
        float_file: what an int8 or fp16 file was made from, or beside. Without it one is written to
            compare with, by the exporter that wrote the file.

    Returns:
        never an error: of a file that does not run, the sentence says why.
    """
    try:
        kind = kind_of(facts(file)["precision"])
    except Exception as error:  # a file that is none makes ONNX raise anything
        return _silent(len(pixels), f"{file.name} cannot be explained: {reason_of(error)}")
    try:
        with temporary() as folder:
            if kind == "fp32":
                float_file = file
            elif float_file is None:
                float_file = _float_of(network, preprocess, file, folder)
            return _explained(Case(network, preprocess, pixels, file, kind, float_file))
    except (EdgeKDError, ValueError) as error:  # what it is to explain matters more
        return _silent(len(pixels), f"{file.name} cannot be explained: {reason_of(error)}")


def _silent(images: int, sentence: str) -> Explanation:
    return Explanation(images, (), (), None, f"{sentence.rstrip('.')}.")


def _explained(case: Case) -> Explanation:
    expected = answers(case.network, case.preprocess, case.pixels)
    right = run_file(case.float_file, case.preprocess, case.pixels)
    found = right if case.kind == "fp32" else run_file(case.file, case.preprocess, case.pixels)
    chosen = case.pixels[_chosen(expected, found)]
    shown = Shown(case.file)
    stage, spot = check_preprocess(case.kind, shown, chosen, case.preprocess)
    results: list[Found] = [(stage, (), spot)]
    results.append(export_stage(case, chosen, expected, right))
    if case.kind != "fp32":
        results.append(reduced_stage(case, shown, chosen))
        results.append(runtime_stage(case, shown, chosen, results[-1][0]))
    stages = tuple(stage for stage, _, _ in results)
    worst = tuple(spot for _, spots, _ in results for spot in spots)
    first = next((spot for _, _, spot in results if spot), None)
    return Explanation(len(case.pixels), stages, worst, first, _sentence(stages, worst, first))


def _chosen(expected: Logits, found: Logits) -> list[int]:
    """Images to look into: an overflow, for instance, may be on few of them."""
    count = len(expected)
    if found.shape != expected.shape:
        found = np.zeros_like(expected)
    error = np.square(np.where(np.isfinite(found), found, np.inf) - expected).sum(axis=1)
    worst = np.argsort(-error, kind="stable")[: LOOKED_INTO // 2]
    spread = np.linspace(0, count - 1, min(count, LOOKED_INTO - LOOKED_INTO // 2)).round()
    return sorted({int(i) for i in (*worst, *spread)})


def _float_of(network: nn.Module, preprocess: Preprocess, file: Path, folder: Path) -> Path:
    """Write the float32 file that a reduced one is compared with.

    The same exporter names the values alike, and those names are how they are found again.
    """
    import onnx

    model = onnx.load(file, load_external_data=False)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    exporter = notes.get("edgekd.exporter", "").partition(",")[0]
    height, width = preprocess.size
    merged = reparameterised(network)
    floats = Shown(file, ()).baked
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    graph: nn.Module = Baked(merged, preprocess).eval()
    if not floats:
        example, graph = torch.zeros(2, 3, height, width), merged
    made = folder / "float.onnx"
    entry = model.graph.input[0].name
    for name in sorted(EXPORTERS, key=lambda name: name != exporter):
        try:
            EXPORTERS[name](graph, example, entry, made, opset_of(file))
        except Exception as error:  # exporters raise anything; the other one may still do it
            reason = reason_of(error)
        else:
            return made
    raise UsageError(f"no float32 file could be written to compare it with: {reason}")


def _sentence(stages: Sequence[Stage], worst: tuple[Spot, ...], first: Spot | None) -> str:
    """What a person should take away."""
    failed = next((stage for stage in stages if not stage.passed), None)
    if first is None and failed:
        return (
            f"The error is large in {failed.name}, {failed.snr_db or 0:.0f} dB, but no value of "
            "the file could be compared with one of the network."
        )
    if first is None:
        levels = [stage.snr_db for stage in stages if stage.snr_db is not None]
        kept = f"No large error: each stage keeps at least {min(levels, default=CAP_DB):.0f} dB"
        return f"{kept}; the most is lost at {worst[0].words}." if worst else f"{kept}."
    reason = f"; {first.reason}" if first.reason else ""
    if first.stage == PREPROCESS:
        return (
            f"The first large error is in the preprocessing, at {first.op} {first.node!r}: "
            f"{first.snr_db:.0f} dB{reason}."
        )
    if first.added_db < JUMP_DB:
        most = f" The most is lost at {worst[0].words}." if worst else ""
        return f"The error grows from node to node and is large from {first.words}{reason}.{most}"
    return f"The first large error is at {first.words}{reason}."
