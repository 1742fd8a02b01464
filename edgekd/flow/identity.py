"""Identity: one hash of all that decides a training, so that only its own state is gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from edgekd.agent.cores import cpu_model
from edgekd.data import Loader
from edgekd.files import sha256
from edgekd.loading import Splits
from edgekd.models import Backbone
from edgekd.models.building import place_of
from edgekd.recipe import Data, Network, Train
from edgekd.trainer import memo
from edgekd.trainer.collective import has_gpu
from edgekd.trainer.precision import resolve

CARELESS = {"workers", "checkpoint_minutes", "log_steps", "trackers", "cache_gb"}
"""Settings that decide what is told about a training, not what comes out of it."""
PREPARING = ("Pillow", "timm", "torchvision")
"""Packages whose versions may decide what a picture's pixels are, or what a network computes."""
UNSET = {
    "quantise": "",
    "order": -1,
    "teacher_views": 0,
    "compile": False,
    "shard_teacher": False,
}
"""Settings that came later: where they ask for nothing, a training is the one it was before."""
MEMORY_GB = 4.0
"""``data.memory_gb`` of earlier releases, where a recipe did not say it."""


def fingerprint(
    role: str,
    network: Network,
    train: Train,
    method: Mapping[str, Any],
    data: Data,
    splits: Splits,
    teacher: Backbone | None,
    peer: Network,
) -> str:
    """Hash of all that decides the weights.

    Of weights to start from it is their content; of images, which may be many, names and classes.
    """
    given = role, network, train, method, data, teacher, peer
    return _hash({**_content_of(*given), "images": _images(splits)})


def earlier(
    role: str,
    network: Network,
    train: Train,
    method: Mapping[str, Any],
    data: Data,
    splits: Splits,
    teacher: Backbone | None,
    peer: Network,
) -> Iterator[str]:
    """The hashes that earlier releases gave this very training, the latest first.

    They named each image, and the first of them knew no peers; and unless a recipe said otherwise,
    more of the memory was theirs to take.
    """
    names = _listed(splits)
    shares = {data.memory_gb: data}
    if data.memory_gb == Data.memory_gb:
        shares[MEMORY_GB] = replace(data, memory_gb=MEMORY_GB)
    for shared in shares.values():
        content = _content_of(role, network, train, method, shared, teacher, peer)
        yield _hash({**content, "images": _images(splits)})
        yield _hash({**content, "images": [splits.labels, *names]})
        if peer == Network(""):
            del content["peer"]
            targets, images = names
            listed = {"labels": splits.labels, "targets": targets, "images": images}
            yield _hash({**content, **listed})


def teachings(
    teacher: Backbone, student: Backbone, train: Train, data: Data, loader: Loader
) -> str:
    """Hash of all that decides what a teacher shows while a student trains: the pixels, too.

    Of the student it is no more than how its batches are made.
    """
    drawn = [train.batch_size, train.seed, resolve(train.precision)]
    content = {
        "teacher": (teacher.name, hash_of(teacher.model), teacher.preprocess.to_dict()),
        "shown": student.preprocess.to_dict(),
        "drawn": drawn,
        "data": _deciding(asdict(data)),
        "images": [loader.digest(), hashlib.sha256(loader.targets.numpy().data).hexdigest()],
    }
    return _hash(content)


def answers(
    teacher: Backbone, student: Backbone, train: Train, data: Data, augment: str, loader: Loader
) -> str:
    """Hash of all that decides what a teacher says to the view that a key stands for.

    Not of batches, seeds and epochs: answers to a view do not depend on when it is shown. But of
    the machine, whose rounding they have.
    """
    order = data.order_of(train.seed) if data.teacher_views else None
    content = {
        "version": memo.VERSION,
        "teacher": (teacher.name, hash_of(teacher.model), teacher.preprocess.to_dict()),
        "shown": student.preprocess.to_dict(),
        "precision": [resolve(train.precision), train.compile, *_machine()],
        "prepared": {package: version(package) for package in PREPARING},
        "views": [augment, loader.views, data.teacher_views, order],
        "images": [type(loader).__name__, loader.digest(), len(loader.targets)],
    }
    return _hash(content)


def hash_of(model: nn.Module) -> str:
    """Hash of a network's parameters and buffers, by name and value."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _machine() -> list[Any]:
    """What decides how numbers are rounded here."""
    if has_gpu():
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return [torch.__version__, torch.cuda.get_device_name(), *flags]
    capability = torch.backends.cpu.get_cpu_capability()
    return [torch.__version__, cpu_model(), capability, torch.get_num_threads()]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _named(network: Network) -> list[Any]:
    return [network.name, _content(network.weights)]


def _content_of(
    role: str,
    network: Network,
    train: Train,
    method: Mapping[str, Any],
    data: Data,
    teacher: Backbone | None,
    peer: Network,
) -> dict[str, Any]:
    """What decides the weights, but for the images."""
    return {
        "role": role,
        "network": _named(network),
        "peer": _named(peer),
        "train": _deciding(asdict(train)),
        "method": {term: dict(table) for term, table in method.items()},
        "data": _deciding(asdict(data)),
        "teacher": None if teacher is None else (teacher.name, hash_of(teacher.model)),
    }


def _listed(splits: Splits) -> list[Any]:
    """Class, and name, of every image of every split."""
    held = (splits.train, splits.validation, splits.test)
    targets = [split.targets.tolist() for split in held]
    return [targets, [[split.name(i) for i in range(len(split))] for split in held]]


def _images(splits: Splits) -> list[Any]:
    """Class names, and a hash of class and name of every image of every split."""
    held = (splits.train, splits.validation, splits.test)
    return [splits.labels, *(split.digest() for split in held)]


def _content(weights: str) -> list[str]:
    """The hashes of the files that are meant, or the words where they mean no file."""
    place = place_of(weights) if weights else None
    if place is None or not place.exists():
        return [weights]
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    return [sha256(file) for file in files]


def _deciding(table: Mapping[str, Any]) -> dict[str, Any]:
    decides = table.keys() - CARELESS
    return {k: v for k, v in table.items() if k in decides and (k, v) not in UNSET.items()}
