"""One precision; and where int8 loses too much, the network is tuned for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekd.artifact import Artifact
from edgekd.claims import claim
from edgekd.errors import AccuracyError, EdgeKDError
from edgekd.export import Order, export, float_answers
from edgekd.flow.ordering import Exporting
from edgekd.flow.retuning import retuned
from edgekd.recipe import Export


def export_repaired(
    job: Exporting, out: Path, options: Export, tuned: Path | None = None
) -> Artifact:
    """Export in one precision, tuning the network where nothing else holds.

    What does not need training was tried by the export itself by then.

    Args:
        job: the network and its images.
        out: folder of the exported artifact.
        options: with a precision other than ``auto``.
        tuned: folder of the tuned network; ``OUT-tuned`` unless told.

    Raises:
        AccuracyError: not even tuning helped, or ``options.repair`` forbids it.
        GateError: there is no file that is the network.
    """
    order = job.order(options)
    try:
        return export(job.network, out, job.to, order)
    except AccuracyError as error:
        if options.precision != "int8" or options.repair != "all":
            raise
        job.watch.say(f"{error.bare} The network is tuned for int8 now.")
        folder = tuned or out.with_name(f"{out.name}-tuned")
        try:
            return _tuned(job, folder, out, replace(order, attempts=error.attempts))
        except EdgeKDError as second:
            last = second if isinstance(second, AccuracyError) else error
            said = second.bare if isinstance(second, AccuracyError) else str(second)
            raise last.told(f"{error.bare} Tuning it did not help: {said}") from second


def _tuned(job: Exporting, folder: Path, out: Path, order: Order) -> Artifact:
    """Tune, export, and hold the result against the network as it was."""
    flavour, options = job.target.flavour, order.options
    with claim(folder, "export"):
        better = retuned(job.network, folder, options, flavour, job.watch, job.data)
    answers = float_answers(job.network, job.images)
    again = replace(order, answers=answers, tuned_from=job.network.sha256)
    return export(better, out, job.to, again)
