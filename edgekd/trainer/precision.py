"""Which arithmetic a machine trains in: asked for, and checked rather than assumed."""

from __future__ import annotations

import torch

from edgekd.errors import UsageError
from edgekd.trainer.collective import has_gpu

PRECISIONS = ("fp32", "bf16", "fp16")


def resolve(asked: str) -> str:
    """``auto`` becomes ``bf16`` where the machine computes it natively, else ``fp32``.

    Raises:
        UsageError: an unknown word, or a precision this machine only emulates.
    """
    if asked == "auto":
        return "bf16" if has_bf16() else "fp32"
    if asked not in PRECISIONS:
        raise UsageError(f"precision {asked!r}: expected auto, {', '.join(PRECISIONS)}.")
    if asked == "fp16" and not has_gpu():
        raise UsageError("fp16 training needs a GPU and there is none here; use auto or fp32.")
    if asked == "bf16" and not has_bf16():
        raise UsageError(
            "this machine emulates bf16, slower than fp32 (it has neither avx512_bf16 nor amx, nor "
            "a GPU that computes it); use auto or fp32."
        )
    return asked


def settle(device: torch.device) -> None:
    """Say once how a GPU computes; nothing to say on a CPU.

    fp32 is fp32 there, too: TF32, which keeps 10 of 23 bits, is switched off for convolutions as it
    is for matrix products, so that what is learned and judged in fp32 is what a CPU would find, and
    who wants speed asks for bf16. Batches are of one size, so cuDNN tries its kernels once.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True


def has_bf16() -> bool:
    """Whether bf16 is computed by the hardware, as oneDNN or CUDA see it."""
    if has_gpu():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # builds without oneDNN, such as macOS's, do not have the question at all
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
