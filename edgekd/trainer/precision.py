"""Which arithmetic a machine trains in: asked for, and checked rather than assumed."""

from __future__ import annotations

import torch

from edgekd.errors import UsageError

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
    if asked == "fp16" and not torch.cuda.is_available():
        raise UsageError("fp16 training needs a GPU and there is none here; use auto or fp32.")
    if asked == "bf16" and not has_bf16():
        raise UsageError(
            "this machine emulates bf16, slower than fp32 (it has neither avx512_bf16 nor amx, nor "
            "a GPU that computes it); use auto or fp32."
        )
    return asked


def has_bf16() -> bool:
    """Whether bf16 is computed by the hardware, as oneDNN or CUDA see it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # builds without oneDNN, such as macOS's, do not have the question at all
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
