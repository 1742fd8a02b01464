"""Create a network by name: a CIFAR family or any other timm model, or ``torchvision/NAME``."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from edgekd.errors import UnknownNameError, UsageError, WeightsError
from edgekd.models import archives, mobilenet, resnet, shufflenet, vgg, wrn
from edgekd.preprocess import Preprocess
from edgekd.shortage import check_shortage

FAMILIES = (resnet, wrn, vgg, mobilenet, shufflenet)
"""Importing these registers their members with timm, which then finds them by name."""

TORCHVISION = "torchvision/"
LOCAL = "local-dir:"
HUB = ("hf-hub:", "hf_hub:", LOCAL)
PREFERRED = (
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""Which file of a folder timm reads; without any of them, the first by the ends of its names."""
ENDS = (".safetensors", ".pth", ".pth.tar", ".bin")
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""PyTorch unpickles nothing while this is set, whoever asks it to."""
NOT_ONLY = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""The contrary; of both at once PyTorch loads nothing."""


def names() -> list[str]:
    """Every name :func:`create` takes, the CIFAR families first."""
    from torchvision.models import list_models

    families = [name for family in FAMILIES for name in family.__all__]
    others = [name for name in timm.list_models() if name not in families]
    return families + others + [TORCHVISION + name for name in _classifiers(list_models())]


def create(name: str, classes: int, size: int = 0, tag: str | None = None) -> nn.Module:
    """Make a network with a head for ``classes``.

    Args:
        name: as :func:`names` lists it, or ``hf-hub:ORG/NAME``, ``local-dir:FOLDER``.
        classes: outputs of the head; 0 keeps the head its weights have.
        size: side of the input in pixels, for networks that fix it; 0 takes their own.
        tag: which published weights to load: ``""`` for the default ones, ``None`` for none.

    Raises:
        UnknownNameError: no such network; the message names the nearest.
        WeightsError: the weights cannot be fetched, or there are none.
    """
    if name.startswith(TORCHVISION):
        return _torchvision(name.removeprefix(TORCHVISION), classes, tag)
    hub = name.startswith(HUB)
    if not hub and not timm.is_model(name):
        raise UnknownNameError("model", name, names())
    options: dict[str, Any] = {"num_classes": classes} if classes else {}
    if size and not hub and _fixes_its_size(name):
        options["img_size"] = size
    full = f"{name}.{tag}" if tag else name
    if name.startswith(LOCAL):
        _check_folder(name)
    with warnings.catch_warnings(), _weights_only():
        warnings.simplefilter("ignore")  # timm warns of renamed tags; the manifest has the name
        try:
            model: nn.Module = timm.create_model(full, pretrained=tag is not None or hub, **options)
        except Exception as error:  # the hub's clients raise a dozen unrelated classes
            raise _refusal(full, error, fetching=tag is not None or hub) from error
    return model


def preprocess_of(model: nn.Module, size: int = 0) -> Preprocess:
    """What the network's weights expect of an image; ``size`` replaces the side."""
    config = resolve_model_data_config(model, verbose=False)
    height, width = (size, size) if size else config["input_size"][1:]
    return Preprocess(
        (height, width),
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
        config["crop_pct"],
    )


def architecture(model: nn.Module) -> str:
    """The name timm has for a network that came from a hub."""
    config: Any = model.pretrained_cfg
    return str(config["architecture"])


