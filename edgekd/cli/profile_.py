"""Measure latency, memory and accuracy on devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._options import Named, as_json, data_of, source_options
from edgekd.cli._policies import listed, policy_options, said
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.flow.measuring import Truth


@click.command("profile", short_help="Measure latency, memory and accuracy on a device.")
@click.argument("models", nargs=-1, required=True, type=Named())
@click.option(
    "--device",
    "devices",
    multiple=True,
    callback=listed,
    metavar="NAME,...",
    help="Where to measure: local (the default), a name of edgekd device list, ssh://user@host; "
    "several are measured side by side.",
)
@policy_options
@source_options
@click.option("--clean", is_flag=True, help="Leave nothing there afterwards but environments.")
@click.option("--no-proof", is_flag=True, help="Keep nothing in the artifact for edgekd verify.")
@click.option("-o", "--output", type=Named(), help="JSON file to write.")
@as_json
def profile(
    models: tuple[Path, ...],
    devices: tuple[str, ...],
    clean: bool,
    no_proof: bool,
    output: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Measure MODELS (exported artifacts or plain .onnx files); several are timed in turn.

    With --data, accuracy is measured too, in the runtime, on the data's test images. What is not
    said here is taken from the device's profile, where it has one. Exit code 1: a device failed.
    """
    from edgekd.cli._profiles import print_profiles
    from edgekd.cli._screen import Screen
    from edgekd.files import sha256
    from edgekd.flow.findings import Proofs
    from edgekd.flow.measuring import check_earlier, measure, model_file
    from edgekd.flow.policies import policy_for
    from edgekd.plain import one_line

    if output is not None:
        check_earlier(output)
    policies = {device: policy_for(device, said(flags)) for device in devices}
    place = devices[0] if len(devices) == 1 else devices
    with Screen() as screen:
        records = measure(
            models,
            policies,
            place,
            _truth(models, flags),
            output,
            screen,
            proofs=Proofs.NONE if no_proof else Proofs.OPTIONAL,
            clean=clean,
        )
    if as_json:
        print_json(records)
    else:
        short = len({path.name for path in models}) == len(models)
        called = {sha256(model_file(p)): one_line(p.name if short else str(p)) for p in models}
        print_profiles(records, called)
    if any("failure" in record for record in records):  # in words already, as it happened
        raise click.exceptions.Exit(1)


def _truth(models: tuple[Path, ...], flags: dict[str, Any]) -> Truth | None:
    """The images that accuracy is measured on, if any were named."""
    from edgekd.artifact import read_manifest
    from edgekd.flow.measuring import Truth

    if flags["data"] is None:
        return None
    made_with = read_manifest(models[0]).get("recipe") or {} if models[0].is_dir() else {}
    return Truth(data_of(flags, made_with))
