"""What cannot be compared, said before any training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch

from edgekd.errors import UsageError
from edgekd.flow import gates
from edgekd.flow.choosing import check_peer, check_table, is_auto, method_of
from edgekd.flow.training import teacher_of
from edgekd.loading import Splits
from edgekd.methods import Method
from edgekd.models import build
from edgekd.recipe import Recipe
from edgekd.watching import Silent


def check_recipes(recipes: Mapping[str, Recipe], seeds: int) -> None:
    """Refuse what cannot be compared, whatever the networks are.

    Args:
        recipes: by the text of the method; alike in all else.
        seeds: how many.

    Raises:
        UsageError: a method with wrong names or options, a peer, no seed, or a tracker that keeps
            one run a process.
    """
    shared = next(iter(recipes.values()))
    for recipe in recipes.values():
        check_table(recipe.method)
    if check_peer(shared):
        raise UsageError("edgekd compare shares one frozen teacher; leave the peer out.")
    if seeds < 1:
        raise UsageError(f"expected 1 seed or more, found {seeds}.")
    trackers = set(shared.train.trackers) - {"tensorboard"}
    if trackers:
        raise UsageError(
            f"{min(trackers)} keeps one run a process, and here several students train in one; "
            "leave it out: each has a metrics.jsonl."
        )


def check_methods(recipes: Mapping[str, Recipe], splits: Splits) -> None:
    """Refuse methods that cannot work with these two networks, and one that comes twice.

    Raises:
        UsageError: so it is; twins would train to the same bits and tie.
    """
    shared = next(iter(recipes.values()))
    teacher = teacher_of(shared, splits.labels)
    student = build(shared.student, splits.labels, shared.data.size, new_head=True)
    gates.check_sizes(teacher, student)
    targets = torch.from_numpy(splits.train.targets)
    made = {
        text: method_of(recipe.method, student, teacher, None, targets, Silent())
        for text, recipe in recipes.items()
    }
    for (one, first), (two, second) in combinations(made.items(), 2):
        if _plain(first) == _plain(second):
            chosen = {t: m for t, m in ((one, first), (two, second)) if is_auto(recipes[t].method)}
            why = "".join(f" ({text} chooses {method})" for text, method in chosen.items())
            raise UsageError(f"the methods {one!r} and {two!r} are the same{why}. Leave one out.")


def _plain(method: Method) -> dict[str, Any]:
    """All that decides what a method does, in one form: by term, with the options left out."""
    found = {}
    for name, term in method.named.items():
        weight, given = method.weights[name], method.options[name]
        bound = inspect.signature(type(term)).bind(**given)
        bound.apply_defaults()
        moves = weight.start != weight.end
        found[name] = (
            (weight.start, weight.end, weight.ramp if moves else None),
            frozenset(method.seen_through(name)),
            bound.arguments,
        )
    return found
