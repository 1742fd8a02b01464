"""Weights: read without ever running what a file says, fitted to a network, and named clearly."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgekd.errors import WeightsError
from edgekd.models import archives
from edgekd.structure import cut

Weights = dict[str, Tensor]
PARALLEL = "module."
"""What every name begins with where a network was wrapped to train on several GPUs."""
PLAIN = frozenset(
    {torch.float32, torch.float16, torch.bfloat16, torch.float64}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
)
"""Types whose values stand for themselves; of whole numbers a network counts its batches."""


def read(path: Path) -> Weights:
    """Tensors of a file of safetensors' or PyTorch's, whichever of the two it is.

    Raises:
        WeightsError: missing, damaged, not weights at all, a pickle that would run code, or tensors
            that are no plain numbers.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}: expected a file or an artifact.")
    try:
        found = load_file(path) if _is_safetensors(path) else archives.load(path)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, and loading it could run code, so it was not "
            "loaded. Where it was made, save the weights alone: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except Exception as error:  # a damaged file makes the readers raise a dozen unrelated classes
        first = cut(str(error).partition("\n")[0], 200)
        raise WeightsError(f"{path} cannot be read as weights; is it whole? ({first})") from error
    return _plain(_tensors(found, path), path)


def write(model: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers, under their plain names."""
    path.write_bytes(_packed(model))  # an OSError says what is wrong; save_file's own says less


def digest(model: nn.Module) -> str:
    """sha256 of the file that :func:`write` makes of a network."""
    return hashlib.sha256(_packed(model)).hexdigest()


def _packed(model: nn.Module) -> bytes:
    return bytes(save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}))


def fit(model: nn.Module, weights: Weights, where: str, *, new_head: bool = False) -> bool:
    """Load weights into a network, all or nothing; say whether its head was left as it was.

    Args:
        model: the network.
        weights: name to tensor.
        where: what to call the weights in a message.
        new_head: keep the network's own head where the weights tell another number of classes.

    Raises:
        WeightsError: names or shapes differ, with the first of each.
    """
    own = model.state_dict()
    wrong = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    head = _head(model)
    left_out = [k for k in wrong if k in head] if new_head else []
    kept = {k: v for k, v in weights.items() if k not in left_out}
    missing = [k for k in own if k not in weights]
    unexpected = [k for k in weights if k not in own]
    if wrong and set(wrong) <= set(head) and not new_head and not missing:
        _check_classes(own, weights, wrong, where)
    floats = [k for k in own if k in kept and own[k].is_floating_point()]
    whole = [k for k in floats if not kept[k].is_floating_point()]
    if missing or unexpected or whole or set(wrong) - set(left_out):
        raise WeightsError(
            f"{where} does not fit the network: {_some('missing', missing)}"
            f"{_some('unexpected', unexpected)}{_some('of another shape', wrong)}"
            f"{_some('of whole numbers, as quantised ones are', whole)}"
            "expected the weights of the very network that was named."
        )
    broken = [k for k in floats if not _stays_finite(own[k], kept[k])]
    if broken:
        raise WeightsError(
            f"{where} holds NaN or infinity, {_some('in', broken)}a training that diverged leaves "
            "such, and so does a damaged file. Give weights from before that."
        )
    model.load_state_dict({**own, **kept})
    return bool(left_out)


def _check_classes(own: Weights, weights: Weights, wrong: list[str], where: str) -> None:
    """Refuse weights of which the head's sizes alone are wrong."""
    if all(weights[k].ndim == own[k].ndim for k in wrong):
        theirs, ours = weights[wrong[0]].shape[0], own[wrong[0]].shape[0]
        raise WeightsError(
            f"{where} tells {theirs} classes, the data has {ours}. Give the weights of a network "
            "trained on this data, or fine-tune it first with edgekd teach."
        )


def _is_safetensors(path: Path) -> bool:
    """By its content: the length of its head, which is JSON; names are often wrong."""
    with path.open("rb") as file:
        begins = file.read(9)
    return begins[8:] == b"{" or (path.suffix == ".safetensors" and begins[:2] != b"PK")


def _head(model: nn.Module) -> list[str]:
    """Names of the classifier's tensors: what timm says, or those of the last layer."""
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    said = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = {said} if isinstance(said, str) else set(said)  # two, where one learns from a teacher
    found = [name for name in layers if name in heads] or layers[-1:]
    return [f"{name}.{tensor}" for name in found for tensor in ("weight", "bias")]


def _some(word: str, names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{word}: {', '.join(map(cut, names[:2]))}{more}; " if names else ""


def _stays_finite(own: Tensor, new: Tensor) -> bool:
    """Whether numbers are finite once they are as the network has them; where its own ones are."""
    return not bool(own.isfinite().all()) or bool(new.to(own.dtype).isfinite().all())


def _plain(weights: Weights, path: Path) -> Weights:
    """Refuse what would be taken for other numbers than it is, or for none."""
    odd = next(((name, kind) for name, value in weights.items() if (kind := _odd(value))), None)
    if odd is not None:
        raise WeightsError(
            f"{path}: {cut(odd[0])} is {odd[1]}; expected tensors of float32, float16, bfloat16 or "
            "float64. Convert them where they were made: what belongs to other kinds, such as "
            "their scale, is not in them."
        )
    return weights


def _odd(value: Tensor) -> str:
    """What a tensor is that is no plain numbers; empty of one that is."""
    if value.is_meta:
        return "without values"
    if value.is_nested or value.layout is not torch.strided:
        return "sparse or nested"
    return "" if value.dtype in PLAIN else str(value.dtype).removeprefix("torch.")


def _tensors(found: Any, path: Path) -> Weights:
    """The state dict inside a checkpoint, as training scripts nest and prefix it."""
    for key in ("state_dict_ema", "state_dict", "model", "net"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise WeightsError(f"{path} holds no state dict: expected a mapping from name to tensor.")
    names = list(map(str, found))
    every = all(name.startswith(PARALLEL) for name in names)
    bare = [name.removeprefix(PARALLEL) if every else name for name in names]
    return dict(zip(bare, found.values(), strict=True))
