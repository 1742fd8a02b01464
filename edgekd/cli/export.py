"""Export a trained network, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.cli._options import Named, as_json, data_of, output, source_options
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.recipe import Export

ENGINE = ("batches", "workspace_mb", "dla_core")
OPTIONS = (
    "precision",
    "opset",
    "float_input",
    "max_drop",
    "calibration",
    "calibrator",
    "repair",
    *ENGINE,
)


def _share(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """``1%`` or ``0.01``."""
    if value is None:
        return None
    try:
        return float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError as error:
        raise click.BadParameter(f"expected a share such as 1% or 0.01, not {value!r}") from error


@click.command(short_help="Write a network as ONNX or TensorRT, with proof.")
@click.argument("artifact", type=Named())
@click.option("--onnx", is_flag=True, help="To ONNX (the default).")
@click.option("--trt", is_flag=True, help="To a TensorRT engine, on --device.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "auto"]),
    help="fp32 by default; auto times what is accurate on the device and keeps the fastest.",
)
@click.option("--device", help="What it is for: a profile, local (the default), ssh://user@host.")
@click.option(
    "--max-drop",
    callback=_share,
    metavar="SHARE",
    help="Accuracy a lower precision may lose, its bad 95 % end; 1% by default.",
)
@click.option(
    "--calibration",
    type=int,
    help="Training images for int8's ranges; 512 by default. Memory "
    "does not grow with their number, but for the decoded images themselves.",
)
@click.option("--calibrator", help="How int8 takes its ranges; auto tries all and compares.")
@click.option(
    "--repair",
    type=click.Choice(["none", "post", "all"]),
    help="Where int8 loses too much: none, post (no training), all (tunes it with its teacher).",
)
@click.option("--explain", is_flag=True, help="Say where on the way the error appears.")
@click.option("--opset", type=int, help="ONNX operator set; by default what the device reads.")
@click.option(
    "--batches",
    type=(int, int),
    metavar="BEST MOST",
    help="Of an engine: the batch it is tuned for, and the largest it takes; 1 and 8.",
)
@click.option("--workspace-mb", type=int, help="MiB TensorRT may try layers with; 1024.")
@click.option("--dla-core", type=int, help="Deep-learning accelerator to build the engine for.")
@click.option("--float-input", is_flag=True, help="Leave the preprocessing out of the file.")
@source_options
@output
@as_json
def export(
    artifact: Path,
    onnx: bool,
    trt: bool,
    device: str | None,
    explain: bool,
    output: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Write ARTIFACT's network as a file a runtime opens, and prove that it is the same network.

    The proof compares both on real validation images of the data it was trained on, or --data; the
    accuracy of fp16 and int8 is compared image by image. What fails is kept as *.rejected, and the
    exit code is 1.
    """
    to = _format(onnx, trt, flags)
    from edgekd.artifact import Artifact, check_room
    from edgekd.cli._explained import print_explanation
    from edgekd.cli._exports import print_export
    from edgekd.cli._screen import Screen
    from edgekd.errors import GateError
    from edgekd.flow.exporting import export_network, recipe_of

    network = Artifact.open(artifact)
    recipe = recipe_of(network)
    data = data_of(flags, network.manifest["recipe"])
    options = _options(recipe.export, flags | {"device": device})
    place = device or recipe.profile.device
    out = output or artifact.with_name(f"{artifact.name}-{_suffix(to, options.precision)}")
    check_room(out)
    try:
        with Screen() as screen:
            made = export_network(network, out, options, data, screen, to, place, explain=explain)
    except GateError as error:
        if explain and error.explanation and not as_json:
            print_explanation(error.explanation)
        raise
    section = made.manifest["export"]
    if as_json:
        print_json({"path": str(out), "sha256": made.sha256, **section})
        return
    print_export(made, out)
    if explain:
        print_explanation(section["explanation"])


def _format(onnx: bool, trt: bool, flags: dict[str, object]) -> str:
    if onnx and trt:
        raise click.UsageError("--onnx and --trt are two files. Give one, and the other one after.")
    for name in () if trt else ENGINE:
        if flags[name] is not None:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is of an engine. Add --trt, or leave it out."
            )
    return "tensorrt" if trt else "onnx"


def _options(options: Export, flags: dict[str, object]) -> Export:
    """The recipe's, with what the flags say instead."""
    from dataclasses import replace

    given = {n: flags[n] for n in OPTIONS if flags[n] is not None and flags[n] is not False}
    if flags["device"] is not None and flags["opset"] is None:
        given["opset"] = 0  # what was good for another device need not be for this one
    return replace(options, **given)  # type: ignore[arg-type]


def _suffix(to: str, precision: str) -> str:
    """``onnx``, ``onnx-int8``, ``tensorrt``."""
    return to if precision == "fp32" else f"{to}-{precision}"
