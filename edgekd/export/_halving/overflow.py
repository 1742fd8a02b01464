"""Which operations of a network leave the range of half floats, on real images.

Half floats end at 65504. What goes beyond becomes infinite, then NaN, and the class of an image is
whatever comes first. Norms, attention scores and residual sums are the usual places, so operations
are watched below the level of modules: a sum in a ``forward`` is seen as well as a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["LARGEST", "SAFE", "Break", "Peak", "Scan", "first_break", "scan"]

LARGEST = 65504.0
"""The largest half float."""
SAFE = LARGEST / 2
"""Images that were not looked at may go further; a factor of two is left for them."""

Images = Tensor
"""(B, 3, H, W) float32, normalised."""
Call = Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Peak:
    """The largest magnitude that an operation reached."""

    layer: str = ""
    """Innermost named module; empty for the network's own ``forward``."""
    operation: str = ""
    value: float = 0.0


@dataclass
class Scan:
    """What the values of a float32 network do; grows batch by batch."""

    peak: Peak = field(default_factory=Peak)
    """The largest of all."""
    origins: dict[str, Peak] = field(default_factory=dict)
    """By layer: operations beyond :data:`SAFE` all of whose inputs are within it."""
    beyond: dict[str, Peak] = field(default_factory=dict)
    """By layer: all operations beyond it."""
    inputs: dict[str, float] = field(default_factory=dict)
    """Largest magnitude that goes into a module."""
    outputs: dict[str, float] = field(default_factory=dict)
    """Largest magnitude that comes out of it."""
    infinite: set[str] = field(default_factory=set)
    """Layers that make infinities on purpose, such as masks."""
    batches: list[float] = field(default_factory=list)
    """The peak of each batch."""
    logits: list[Tensor] = field(default_factory=list)
    """Of each batch."""


@dataclass(frozen=True)
class Break:
    """Where a half network fails: the first value that is not finite, or a refusal of PyTorch."""

    layer: str
    operation: str
    reason: str


def scan(network: nn.Module, batches: Sequence[Images]) -> Scan:
    """Watch every operation of a float32 network, in evaluation mode, on the CPU."""
    found = Scan()
    for images in batches:
        found.batches.append(0.0)
        with _stack(network, (found.inputs, found.outputs)) as stack:
            found.logits.append(_run(network, images, partial(_note, found, stack)))
    return found


