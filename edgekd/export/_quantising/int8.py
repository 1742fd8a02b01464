"""int8: calibrate, choose the calibrator, judge, and repair without training where it loses much.

The training images that are held out choose the calibrator, and the layers. The validation images
accept or refuse; as several files are tried on them, each further one is judged with a wider
interval, and there are few. What is tried, until one file is accepted: the calibrator that agrees
best with the float file on the images held out, the next one, and the best one with its worst
layers left in float: of one, two, four of them and so on up to a quarter of all, the fewest that
agree nearly best on the images held out. With 512 images of 160 pixels, on
one Zen 4 core, all five calibrators of resnet18 take 39 s and those of mobilenetv3_small 11 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekd.errors import AccuracyError, UsageError
from edgekd.export._made import Made
from edgekd.export._names import MODEL, REJECTED
from edgekd.export._order import Calibration, Order
from edgekd.export._parity import Logits, snr_db
from edgekd.export._quantising.calibrators import CALIBRATORS, observe, ranges_of
from edgekd.export._quantising.flavours import flavour_named
from edgekd.export._quantising.quantise import FloatGraph, Ranges, quantise, read_float_graph
from edgekd.export._quantising.sensitivity import MOST_IMAGES, Sensitivity, rank_layers
from edgekd.export._running import run_file
from edgekd.export._verdict import Verdict, judge
from edgekd.preprocess import Preprocess

__all__ = ["quantised"]

OTHERS = 1
"""Calibrators that are tried after the best one."""
NEAR = 0.005
"""Share of answers that fewer layers in float, which run faster, may agree less."""
LARGEST_SHARE = 4
"""At most a quarter of the layers are left in float."""


@dataclass(frozen=True)
class Candidate:
    """The file of one calibrator, and how it agrees with the float file on images held out."""

    calibrator: str
    file: Path
    ranges: Ranges
    agreement: float
    """Share of images with the same class."""
    snr_db: float


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder: a file and its verdict."""

    rung: str
    calibrator: str
    file: Path
    verdict: Verdict
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """What every attempt needs."""

    graph: FloatGraph
    float_file: Path
    folder: Path
    order: Order
    calibration: Calibration
    preprocess: Preprocess
    expected: Logits

    @property
    def name(self) -> str:
        """The network's."""
        return str(self.graph.model.graph.name)

    def judged(self, file: Path, tried: int) -> Verdict:
        """Hold a file against the float network on the validation images.

        Args:
            file: an int8 file.
            tried: how many were refused in this ladder.
        """
        images = self.order.images
        found = run_file(file, self.preprocess, images.pixels)
        targets = images.targets.tolist()
        attempt = len(self.order.attempts) + tried + 1
        return judge(self.expected, found, targets, self.order.options.max_drop, attempt)


def quantised(
    float_file: Path, folder: Path, order: Order, preprocess: Preprocess, expected: Logits
) -> Made:
    """Write ``model.onnx`` as int8 from a float file, so that it loses no more than it may.

    Args:
        float_file: proved to be the network.
        folder: for the file, and for what is tried on the way.
        order: with images to calibrate on.
        preprocess: what the network expects.
        expected: logits (N, K) that the float network gives ``order.images``.

    Raises:
        UsageError: no images to calibrate on, nothing in the graph to quantise, or too few
            validation images to show that no more is lost than may be.
        AccuracyError: every file loses too much; the best is left as ``model.onnx.rejected``.
    """
    if order.calibration is None:
        raise UsageError(
            "int8 takes its ranges from training images, and none were given. Give the data the "
            "network was trained on with --data, or use --precision fp32."
        )
    graph = read_float_graph(float_file, flavour_named(order.target.flavour))
    with TemporaryDirectory(prefix=".int8.", dir=folder) as private:
        bench = Bench(
            graph, float_file, Path(private), order, order.calibration, preprocess, expected
        )
        candidates, sensitivities = _candidates(bench), list[Sensitivity]()
        ladder = _attempts(bench, candidates, sensitivities)
        tried: list[Attempt] = []
        for attempt in ladder if order.options.repair != "none" else islice(ladder, 1):
            tried.append(attempt)
            if attempt.verdict.passed:
                break
            order.say(f"int8, {_words(attempt)}, is refused: {attempt.verdict.reasons[0]}.")
        else:
            raise _refusal(bench, tried, folder)
        record = _record(bench, candidates, tried, sensitivities)
        file = attempt.file.replace(folder / MODEL)
    order.say(f"int8, {_words(attempt)}: {attempt.verdict.words}.")
    verdict = attempt.verdict.to_dict()
    return Made(file, {"int8": record, "verdict": verdict})


def _candidates(bench: Bench) -> list[Candidate]:
    """One file per calibrator, the one that agrees best with the float file first."""
    asked, symmetric = bench.order.options.calibrator, bench.graph.flavour.symmetric
    names = list(CALIBRATORS) if asked == "auto" else [asked]
    pixels = bench.calibration.images.pixels
    spreads = observe(bench.graph, pixels, bench.preprocess, bench.folder)
    held = bench.calibration.held_out.pixels
    reference = run_file(bench.float_file, bench.preprocess, held)
    found = []
    for name in names:
        file, ranges = bench.folder / f"{name}.onnx", ranges_of(spreads, name, symmetric)
        quantise(bench.graph, file, ranges)
        logits = run_file(file, bench.preprocess, held)
        found.append(Candidate(name, file, ranges, *_agreement(reference, logits)))
    found.sort(key=lambda c: (c.agreement, c.snr_db), reverse=True)
    listed = ", ".join(f"{c.calibrator} {100 * c.agreement:.1f} %" for c in found)
    bench.order.say(f"int8 agrees with float on {len(held)} training images held out: {listed}.")
    return found


