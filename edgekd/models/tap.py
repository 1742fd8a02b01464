"""Tap: a network that answers with everything the method asked to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import UsageError
from edgekd.features import Features

Hook = Callable[[nn.Module, Any, Any], None]


class Tap(nn.Module):
    """Wrap a network so that one forward pass gives :class:`~edgekd.features.Features`.

    timm's networks show their maps and the pooled vector themselves
    (``forward_intermediates``, ``forward_head``); others are watched with forward hooks at the
    places a probe finds: the last map of each resolution, and the input of the last linear layer.

    Args:
        model: the network; it is not changed, and its parameters keep their names under ``model``.
        needs: which of ``logits, embedding, stages, blocks`` to show.
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
        self._seen: dict[str, Tensor] | None = None  # while nobody asks, the hooks do nothing
        self._indices: list[int] = []
        self._places: tuple[str, ...] = ()
        self._head = ""
        if self.needs and self.speaks_timm:
            self._indices = stage_indices([int(i["reduction"]) for i in model.feature_info])  # type: ignore[union-attr]
        elif self.needs:
            self._places, self._head = find_places(model, example)
            self._watch()

    def forward(self, image: Tensor) -> Features:
        """Run the network once on (B, 3, H, W)."""
        if self._head_apart or (self.needs and self.speaks_timm):
            return self._ask_timm(image)
        return self._ask_hooks(image) if self.needs else Features(self.model(image))

    def _ask_timm(self, image: Tensor) -> Features:
        model: Any = self.model
        if "stages" in self.needs:
            final, stages = model.forward_intermediates(image, indices=self._indices)
        else:
            final, stages = model.forward_features(image), []
        if not self._head_apart:
            pooled = "embedding" in self.needs
            embedding = model.forward_head(final, pre_logits=True) if pooled else None
            return Features(model.forward_head(final), embedding, tuple(stages))
        embedding = model.forward_head(final, pre_logits=True)
        with torch.autocast(image.device.type, enabled=False):
            # logits rounded to bf16 are off by a tenth of what a student near its teacher learns
            # from; the last layer in float32 costs nothing beside the rest
            logits = model.get_classifier()(embedding.float())
        return Features(logits, embedding if "embedding" in self.needs else None, tuple(stages))

    def _ask_hooks(self, image: Tensor) -> Features:
        seen: dict[str, Tensor] = {}
        self._seen = seen
        try:
            logits = self.model(image)
        finally:
            self._seen = None
        return Features(logits, seen[self._head].flatten(1), tuple(seen[n] for n in self._places))

    def _watch(self) -> None:
        modules = dict(self.model.named_modules())
        for name in self._places:
            modules[name].register_forward_hook(self._keep(name, lambda args, output: output))
        modules[self._head].register_forward_hook(
            self._keep(self._head, lambda args, output: args[0])
        )

    def _keep(self, name: str, pick: Callable[[Any, Any], Tensor]) -> Hook:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if self._seen is None:
                return
            if name in self._seen:
                raise UsageError(f"module {name!r} ran twice in one pass; it cannot be tapped.")
            self._seen[name] = pick(args, output)

        return hook


def stage_indices(reductions: list[int]) -> list[int]:
    """Which of a network's maps to show: the last of each resolution, four if there is only one."""
    last = {reduction: i for i, reduction in enumerate(reductions)}
    if len(last) > 1:
        return sorted(last.values())
    count, shown = len(reductions), min(4, len(reductions))
    return [count * (i + 1) // shown - 1 for i in range(shown)]


@torch.no_grad()
def head_is_apart(model: Any, example: Tensor) -> bool:
    """Whether the logits are one linear layer of the pooled vector, tried on an example."""
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear):
        return False
    training = model.training
    model.eval()
    pooled = model.forward_head(model.forward_features(example), pre_logits=True)
    whole = model(example)
    model.train(training)
    fits = pooled.ndim == 2 and pooled.shape[1] == classifier.in_features
    return fits and torch.allclose(classifier(pooled), whole, rtol=1e-4, atol=1e-5)


def find_places(model: nn.Module, example: Tensor) -> tuple[tuple[str, ...], str]:
    """Names of the modules that end a resolution, fine to coarse, and of the classifier."""
    order: list[tuple[str, Tensor]] = []
    runs: dict[str, int] = {}

    def watch(name: str) -> Hook:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            if isinstance(output, Tensor):
                order.append((name, output))

        return hook

    named = [(n, m) for n, m in model.named_modules() if n]
    handles = [module.register_forward_hook(watch(name)) for name, module in named]
    training = model.training
    with torch.no_grad():
        model.eval()(example)
    model.train(training)
    for handle in handles:
        handle.remove()
    maps = {out.shape[-2:]: n for n, out in order if out.ndim == 4 and runs[n] == 1}
    places = tuple(name for shape, name in maps.items() if min(shape) > 1)
    linear = [n for n, m in named if isinstance(m, nn.Linear) and runs.get(n) == 1]
    if not places or not linear:
        raise UsageError(
            f"{type(model).__name__} shows no feature maps: expected a convolutional network "
            "with a linear classifier, or one that has timm's forward_intermediates."
        )
    return places, linear[-1]