def head_classes(model: nn.Module) -> int:
    """Number of classes the head tells apart: rows of the last layer."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return int(getattr(model, "num_classes", None) or layers[-1].weight.shape[0])


def _check_folder(name: str) -> None:
    """Refuse a folder of which timm would read a file that claims more than it holds.

    Raises:
        WeightsError: it does, is damaged, or holds more than tensors.
    """
    try:
        file = weights_in(Path(name.removeprefix(LOCAL)))
        if file is None or file.suffix == ".safetensors":  # whose own reader compares the same
            return
        archives.load(file)
    except pickle.UnpicklingError as error:
        more = ValueError(f"{file} holds more than tensors, and loading it could run code")
        raise _refusal(name, more, fetching=True) from error
    except (OSError, ValueError) as error:
        said = str(error) if isinstance(error, OSError) else f"{file}: {error}"
        raise _refusal(name, ValueError(said), fetching=True) from error


def weights_in(folder: Path) -> Path | None:
    """The file of a hub's folder that timm takes the weights from."""
    named = [folder / name for name in PREFERRED]
    others = (file for end in ENDS for file in sorted(folder.glob(f"*{end}")))
    return next((file for file in named if file.exists()), None) or next(others, None)


@contextmanager
def _weights_only() -> Iterator[None]:
    """Libraries that download weights do not all ask PyTorch for those alone."""
    before = {name: os.environ.pop(name, None) for name in (WEIGHTS_ONLY, NOT_ONLY)}
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        del os.environ[WEIGHTS_ONLY]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _fixes_its_size(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size)


def _torchvision(name: str, classes: int, tag: str | None) -> nn.Module:
    from torchvision import models

    if name not in _classifiers(models.list_models()):
        known = _classifiers(models.list_models())
        raise UnknownNameError("model", TORCHVISION + name, [TORCHVISION + n for n in known])
    try:
        weights = None if tag is None else models.get_model_weights(name)[tag or "DEFAULT"]
        with _weights_only():
            model: nn.Module = models.get_model(name, weights=weights)
    except Exception as error:  # an unknown tag, or the download failed
        raise _refusal(TORCHVISION + name, error, fetching=tag is not None) from error
    model.pretrained_cfg = _torchvision_config(weights)  # type: ignore[assignment]
    if classes and classes != head_classes(model):
        _reset_last_layer(model, classes)
    return model


def _torchvision_config(weights: Any) -> dict[str, Any]:
    """What torchvision's own transform does, in timm's words."""
    config: dict[str, Any] = {"input_size": (3, 224, 224), "crop_pct": 0.875}
    if weights is not None:
        transform = weights.transforms()
        side = transform.crop_size[0]
        config = {
            "input_size": (3, side, side),
            "crop_pct": side / transform.resize_size[0],
            "interpolation": transform.interpolation.value,
            "mean": tuple(transform.mean),
            "std": tuple(transform.std),
            "weights": f"torchvision/{weights}",
            "license": weights.meta.get("license"),
            "origin_url": weights.meta.get("recipe"),
        }
    return config


def _classifiers(known: list[str]) -> list[str]:
    """Torchvision's image classifiers: the other tasks' builders live in named submodules."""
    other = ("rcnn", "ssd", "fcn", "deeplab", "retina", "raft", "lraspp", "r3d", "mc3", "r2plus1d")
    return [n for n in known if not any(o in n for o in (*other, "s3d", "mvit", "swin3d", "quant"))]


def _reset_last_layer(model: nn.Module, classes: int) -> None:
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    name, last = layers[-1]
    parent, _, leaf = name.rpartition(".")
    fresh: nn.Module
    if isinstance(last, nn.Linear):
        fresh = nn.Linear(last.in_features, classes)
    else:  # SqueezeNet
        fresh = nn.Conv2d(last.in_channels, classes, kernel_size=1)
    setattr(model.get_submodule(parent), leaf, fresh)
    if hasattr(model, "num_classes"):
        model.num_classes = classes  # type: ignore[assignment]


def _refusal(name: str, error: Exception, *, fetching: bool) -> UsageError:
    check_shortage(error)
    first = str(error).strip().partition("\n")[0]
    if fetching:
        return WeightsError(
            f"cannot load the published weights of {name}: {first}. "
            "Give a file instead (NAME:weights.safetensors), or leave them out to start at random."
        )
    return UsageError(f"cannot make {name}: {first}.")
