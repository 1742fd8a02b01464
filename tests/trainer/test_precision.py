"""Precision: what is asked for is checked against what the machine computes."""

from __future__ import annotations

import re

import pytest
import torch
from accelerate import PartialState

from edgekd.errors import UsageError
from edgekd.trainer import collective, precision
from edgekd.trainer.precision import resolve

FP16 = "fp16 training needs a GPU and there is none here; use auto or fp32"
BF16 = "this machine emulates bf16, slower than fp32"
TABLE = [  # asked, has a GPU, computes bf16, found
    ("auto", False, False, "fp32"),
    ("auto", False, True, "bf16"),
    ("auto", True, False, "fp32"),
    ("auto", True, True, "bf16"),
    ("fp32", False, True, "fp32"),
    ("fp32", True, True, "fp32"),
    ("bf16", False, True, "bf16"),
    ("bf16", True, True, "bf16"),
    ("bf16", False, False, BF16),
    ("bf16", True, False, BF16),
    ("fp16", True, False, "fp16"),
    ("fp16", True, True, "fp16"),
    ("fp16", False, False, FP16),
    ("fp16", False, True, FP16),
    ("int8", True, True, "precision 'int8': expected auto, fp32, bf16, fp16"),
    ("", True, True, "precision '': expected auto"),
]


def test_a_gpu_that_accelerate_is_told_to_leave_alone_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    PartialState._reset_state()
    try:
        assert collective.device() == torch.device("cpu")
        with pytest.raises(UsageError, match=FP16):
            resolve("fp16")
    finally:
        PartialState._reset_state()
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    assert resolve("fp16") == "fp16"


@pytest.mark.parametrize(("asked", "gpu", "bf16", "found"), TABLE)
def test_table(
    asked: str, gpu: bool, bf16: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(precision, "has_bf16", lambda: bf16)
    if found in precision.PRECISIONS:
        assert resolve(asked) == found
    else:
        with pytest.raises(UsageError, match=re.escape(found)):
            resolve(asked)


@pytest.mark.parametrize("answer", [True, False])
def test_the_hardware_is_asked_and_emulation_does_not_count(
    answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return answer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision.has_bf16() is answer
    assert asked == [False]
