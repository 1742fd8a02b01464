"""Tap: a network that answers with everything the method asked to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.features import Features
from edgekd.models.blocks import Block, as_map, find_blocks
from edgekd.models.hooks import Hooks, Point
from edgekd.models.places import find_places
from edgekd.models.preacts import find_preacts
from edgekd.models.probe import Call, record, resting

MAPS = frozenset({"stages", "preacts", "blocks"})


class Tap(nn.Module):
    """Wrap a network so that one forward pass gives :class:`~edgekd.features.Features`.

    timm's networks show their maps and the pooled vector themselves
    (``forward_intermediates``, ``forward_head``); others are watched with forward hooks at the
    places a probe finds: the last map of each resolution, and the input of the last linear layer.
    Single blocks, and what the last activation was given, are watched in either.

    Args:
        model: the network; it is not changed, and its parameters keep their names under ``model``.
        needs: which of ``logits, embedding, stages, preacts, blocks`` to show.
        example: a batch of images it accepts, (B, 3, H, W).
    """

    def __init__(self, model: nn.Module, needs: Iterable[str], example: Tensor) -> None:
        super().__init__()
        self.model = model
        self.needs = frozenset(needs) - {"logits"}
        self.speaks_timm = hasattr(model, "forward_intermediates") and hasattr(
            model, "feature_info"
        )
        self._head_apart = self.speaks_timm and head_is_apart(model, example)
        self._hooks = Hooks()
        self._indices: list[int] = []
        self._places: list[Block] = []
        self._head = Point("")
        self._preacts: list[Point | None] = []
        self._blocks: list[list[Block]] = []
        if self.needs and self.speaks_timm:
            self._look_at_timm(example)
        elif self.needs:
            self._look(example)

    def forward(self, image: Tensor) -> Features:
        """Run the network once on (B, 3, H, W)."""
        if not self.needs and not self._head_apart:
            return Features(self.model(image))
        with self._hooks.asking() as seen:
            if self.speaks_timm:
                logits, embedding, maps = self._ask_timm(image)
            else:
                logits, embedding = self.model(image), seen[self._head].flatten(1)
                maps = [as_map(seen[Point(p.name)], p.layout, ()) for p in self._places]
        return Features(
            logits,
            embedding if "embedding" in self.needs else None,
            tuple(maps) if "stages" in self.needs else (),
            tuple(seen[p] if p else m for p, m in zip(self._preacts, maps, strict=False)),
            tuple(_shown(b, m, seen) for b, m in zip(self._blocks, maps, strict=False)),
        )

    def _ask_timm(self, image: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor]]:
        model: Any = self.model
        maps: Sequence[Tensor] = ()
        if self._indices:
            final, maps = model.forward_intermediates(image, indices=self._indices)
        else:
            final = model.forward_features(image)
        if not self._head_apart:
            pooled = "embedding" in self.needs
            embedding = model.forward_head(final, pre_logits=True) if pooled else None
            return model.forward_head(final), embedding, maps
        embedding = model.forward_head(final, pre_logits=True)
        with torch.autocast(image.device.type, enabled=False):
            # logits rounded to bf16 are off by a tenth of what a student near its teacher learns
            # from; the last layer in float32 costs nothing beside the rest
            logits = model.get_classifier()(embedding.float())
        return logits, embedding, maps

    def _look_at_timm(self, example: Tensor) -> None:
        model: Any = self.model
        if self.needs & MAPS:
            self._indices = stage_indices([int(i["reduction"]) for i in model.feature_info])
        if self.needs & {"preacts", "blocks"}:

            def ask(image: Tensor) -> list[Tensor]:
                _, maps = model.forward_intermediates(image, indices=self._indices)
                return list(maps)

            maps, calls = record(model, ask, example)
            self._look_deeper(calls, maps)

    def _look(self, example: Tensor) -> None:
        _, calls = record(self.model, self.model, example)
        places, head = find_places(self.model, calls, example)
        self._head = Point(head)
        self._hooks.keep_input(self.model.get_submodule(head), self._head)
        self._places = places if self.needs & MAPS else []
        outputs = {call.name: call.output for call in calls}
        self._look_deeper(calls, [as_map(outputs[p.name], p.layout, ()) for p in self._places])

    def _look_deeper(self, calls: Sequence[Call], maps: Sequence[Tensor]) -> None:
        if "preacts" in self.needs:
            self._preacts = find_preacts(self.model, calls, maps)
        if "blocks" in self.needs:
            self._blocks = find_blocks(self.model, calls, maps)
        for point in filter(None, self._preacts):
            self._hooks.keep_input(self.model.get_submodule(point.name), point)
        for block in (*self._places, *chain(*self._blocks)):
            self._hooks.keep_output(self.model.get_submodule(block.name), Point(block.name))


def _shown(blocks: Sequence[Block], map: Tensor, seen: dict[Point, Tensor]) -> tuple[Tensor, ...]:
    size = map.shape[2:]
    return (*(as_map(seen[Point(b.name)], b.layout, size) for b in blocks), map)


def stage_indices(reductions: list[int]) -> list[int]:
    """Which of a network's maps to show: the last of each resolution, four if there is only one."""
    last = {reduction: i for i, reduction in enumerate(reductions)}
    if len(last) > 1:
        return sorted(last.values())
    count, shown = len(reductions), min(4, len(reductions))
    return [count * (i + 1) // shown - 1 for i in range(shown)]


def head_is_apart(model: Any, example: Tensor) -> bool:
    """Whether the logits are one linear layer of the pooled vector, tried on an example."""
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear):
        return False
    with resting(model):
        pooled = model.forward_head(model.forward_features(example), pre_logits=True)
        fits = pooled.ndim == 2 and pooled.shape[1] == classifier.in_features
        return fits and torch.allclose(classifier(pooled), model(example), rtol=1e-4, atol=1e-5)
