"""Weights are read without running what a file says, and fitted whole or not at all."""

from __future__ import annotations

import copy
import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekd import artifact
from edgekd.errors import UsageError, WeightsError
from edgekd.models import archives, weights, zoo

State = dict[str, Tensor]


def network(classes: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return zoo.create("resnet8", classes)


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def save(state: Any, path: Path, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_what_is_written_is_read_back_under_its_plain_names(tmp_path: Path) -> None:
    model = network()
    weights.write(model, tmp_path / "w.safetensors")
    assert equal(weights.read(tmp_path / "w.safetensors"), model.state_dict())
    assert load_file(tmp_path / "w.safetensors").keys() == model.state_dict().keys()


def test_weights_in_another_memory_format_are_written_plainly(tmp_path: Path) -> None:
    model = network()
    expected = copy.deepcopy(model.state_dict())
    weights.write(model.to(memory_format=torch.channels_last), tmp_path / "w.safetensors")
    assert equal(weights.read(tmp_path / "w.safetensors"), expected)


def test_a_full_disk_is_a_sentence_and_leaves_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    def keep() -> None:
        with artifact.create(tmp_path / "a", {"kind": "network"}) as folder:
            weights.write(network(), folder / "model.safetensors")

    with pytest.raises(UsageError, match=r"cannot write .*: No space left on device"):
        keep()
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", ["", "state_dict", "model", "net", "state_dict_ema"])
def test_a_checkpoint_of_pytorch_is_read_as_scripts_nest_it(
    tmp_path: Path, nested: str, legacy: bool
) -> None:
    state = network().state_dict()
    content: Any = {nested: state, "epoch": 3} if nested else state
    path = save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert equal(weights.read(path), state)


def test_the_moving_average_is_preferred_and_a_wrapper_s_prefix_is_dropped(tmp_path: Path) -> None:
    state, average = network(seed=0).state_dict(), network(seed=1).state_dict()
    wrapped = {f"module.{key}": value for key, value in average.items()}
    path = save({"state_dict": state, "state_dict_ema": wrapped}, tmp_path / "w.pth")
    assert equal(weights.read(path), average)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, nested: bool, legacy: bool
) -> None:
    canary, path = tmp_path / "ran", tmp_path / "w.pth"
    content: Any = {"state_dict": {"x": Canary(canary)}} if nested else Canary(canary)
    save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"could run code, so it was not loaded. Where it was"):
        weights.read(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # what would have happened
    assert canary.exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    canary, path = tmp_path / "ran", tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(WeightsError):
        weights.read(path)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    state = network().state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=rf"{name} cannot be read as weights; is it whole\?"):
        weights.read(path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"hello", b"<html>" * 99, b"a(p0", bytes(99), b"\x93NUMPY"])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        weights.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match=f"there are no weights at {path}: expected a file"):
            weights.read(path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, 3])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    path = save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no state dict: expected a mapping"):
        weights.read(path)


def test_fitting_takes_every_tensor() -> None:
    model, state = network(seed=0), network(seed=1).state_dict()
    assert weights.fit(model, state, "w.pth") is False
    assert equal(model.state_dict(), state)


def test_half_precision_is_taken_into_full() -> None:
    model, state = network(seed=0), network(seed=1).half().state_dict()
    weights.fit(model, state, "w.pth")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["head.fc.weight"], state["head.fc.weight"].float())


def drop(state: State) -> None:
    del state["head.fc.bias"]


def add(state: State) -> None:
    state["extra.weight"] = torch.zeros(1)


def reshape(state: State) -> None:
    state["stem.conv.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "missing: head.fc.bias; expected"),
        (add, "unexpected: extra.weight; expected"),
        (reshape, "of another shape: stem.conv.weight; expected"),
        (lambda state: state.clear(), "missing: stem.conv.weight, stem.bn.weight and .* more;"),
    ],
)
def test_weights_of_another_network_are_refused_whole(
    change: Callable[[State], None], message: str
) -> None:
    model, state = network(seed=0), network(seed=1).state_dict()
    before = copy.deepcopy(model.state_dict())
    change(state)
    for new_head in (False, True):
        with pytest.raises(WeightsError, match=f"w.pth does not fit the network: {message}"):
            weights.fit(model, state, "w.pth", new_head=new_head)
        assert equal(model.state_dict(), before)


def test_other_classes_are_refused_with_both_counts() -> None:
    with pytest.raises(WeightsError, match=r"w.pth tells 7 classes, the data has 5. Give the"):
        weights.fit(network(5), network(7).state_dict(), "w.pth")


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("resnet8", ["head.fc"]),
        ("mobilenetv3_small_050", ["classifier"]),
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
        ("torchvision/squeezenet1_1", ["classifier.1"]),
    ],
)
def test_a_new_head_is_kept_and_the_rest_is_taken(name: str, heads: list[str]) -> None:
    torch.manual_seed(0)
    model, other = zoo.create(name, 5, 32), zoo.create(name, 7, 32)
    before, theirs = copy.deepcopy(model.state_dict()), other.state_dict()
    assert weights.fit(model, theirs, "w.pth", new_head=True) is True
    own = {f"{head}.{tensor}" for head in heads for tensor in ("weight", "bias")}
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in own else theirs[key]), key


def test_a_head_that_fits_is_taken_though_a_new_one_was_allowed() -> None:
    model, state = network(seed=0), network(seed=1).state_dict()
    assert weights.fit(model, state, "w.pth", new_head=True) is False
    assert equal(model.state_dict(), state)


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_file_is_read_by_its_content_whatever_its_name(
    tmp_path: Path, name: str, kind: str
) -> None:
    state, path = network().state_dict(), tmp_path / name
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    if path.suffix == ".safetensors" and kind != "safetensors":  # PyTorch goes by that name, too
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            weights.read(path)
    else:
        assert equal(weights.read(path), state)


def test_a_changed_bit_of_our_own_state_is_found(tmp_path: Path) -> None:
    path, values = tmp_path / "checkpoint.pt", torch.arange(999.0)
    torch.save({"w": values}, path)
    assert torch.equal(archives.load(path, whole=True)["w"], values)
    content = bytearray(path.read_bytes())
    content[content.index(values.numpy().tobytes()) + 500] ^= 4
    path.write_bytes(content)
    assert not torch.equal(archives.load(path)["w"], values)  # PyTorch itself does not notice
    with pytest.raises(ValueError, match="in it was changed"):
        archives.load(path, whole=True)
