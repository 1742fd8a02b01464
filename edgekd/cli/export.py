"""Export a trained network, with proof."""

from __future__ import annotations

from pathlib import Path

import click

from edgekd.cli._options import as_json, data_of, data_options, output, print_json


@click.command(short_help="Write a network as ONNX, with proof.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--onnx", "to", flag_value="onnx", default="onnx", help="To ONNX (the default).")
@click.option("--opset", type=int, help="ONNX operator set; 18 by default.")
@click.option("--float-input", is_flag=True, help="Leave the preprocessing out of the file.")
@data_options
@output
@as_json
def export(
    artifact: Path,
    to: str,
    opset: int | None,
    float_input: bool,
    output: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Write ARTIFACT's network as a file a runtime opens, and prove that it is the same network.

    The proof compares both on real validation images of the data it was trained on, or --data.
    A file that fails it is kept as *.rejected, and the exit code is 1.
    """
    from dataclasses import replace

    from edgekd.artifact import Artifact
    from edgekd.cli._screen import Screen
    from edgekd.cli._tables import print_parity
    from edgekd.flow.exporting import export_network, recipe_of

    network = Artifact.open(artifact)
    data = data_of(flags, network.manifest["recipe"])
    options = replace(recipe_of(network).export, float_input=float_input)
    if opset is not None:
        options = replace(options, opset=opset)
    out = output or artifact.with_name(f"{artifact.name}-{to}")
    with Screen() as screen:
        made = export_network(network, out, options, data, screen, to)
    if as_json:
        print_json({"path": str(out), "sha256": made.sha256, **made.manifest["export"]})
    else:
        print_parity(made, out)
