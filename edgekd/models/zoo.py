"""Create a network by name: a CIFAR family or any other timm model, or ``torchvision/NAME``."""

from __future__ import annotations

import warnings
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from edgekd.errors import UnknownNameError, UsageError, WeightsError
from edgekd.models import mobilenet, resnet, shufflenet, vgg, wrn
from edgekd.preprocess import Preprocess

FAMILIES = (resnet, wrn, vgg, mobilenet, shufflenet)
"""Importing these registers their members with timm, which then finds them by name."""

TORCHVISION = "torchvision/"
HUB = ("hf-hub:", "hf_hub:", "local-dir:")


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
    with warnings.catch_warnings():
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
    first = str(error).strip().partition("\n")[0]
    if fetching:
        return WeightsError(
            f"cannot load the published weights of {name}: {first}. "
            "Give a file instead (NAME:weights.safetensors), or leave them out to start at random."
        )
    return UsageError(f"cannot make {name}: {first}.")
