"""Compiling: each network as one graph, held against the plain step before it is trusted.

A step of a small network is many small pieces of work, and a GPU waits for them to be handed over.
A compiled network is handed over as a few; on a GPU they are recorded once and played back (CUDA
graphs). The method stays as it is: its terms are small, and may do what no graph holds. Networks
keep their names, states and copies: what is compiled is the call of the tap around them, so that
checkpoints, moving averages, evaluation and exports see the bare network.

How much a compiled step may differ is measured, not assumed: the plain step is repeated with every
weight and every pixel moved by about one rounding of the precision it computes in. That is what
the precision itself leaves open, and the compiled step has to stay within a few times of it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Batch
from edgekd.errors import UsageError
from edgekd.trainer.learner import Learner, Peers, Teacher

LEEWAY = 10.0
"""How many times further than one rounding of everything moves it a compiled step may be off."""
MOST_OF = 0.7
"""Share of the whole gradient it may be off by where a precision leaves more open than that, as
bf16 does in the first steps of some networks: no gradient at all would be off by 1."""
DRAWS = 2
"""Ways in which everything is moved; the further one counts."""
ROUNDING = {"fp32": 2.0**-24, "bf16": 2.0**-9, "fp16": 2.0**-12}
"""Largest relative error of one rounding."""
PLAYED = 3
"""Steps on a GPU until graphs are played back: one to warm up, one to record, and this one."""
BACKEND: Any = "inductor"
"""What torch compiles with."""
MOST = 64
"""Networks that may be compiled beside one another in a process; torch stops at eight, silently."""

Step = Mapping[str, Tensor]
"""What came out of a step: its loss, and each parameter's gradient by name."""


@dataclass(frozen=True)
class Distance:
    """How far two steps are apart, as shares of what they are."""

    loss: float
    gradient: float

    def __str__(self) -> str:
        return f"loss {self.loss:.1e}, gradient {self.gradient:.1e}"


