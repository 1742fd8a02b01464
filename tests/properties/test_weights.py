"""A file of weights is tensors or a refusal, however it was damaged or made up."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from edgekd.errors import WeightsError
from edgekd.models import weights
from tests.properties.spoiling import JUNK, respelled, spoiled

TENSORS = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.arange(2.0)}
SAFE = save(TENSORS)
HEADER = json.loads(SAFE[8 : 8 + int.from_bytes(SAFE[:8], "little")])


def torch_file(content: Any, *, legacy: bool = False) -> bytes:
    held = io.BytesIO()
    torch.save(content, held, _use_new_zipfile_serialization=not legacy)
    return held.getvalue()


SEEDS = [torch_file(TENSORS), torch_file(TENSORS, legacy=True), pickle.dumps({"a": [1, 2.0]})]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def tried(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        found = weights.read(file)
    except WeightsError:
        return
    assert all(isinstance(name, str) for name in found)
    assert all(isinstance(tensor, Tensor) for tensor in found.values())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_tensors_or_a_refusal(folder: Path, name: str, data: bytes) -> None:
    tried(folder / name, data)


@given(data=spoiled([SAFE]))
def test_a_damaged_safetensors_file(folder: Path, data: bytes) -> None:
    tried(folder / "w.safetensors", data)


@given(header=respelled(HEADER))
def test_a_safetensors_file_with_another_header(folder: Path, header: bytes) -> None:
    body = SAFE[8 + int.from_bytes(SAFE[:8], "little") :]
    tried(folder / "w.safetensors", len(header).to_bytes(8, "little") + header + body)


@given(data=spoiled(SEEDS))
@settings(max_examples=50)
def test_a_damaged_file_of_pytorch(folder: Path, data: bytes) -> None:
    tried(folder / "w.pth", data)


@given(content=JUNK, legacy=st.booleans())
@settings(max_examples=50)
def test_a_file_of_pytorch_that_holds_something_else(
    folder: Path, content: Any, legacy: bool
) -> None:
    tried(folder / "w.pth", torch_file(content, legacy=legacy))
