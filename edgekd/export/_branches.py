"""Find code that looks at the values of an image: a trace of it is another network.

``if images.sum() > 0`` is followed once by a tracer, and the branch not taken is lost. PyTorch
warns of that, but with the same words it warns of harmless code that looks at sizes. So the network
is run once without a tracer, where sizes are plain numbers, and every tensor that came of the
images is remembered: none may become a number, a truth or an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["first_read"]

READS = {
    "__bool__": "asks if a tensor is true",
    "__float__": "turns a tensor into a number",
    "__int__": "turns a tensor into a number",
    "__index__": "turns a tensor into a number",
    "item": "turns a tensor into a number",
    "tolist": "turns a tensor into numbers",
    "numpy": "turns a tensor into an array",
    "__array__": "turns a tensor into an array",
}


def first_read(network: nn.Module, images: Tensor) -> str:
    """Say where a network looks at values that came of its images; nothing if it does not.

    Args:
        network: in evaluation mode, on the CPU.
        images: as it takes them, of any values.
    """
    watch = _Watch(images)
    running: list[str] = []
    handles = []
    for name, module in network.named_modules():
        handles.append(
            module.register_forward_pre_hook(lambda m, args, name=name: running.append(name))
        )
        handles.append(module.register_forward_hook(lambda m, args, output: _left(running)))
    try:
        with torch.no_grad(), watch:
            watch.running = running
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


def _left(running: list[str]) -> None:
    running.pop()


class _Watch(TorchFunctionMode):
    """Follows the images through all that PyTorch computes; there is no other hook for it."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.running: list[str] = []
        self.found = ""
        self.derived = {id(images): images}  # kept alive, so that no other gets the same id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors([args, kwargs]))
        result = func(*args, **kwargs)
        if not any(id(tensor) in self.derived for tensor in given):
            return result
        name = getattr(func, "__name__", "")
        if name in READS and not self.found:
            layer = self.running[-1] if self.running and self.running[-1] else "forward"
            self.found = f"the code of {layer} {READS[name]} that depends on the images"
        changed = given[:1] if name == "__setitem__" or name.endswith("_") else []
        for tensor in [*changed, *_tensors(result)]:
            self.derived[id(tensor)] = tensor
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