def compile_step(
    bare: Learner | Peers,
    teacher: Teacher | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    precision: str,
    batch: Batch,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Compile the networks in place, and hold a step of theirs against the plain one.

    No parameter, no buffer, no adapter and no generator is changed by it.

    Args:
        bare: what is trained, on its device.
        teacher: the frozen network, there too.
        autocast: what computes in the precision of the training.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        batch: on the device, of the size of all later ones.
        say: told how long it took and how far the steps are apart.

    Raises:
        UsageError: they cannot be compiled here, or compute something else then.
    """
    device, began = batch.image.device, time.monotonic()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        plain = _tried(copy.deepcopy(bare), teacher, autocast, batch)
        moved = [
            _moved(bare, teacher, autocast, batch, ROUNDING[precision], n) for n in range(DRAWS)
        ]
        _compile(bare, teacher, device)
        compiled = plain
        for _ in range(PLAYED if device.type == "cuda" else 1):
            with _unchanged(bare), _compiling():
                mark()
                compiled = _tried(bare, teacher, autocast, batch)
    allowed = Allowed(plain, moved, precision)
    allowed.check(compiled)
    say(
        f"compiled in {time.monotonic() - began:.0f} s: {apart(plain, compiled)} away from the "
        f"plain step; one rounding of {precision} in each weight moves it by {allowed.moved}"
    )


def mark() -> None:
    """Before a step: what the graphs of the last one gave is no longer looked at."""
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def apart(one: Step, other: Step) -> Distance:
    """How far two steps are apart: losses, and all gradients as one vector."""
    loss = (one["loss"] - other["loss"]).abs() / one["loss"].abs().clamp_min(1e-12)
    return Distance(float(loss), _norm(_off(one, other)) / max(_norm(_gradients(one)), 1e-30))


class Allowed:
    """How far a step may be off.

    Args:
        plain: the step to hold others against.
        moved: the same with everything moved by one rounding.
        precision: of that rounding.
    """

    def __init__(self, plain: Step, moved: Sequence[Step], precision: str) -> None:
        self._plain, self._precision = plain, precision
        distances = [apart(plain, other) for other in moved]
        self.moved = Distance(
            max(ROUNDING[precision], *(distance.loss for distance in distances)),
            max(ROUNDING[precision], *(distance.gradient for distance in distances)),
        )
        offs = [_off(plain, other) for other in moved]
        self._each = {name: max(float(off[name].norm()) for off in offs) for name in offs[0]}

    def check(self, compiled: Step) -> None:
        """Refuse a step that is further off than that, in one parameter's gradient or in its loss.

        A gradient's bound is what moved that parameter's gradient, and as much as the gradients
        moved on the whole: of itself, and of an average one of its size, since some are zero but
        for their rounding.

        Raises:
            UsageError: naming what is off the furthest.
        """
        gradients = _gradients(self._plain)
        if compiled.keys() != self._plain.keys():
            odd = sorted(compiled.keys() ^ self._plain.keys())
            raise self._refusal(f"only one of the two gives {odd[0]} a gradient")
        numbers = sum(gradient.numel() for gradient in gradients.values())
        usual = self.moved.gradient * _norm(gradients) / max(numbers, 1) ** 0.5
        found, moved = apart(self._plain, compiled), self.moved.gradient
        shares = {
            "the loss": found.loss / (LEEWAY * self.moved.loss),
            "the gradient as a whole": found.gradient
            / min(LEEWAY * moved, max(MOST_OF, 2 * moved)),
        }
        for name, off in _off(self._plain, compiled).items():
            own = self._each[name] + moved * float(gradients[name].norm())
            bound = LEEWAY * (own + usual * gradients[name].numel() ** 0.5)
            shares[f"the gradient of {name}"] = float(off.norm()) / max(bound, 1e-30)
        worst, share = max(shares.items(), key=lambda item: (item[1] != item[1], item[1]))
        if not share <= 1:
            raise self._refusal(f"{worst} is {share:.1f} times as far off as is allowed")

    def _refusal(self, what: str) -> UsageError:
        return UsageError(
            f"the compiled step computes something else: {what}; expected at most {LEEWAY:g} times "
            f"what one rounding of {self._precision} in each weight does ({self.moved}). Train "
            "without train.compile."
        )


def _compile(bare: Learner | Peers, teacher: Teacher | None, device: torch.device) -> None:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MOST
    options: dict[str, Any] = {"backend": BACKEND, "dynamic": False}
    if BACKEND == "inductor":  # random numbers are drawn as the plain step draws them
        graphs = device.type == "cuda"
        options["options"] = {"fallback_random": True, "triton.cudagraphs": graphs}
    for module in [*_taps(bare), *([] if teacher is None else [teacher])]:
        module.compile(**options)


@contextmanager
def _compiling() -> Iterator[None]:
    """Tell a compiler's failure in the user's words."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = " ".join(lines[:2]).removesuffix(".")
        raise UsageError(
            f"the networks cannot be compiled here: {said}. Train without train.compile."
        ) from error


def _tried(
    bare: Learner | Peers,
    teacher: Teacher | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    batch: Batch,
) -> dict[str, Tensor]:
    """One step without its update."""
    torch.manual_seed(0)
    shown = None
    if teacher is not None:
        with autocast():
            shown = teacher(batch.image)
    loss, _ = bare(batch, shown)
    loss.backward()
    named = bare.named_parameters()
    found = {name: p.grad.float().clone() for name, p in named if p.grad is not None}
    return {"loss": loss.detach().float().clone(), **found}


def _moved(
    bare: Learner | Peers,
    teacher: Teacher | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    batch: Batch,
    rounding: float,
    number: int,
) -> dict[str, Tensor]:
    """The same with every weight and pixel moved by about one rounding, up or down at random."""
    learner, shower = copy.deepcopy(bare), copy.deepcopy(teacher)
    torch.manual_seed(1 + number)
    with torch.no_grad():
        for module in [*_taps(learner), *([] if shower is None else [shower])]:
            for value in (*module.parameters(), *module.buffers()):
                if value.is_floating_point():
                    value.copy_(_nudged(value, rounding))
    return _tried(learner, shower, autocast, replace(batch, image=_nudged(batch.image, rounding)))


def _nudged(value: Tensor, rounding: float) -> Tensor:
    return value + value * (2 * rounding * torch.rand_like(value).sub_(0.5)).mul_(2)


@contextmanager
def _unchanged(bare: Learner | Peers) -> Iterator[None]:
    """Put back what a step changes: buffers, gradients, and whatever a method counts."""
    learners = bare.learners
    methods = [learner.method for learner in learners]
    buffers = [b for tap in _taps(bare) for b in tap.buffers()]
    before = [buffer.clone() for buffer in buffers]
    for learner in learners:
        learner.method = copy.deepcopy(learner.method)
    try:
        yield
    finally:
        for learner, method in zip(learners, methods, strict=True):
            learner.method = method
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        for parameter in bare.parameters():
            parameter.grad = None


def _taps(bare: Learner | Peers) -> list[nn.Module]:
    return [learner.tap for learner in bare.learners]


def _gradients(step: Step) -> dict[str, Tensor]:
    return {name: value for name, value in step.items() if name != "loss"}


def _off(one: Step, other: Step) -> dict[str, Tensor]:
    """Differences of gradients that both have."""
    return {name: other[name] - value for name, value in _gradients(one).items() if name in other}


def _norm(gradients: Mapping[str, Tensor]) -> float:
    return float(torch.stack([g.norm() for g in gradients.values()]).norm()) if gradients else 0.0
