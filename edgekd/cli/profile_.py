"""Measure latency, memory and accuracy on a device."""

from __future__ import annotations

from pathlib import Path

import click

from edgekd.cli._options import as_json, data_of, data_options, print_json

POLICY = (  # flags of the same name as a field of it
    "runtime",
    "provider",
    "threads",
    "spinning",
    "batch_size",
    "image_size",
    "layers",
    "max_seconds",
)


@click.command("profile", short_help="Measure latency, memory and accuracy on a device.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", default="local", show_default=True, help="Where to measure.")
@click.option("--threads", type=int, default=0, help="Of the runtime; 0 takes the physical cores.")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Images a run.")
@click.option(
    "--max-seconds",
    type=float,
    default=30.0,
    show_default=True,
    help="End the timing then, known well enough or not.",
)
@click.option("--spinning", is_flag=True, help="Let idle threads burn the CPU to wake up sooner.")
@click.option(
    "--runtime",
    default="ort",
    show_default=True,
    help="What runs the models; see edgekd list runtime.",
)
@click.option(
    "--provider",
    default="",
    help="Of ONNX Runtime, CPUExecutionProvider unless told; there is no falling back.",
)
@click.option(
    "--input",
    "feed",
    type=click.Choice(["photos", "random"]),
    default="photos",
    show_default=True,
    help="What is timed: two photographs (the data's images with --data), or noise.",
)
@click.option(
    "--image-size", type=(int, int), help="Height and width, for a file that leaves them free."
)
@click.option("--layers", is_flag=True, help="Time every layer too, in runs of their own.")
@data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file to write.")
@as_json
def profile(
    models: tuple[Path, ...],
    device: str,
    feed: str,
    output: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Measure MODELS (exported artifacts or plain .onnx files); several are timed in turn.

    With --data, accuracy is measured too, in the runtime, on the data's test images.
    """
    from edgekd.artifact import read_manifest
    from edgekd.cli._profiles import print_profiles
    from edgekd.cli._screen import Screen
    from edgekd.files import sha256
    from edgekd.flow.measuring import Truth, measure, model_file
    from edgekd.profiling import Policy

    policy = Policy(input=feed, **{name: flags[name] for name in POLICY})  # type: ignore[arg-type]
    truth = None
    if flags["data"] is not None:
        made_with = read_manifest(models[0])["recipe"] if models[0].is_dir() else {}
        truth = Truth(data_of(flags, made_with))
    with Screen() as screen:
        records = measure(models, policy, device, truth, output, screen)
    if as_json:
        print_json(records)
    else:
        short = len({path.name for path in models}) == len(models)
        called = {sha256(model_file(p)): p.name if short else str(p) for p in models}
        print_profiles(records, called)
