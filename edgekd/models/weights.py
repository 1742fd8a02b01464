"""Weights: read without ever running what a file says, fitted to a network, and named clearly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgekd.errors import WeightsError

Weights = dict[str, Tensor]


def read(path: Path) -> Weights:
    """Tensors of a ``.safetensors`` file, or of a PyTorch file read with ``weights_only``.

    Raises:
        WeightsError: missing, truncated, not weights at all, or a pickle that would run code.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}: expected a file or an artifact.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise a dozen unrelated classes
        raise _refusal(path, error) from error
    return _tensors(found, path)


def write(model: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers, under their plain names."""
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.write_bytes(save(weights))  # an OSError says what is wrong; save_file's own says less


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
    if head and wrong and set(wrong) <= set(head) and not new_head and not missing:
        theirs, ours = weights[wrong[0]].shape[0], own[wrong[0]].shape[0]
        raise WeightsError(
            f"{where} tells {theirs} classes, the data has {ours}. Give the weights of a network "
            "trained on this data, or fine-tune it first with edgekd teach."
        )
    if missing or unexpected or set(wrong) - set(left_out):
        raise WeightsError(
            f"{where} does not fit the network: {_some('missing', missing)}"
            f"{_some('unexpected', unexpected)}{_some('of another shape', wrong)}"
            "expected the weights of the very network that was named."
        )
    model.load_state_dict({**own, **kept})
    return bool(left_out)


def _refusal(path: Path, error: Exception) -> WeightsError:
    first = str(error).partition("\n")[0]
    if isinstance(error, pickle.UnpicklingError):
        if "Unsupported operand" not in str(error):  # which only a file that is no pickle has
            return WeightsError(
                f"{path} holds more than tensors, and loading it could run code, so it was not "
                "loaded. Where it was made, save the weights alone: "
                "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
            )
        first = "it is no file of PyTorch"
    return WeightsError(f"{path} cannot be read as weights; is it whole? ({first})")


def _head(model: nn.Module) -> list[str]:
    """Names of the classifier's tensors: what timm says, or those of the last layer."""
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    said = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = {said} if isinstance(said, str) else set(said)  # two, where one learns from a teacher
    found = [name for name in layers if name in heads] or layers[-1:]
    return [f"{name}.{tensor}" for name in found for tensor in ("weight", "bias")]


def _some(word: str, names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{word}: {', '.join(names[:2])}{more}; " if names else ""


def _tensors(found: Any, path: Path) -> Weights:
    """The state dict inside a checkpoint, as training scripts nest and prefix it."""
    for key in ("state_dict_ema", "state_dict", "model", "net"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise WeightsError(f"{path} holds no state dict: expected a mapping from name to tensor.")
    return {str(k).removeprefix("module."): v for k, v in found.items()}