def _attempts(
    bench: Bench, candidates: list[Candidate], sensitivities: list[Sensitivity]
) -> Iterator[Attempt]:
    """Files that may hold, each made when it is asked for; ``sensitivities`` are filled in."""
    # who was tuned had the others tried before; each attempt makes the next one harder to pass
    few = candidates[: 1 if bench.order.attempts else 1 + OTHERS]
    for i, candidate in enumerate(few):
        rung = "other calibrator" if i else "calibrated"
        verdict = bench.judged(candidate.file, i)
        yield Attempt(rung, candidate.calibrator, candidate.file, verdict)
    layers, file = _floating(bench, candidates[0], sensitivities)
    if layers:
        name, verdict = candidates[0].calibrator, bench.judged(file, len(few))
        yield Attempt("layers in float", name, file, verdict, layers)


def _floating(
    bench: Bench, best: Candidate, sensitivities: list[Sensitivity]
) -> tuple[tuple[str, ...], Path]:
    """Leave the worst layers in float: the fewest that agree nearly best on images held out."""
    sensitivities += _ranked(bench, best)
    most = max(1, len(bench.graph.layers) // LARGEST_SHARE)
    worst = [layer for found in sensitivities for layer in found.layers]
    held = bench.calibration.held_out.pixels
    reference = run_file(bench.float_file, bench.preprocess, held)
    found = []
    for count in _growing(min(most, len(worst) - 1)):
        layers = tuple(worst[:count])
        file = bench.folder / f"float{count}.onnx"
        quantise(bench.graph, file, best.ranges, floats=layers)
        same = _agreement(reference, run_file(file, bench.preprocess, held))
        if same > (best.agreement, best.snr_db):
            found.append((layers, file, same[0]))
    top = max((agreement for _, _, agreement in found), default=0.0)
    near = [(layers, file) for layers, file, agreement in found if agreement >= top - NEAR]
    return near[0] if near else ((), best.file)


def _agreement(reference: Logits, found: Logits) -> tuple[float, float]:
    """Share of images with the same class, and signal to noise in dB."""
    same = float(np.mean(found.argmax(axis=1) == reference.argmax(axis=1)))
    return same, snr_db(reference, found)


def _ranked(bench: Bench, best: Candidate) -> list[Sensitivity]:
    pixels = bench.calibration.held_out.pixels[:MOST_IMAGES]
    layers = len(bench.graph.layers)
    bench.order.say(f"int8: measuring what each of {layers} layers costs, on {len(pixels)} images.")
    reference = run_file(bench.float_file, bench.preprocess, pixels)
    return rank_layers(bench.graph, best.ranges, pixels, reference, bench.preprocess, bench.folder)


def _growing(most: int) -> Iterator[int]:
    """1, 2, 4, ... and ``most``."""
    count = 1
    while count < most:
        yield count
        count *= 2
    if most > 0:
        yield most


def _record(
    bench: Bench,
    candidates: list[Candidate],
    tried: list[Attempt],
    sensitivities: list[Sensitivity],
) -> dict[str, Any]:
    """The ``int8`` section of the manifest."""
    final, calibration = tried[-1], bench.calibration
    return {
        "flavour": bench.order.target.flavour,
        "per_channel": True,
        "calibrator": final.calibrator,
        "calibrators": [
            {"name": c.calibrator, "agreement": c.agreement, "snr_db": c.snr_db} for c in candidates
        ],
        "calibration": {
            "n": len(calibration.names),
            "sha256": calibration.sha256,
            "names": list(calibration.names),
            "held_out": len(calibration.held_out),
        },
        "rung": final.rung,
        "rungs": [*bench.order.attempts, *map(_told, tried)],
        "layers": len(bench.graph.layers),
        "float_layers": list(final.float_layers),
        "sensitivities": [
            {"layers": list(found.layers), "snr_db": found.snr_db} for found in sensitivities
        ],
    }


def _told(attempt: Attempt) -> dict[str, Any]:
    """A rung, for the manifest."""
    return {
        "rung": attempt.rung,
        "calibrator": attempt.calibrator,
        "float_layers": list(attempt.float_layers),
        "bytes": attempt.file.stat().st_size,
        "verdict": attempt.verdict.to_dict(),
    }


def _words(attempt: Attempt) -> str:
    count = len(attempt.float_layers)
    some = f"{', '.join(attempt.float_layers[:4])}{' ...' if count > 4 else ''}"
    floats = f" with {_counted(count, 'layer')} in float ({some})" if count else ""
    return f"calibrated by {attempt.calibrator}{floats}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _refusal(bench: Bench, tried: list[Attempt], folder: Path) -> AccuracyError:
    """Keep the file that loses least, and say what can be done."""
    best = max(tried, key=lambda attempt: (attempt.verdict.delta, attempt.verdict.snr_db))
    rungs = [_told(attempt) for attempt in tried]
    best.file.replace(folder / f"{MODEL}{REJECTED}")
    ways = [
        "allow more with --max-drop (export.max_drop of a recipe)",
        "use --precision fp16 or fp32",
    ]
    if bench.order.options.repair == "none":
        ways.insert(0, "let it be repaired with --repair post or all")
    elif bench.order.options.repair == "post":
        ways.insert(0, "let it be tuned for int8 with --repair all")
    return AccuracyError(
        f"{bench.name} in int8 is refused after {_counted(len(tried), 'attempt')}. The best, "
        f"{_words(best)}: "
        f"{'; '.join(best.verdict.reasons)}. What can be done: {', or '.join(ways)}.",
        attempts=[*bench.order.attempts, *rungs],
    )
