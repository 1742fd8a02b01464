"""Read a training's ``metrics.jsonl`` into curves over epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgekd.report.view import EpochPoint, LossPoint, RunView, Training, count, listed, number


def training_from(name: str, path: str, lines: Iterable[Mapping[str, Any]]) -> Training:
    """The curves in the lines; a step that was logged twice, after a resume, counts once."""
    losses: dict[float, Mapping[str, Any]] = {}
    validations: dict[float, Mapping[str, Any]] = {}
    for order, line in enumerate(lines):
        known = number(line.get("step"))
        step = float(order) if known is None else known
        if isinstance(line.get("losses"), Mapping):
            losses[step] = line
        if isinstance(line.get("validation"), Mapping):
            validations[step] = line
    # Epoch 1 ends at 1 on the axis, whether the file counts its epochs from 0 or from 1.
    numbers = [number(line.get("epoch")) for line in [*losses.values(), *validations.values()]]
    shift = 1.0 if 0.0 in numbers else 0.0
    length = _steps_per_epoch(validations.values(), shift)
    return Training(
        name,
        path,
        tuple(
            LossPoint(_moment(line, shift, length), _numbers(line["losses"]))
            for line in _in_order(losses.values())
        ),
        tuple(
            EpochPoint(_moment(line, shift, None), _numbers(line["validation"]))
            for line in _in_order(validations.values())
        ),
    )


def told(view: RunView) -> list[Training]:
    """The trainings that are shown: of a comparison those of its first seed."""
    seeds = listed(view.compare.get("seeds"))
    first = f", seed {count(seeds[0])}" if seeds else ""
    mine = [training for training in view.trainings if first and training.name.endswith(first)]
    return mine or list(view.trainings)


def per_epoch(training: Training) -> list[tuple[int, Mapping[str, float], Mapping[str, float]]]:
    """Number, mean losses and validation of each epoch, as a table shows them."""
    sums: dict[int, dict[str, list[float]]] = {}
    for point in training.losses:
        terms = sums.setdefault(max(1, -int(-point.epoch // 1)), {})
        for term, value in point.losses.items():
            terms.setdefault(term, []).append(value)
    validation = {round(point.epoch): point.validation for point in training.epochs}
    return [
        (
            epoch,
            {term: sum(values) / len(values) for term, values in sums.get(epoch, {}).items()},
            validation.get(epoch, {}),
        )
        for epoch in sorted(sums.keys() | validation.keys())
    ]


def _in_order(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(lines, key=lambda line: number(line.get("step")) or 0.0)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found = {name: number(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def _moment(line: Mapping[str, Any], shift: float, length: float | None) -> float:
    """Epochs done at a line, as exactly as it is known."""
    step = number(line.get("step"))
    if length and step is not None:
        return step / length
    return (number(line.get("epoch")) or 0.0) + shift


def _steps_per_epoch(validations: Iterable[Mapping[str, Any]], shift: float) -> float | None:
    last = max(validations, key=lambda line: number(line.get("step")) or 0.0, default={})
    step, epoch = number(last.get("step")), number(last.get("epoch"))
    return step / (epoch + shift) if step and epoch is not None and epoch + shift > 0 else None
