"""Collective: what the processes of one training tell each other.

Every function is called by all of them, in the same order; where there is one process alone, each
gives back what it was given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, distributed

from edgekd.errors import UsageError
from edgekd.world import World, world

PATIENCE = timedelta(days=1)
"""How long one waits for the others: main may measure or write for hours, and a process that died
is noticed by its closed connection and by the launcher, not by the clock."""

OTHERS = {
    "ACCELERATE_USE_FSDP": "train.shard_teacher spreads the teacher",
    "ACCELERATE_USE_DEEPSPEED": "train.shard_teacher spreads the teacher",
    "ACCELERATE_USE_MEGATRON_LM": "train.shard_teacher spreads the teacher",
    "ACCELERATE_DYNAMO_BACKEND": "train.compile compiles the networks",
}
"""What ``accelerate launch`` or its settings may ask for, which would change the training without a
word in the recipe; and what does in its place."""

T = TypeVar("T")


def meet() -> World:
    """Join the others; once, however often it is called.

    Raises:
        UsageError: the launcher's words make no sense or ask for more than processes, there are
            fewer GPUs than processes, or the others cannot be reached.
    """
    found = world()
    _check_asked()
    if found.size == 1 or distributed.is_initialized():
        return found
    gpus = torch.cuda.device_count() if has_gpu() else 0
    if 0 < gpus < found.neighbours:
        raise UsageError(
            f"{found.neighbours} processes share the {gpus} GPU{'s' * (gpus > 1)} of this machine; "
            f"expected one each. Start with --nproc-per-node {gpus}."
        )
    os.environ.setdefault("LOCAL_RANK", str(found.rank % found.neighbours))
    settings: dict[str, Any] = {} if gpus else {"cpu": True, "backend": "gloo"}
    settings |= {"rank": found.rank, "world_size": found.size, "timeout": PATIENCE}
    PartialState._reset_state()  # it may have been asked for before there was a group
    try:
        PartialState(store=_place_to_meet(), **settings)
    except (RuntimeError, ValueError) as error:  # torch's own errors of its store and its backends
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"process {found.rank} of {found.size} cannot reach the others: {reason}. Expected "
            "MASTER_ADDR and MASTER_PORT to be of a process that listens: start with torchrun."
        ) from error
    return found


def _check_asked() -> None:
    for name, ours in OTHERS.items():
        asked = os.environ.get(name, "")
        if asked.lower() not in ("", "no", "false", "0"):
            raise UsageError(
                f"{name} is {asked!r}, as accelerate launch or its settings file says; expected a "
                "launcher that only starts processes, for the recipe says the rest. Start without "
                f"it; {ours}."
            )


def device() -> torch.device:
    """What this process trains on; the Accelerator that a training makes takes the same."""
    meet()
    found: torch.device = PartialState(cpu=_keeps_off_gpus()).device
    return found


def has_gpu() -> bool:
    """Whether a training here is one on a GPU: ``accelerate launch --cpu`` wants none."""
    return torch.cuda.is_available() and not _keeps_off_gpus()


def _keeps_off_gpus() -> bool:
    return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))


def _place_to_meet() -> Any:
    """Where the launcher lets its processes find each other.

    torchrun may keep one place for all its attempts, and what the dead wrote is still there.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    torch_distributed: Any = distributed
    store, _, _ = next(torch_distributed.rendezvous("env://", timeout=PATIENCE))
    return torch_distributed.PrefixStore(f"edgekd/{attempt}", store)


def leave() -> None:
    """Part with the others, at the end of all."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        PartialState._reset_state()


def wait() -> None:
    """Go on when all have come here."""
    total(torch.zeros(1))


def shared(value: T) -> T:
    """The main process's value, for all: whatever JSON can say; tuples become lists."""
    if world().size == 1:
        return value
    found: T = json.loads(shared_bytes(json.dumps(value).encode() if world().is_main else b""))
    return found


def shared_bytes(content: bytes) -> bytes:
    """The main process's bytes, for all."""
    if world().size == 1:
        return content
    length = broadcast(torch.tensor([len(content)]))
    if not int(length):
        return b""
    own = bytearray(content if world().is_main else int(length))
    return broadcast(torch.frombuffer(own, dtype=torch.uint8)).numpy().tobytes()


def broadcast(tensor: Tensor) -> Tensor:
    """The main process's tensor; the others give one of its shape and type."""
    return _placed(tensor, lambda there: distributed.broadcast(there, 0))


def total(tensor: Tensor) -> Tensor:
    """The sum over all processes."""
    return _placed(tensor, distributed.all_reduce)


def mean(tensor: Tensor) -> Tensor:
    """The mean over all processes."""
    return tensor if world().size == 1 else total(tensor) / world().size


def largest(tensor: Tensor) -> Tensor:
    """The largest of each element over all processes."""
    most = distributed.ReduceOp.MAX
    return _placed(tensor, lambda there: distributed.all_reduce(there, most))


def any_of(flag: bool) -> bool:
    """Whether it is so in any of the processes."""
    return bool(largest(torch.tensor([float(flag)])))


def stacked(tensor: Tensor) -> Tensor:
    """(world, ...): everybody's, which all have one shape; no gradient flows back."""
    if world().size == 1:
        return tensor[None]
    there = _at_home(tensor.detach())
    found = there.new_empty(world().size * there.numel())
    distributed.all_gather_into_tensor(found, there.flatten())
    return found.view(world().size, *tensor.shape).to(tensor.device)


def gathered(tensor: Tensor) -> Tensor:
    """(b, ...) of each as (b * world, ...), in the order of the batch they are shares of.

    Of a batch, process r has the images r, r + world, r + 2 world and so on
    (:class:`edgekd.loading.Share`). No gradient flows back; see :func:`joined`.
    """
    return tensor if world().size == 1 else _in_order(stacked(tensor))


def joined(tensor: Tensor) -> Tensor:
    """:func:`gathered`, differentiable.

    What flows back to each process is its own part of the gradient, ``world`` times: the mean over
    the processes, which ends a backward pass, is then the gradient itself.
    """
    if world().size == 1:
        return tensor
    found: Tensor = _Joined.apply(tensor)
    return found


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gathered(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        here = world()
        return gradients[0][here.rank :: here.size] * here.size


def _in_order(shares: Tensor) -> Tensor:
    return shares.transpose(0, 1).flatten(0, 1).contiguous()


def _placed(tensor: Tensor, change: Callable[[Tensor], Any]) -> Tensor:
    """Let the backend change a copy of a tensor where it can, and bring it back."""
    if world().size == 1:
        return tensor
    there = _at_home(tensor.detach()).clone()
    change(there)
    return there.to(tensor.device)


def _at_home(tensor: Tensor) -> Tensor:
    """Where the backend takes it: NCCL knows no memory but a GPU's."""
    on_gpu = distributed.get_backend() == "nccl"
    return tensor.to(torch.device("cuda") if on_gpu else torch.device("cpu")).contiguous()