def first_break(
    network: nn.Module, images: Images, infinite: Collection[str] = ()
) -> tuple[Break | None, Tensor]:
    """Run a half network; return where it fails first, and its logits as far as there are any.

    Args:
        network: takes and returns float32.
        images: (B, 3, H, W).
        infinite: layers that make infinities in float32 too: a mask does no harm.
    """
    breaks: list[Break] = []
    with _stack(network) as stack:
        try:
            logits = _run(network, images, partial(_note_break, breaks, stack))
        except RuntimeError as error:  # types that do not fit, or no kernel for half floats
            reason = f"PyTorch refuses it: {str(error).strip().splitlines()[0]}"
            return Break(stack[-1], "", reason), torch.empty(0)
    unexpected = [found for found in breaks if found.layer not in infinite]
    if not unexpected and not _range(logits)[1]:
        unexpected = [*breaks, Break("", "", NOT_FINITE)]
    return (unexpected[0] if unexpected else None), logits


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands each operation to a function; PyTorch lets them be watched in no other way."""

    def __init__(self, call: Call) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.call = call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.call(func, args, kwargs or {})


def _run(network: nn.Module, images: Images, call: Call) -> Tensor:
    # Inference mode would hand over whole composites, a linear layer with its bias for instance,
    # and the fused attention hides its scores, which an exported graph computes one by one.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Watch(call):
        logits: Tensor = network(images)
    return logits


@contextmanager
def _stack(
    network: nn.Module, ends: tuple[dict[str, float], dict[str, float]] | None = None
) -> Iterator[list[str]]:
    """Names of the modules that run at the moment, the innermost last.

    Where one raises, the stack stays as it was: that is where it happened. Into ``ends`` goes the
    largest magnitude that enters and leaves each module.
    """
    stack = [""]
    handles = []

    def enter(name: str, module: nn.Module, args: Any) -> None:
        stack.append(name)
        if ends:
            ends[0][name] = max(ends[0].get(name, 0.0), _range(args)[0])

    def leave(name: str, module: nn.Module, args: Any, output: Any) -> None:
        stack.pop()
        if ends:
            ends[1][name] = max(ends[1].get(name, 0.0), _range(output)[0])

    for name, module in network.named_modules():
        # First and last, so that what other hooks of the module compute counts as the module's.
        handles.append(module.register_forward_pre_hook(partial(enter, name), prepend=True))
        handles.append(module.register_forward_hook(partial(leave, name)))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _note(
    found: Scan, stack: list[str], func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    name = func.overloadpacket.__name__
    if func.is_view or name in IGNORED:
        return func(*args, **kwargs)
    inplace = name.endswith("_")
    before = _range(args)[0] if inplace else 0.0  # afterwards it would be the result's
    result = func(*args, **kwargs)
    value, finite = _range(result)
    peak = Peak(stack[-1], name.strip("_"), value)
    if name in HIDDEN:
        words, measured = HIDDEN[name]
        hidden = Peak(stack[-1], f"{words} inside {name}", measured(*args))
        peak = max(peak, hidden, key=SIZE)
    if not finite:
        found.infinite.add(peak.layer)
    found.batches[-1] = max(found.batches[-1], peak.value)
    found.peak = max(found.peak, peak, key=SIZE)
    if peak.value > SAFE:
        _raise(found.beyond, peak)
        if (before if inplace else _range(args)[0]) <= SAFE:
            _raise(found.origins, peak)
    return result


def _raise(peaks: dict[str, Peak], peak: Peak) -> None:
    peaks[peak.layer] = max(peaks.get(peak.layer, peak), peak, key=SIZE)


def _note_break(
    breaks: list[Break],
    stack: list[str],
    func: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    name = func.overloadpacket.__name__
    watched = not (func.is_view or name in IGNORED) and _range(args)[1]
    result = func(*args, **kwargs)
    if watched and not _range(result)[1]:
        breaks.append(Break(stack[-1], name.strip("_"), NOT_FINITE))
    return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """Floating-point tensors in arguments or results, however nested."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _range(value: Any) -> tuple[float, bool]:
    """Largest finite magnitude, and whether all values are finite."""
    most, finite = 0.0, True
    for tensor in _tensors(value):
        low, high = (float(end) for end in torch.aminmax(tensor))
        if not math.isfinite(low) or not math.isfinite(high):
            finite = False
            usual = tensor[tensor.isfinite()].abs()
            low, high = 0.0, float(usual.max()) if usual.numel() else 0.0
        most = max(most, -low, high)
    return most, finite


def _squares(images: Tensor, dims: Sequence[int]) -> float:
    """Largest square that the variance of a norm is made of."""
    return float((images - images.mean(list(dims), keepdim=True)).square().max())


def _layer_squares(images: Tensor, shape: Sequence[int], *rest: Any) -> float:
    return _squares(images, range(-len(shape), 0))


def _group_squares(images: Tensor, *rest: Any) -> float:
    groups = rest[5]  # (weight, bias, N, C, pixels, groups, eps)
    return _squares(images.reshape(len(images), groups, -1), [-1])


def _spread_squares(images: Tensor, dims: Sequence[int] | None = None, *rest: Any) -> float:
    return _squares(images, dims or range(images.dim()))


def _sums(images: Tensor, order: float | None = None, dims: Any = None, *rest: Any) -> float:
    """Largest sum that a vector's norm is a root of; with the default order 2, of squares."""
    order = 2.0 if order is None else float(order)
    if not math.isfinite(order) or order <= 0:
        return 0.0
    dims = [dims] if isinstance(dims, int) else dims
    return float(images.double().abs().pow(order).sum(dims or None).max())


SIZE = attrgetter("value")
NOT_FINITE = "it gives values that are not finite"
IGNORED = ("empty", "empty_like", "new_empty", "empty_strided", "aminmax", "isfinite")
"""The values of the first are whatever was in memory; the last are the watching itself."""
HIDDEN: dict[str, tuple[str, Callable[..., float]]] = {
    "native_layer_norm": ("a square", _layer_squares),
    "native_group_norm": ("a square", _group_squares),
    **dict.fromkeys(("var", "var_mean", "std", "std_mean"), ("a square", _spread_squares)),
    **dict.fromkeys(("linalg_vector_norm", "norm"), ("a sum of squares", _sums)),
}
"""Operations that square inside. PyTorch does so in float32; TensorRT, and any runtime where the
norm is written as single steps (opset 16), in half."""
