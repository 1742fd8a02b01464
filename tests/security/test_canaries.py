"""Files that would run code where they are unpickled, given to all that reads files: none runs it.

Each leaves a canary, a file, where it is run; that they do is tried with what is not edgekd's.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.agent.accuracy import read_array
from edgekd.agent.failures import AgentError
from edgekd.artifact import Artifact
from edgekd.errors import EdgeKDError, WeightsError
from edgekd.models import weights, zoo
from edgekd.profiling import _array
from edgekd.trainer import checkpoint

PAYLOAD = Path(weights.__file__).parents[1] / "deploy" / "payload" / "pictures.py"
REFUSALS = (EdgeKDError, AgentError, ValueError)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def zipped(canary: Canary) -> bytes:
    held = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.ones(2), "more": canary}}, held)
    return held.getvalue()


def before_zips(canary: Canary) -> bytes:
    held = io.BytesIO()
    torch.save([canary], held, _use_new_zipfile_serialization=False)
    return held.getvalue()


def in_a_tar(canary: Canary) -> bytes:
    """As PyTorch wrote before 0.1.10: a tar of pickles."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("pickle", "storages", "tensors"):
            content = pickle.dumps(canary, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def as_an_array(canary: Canary) -> bytes:
    held = io.BytesIO()
    np.save(held, np.array([canary], object), allow_pickle=True)
    return held.getvalue()


def among_arrays(canary: Canary) -> bytes:
    held = io.BytesIO()
    np.savez(held, images=np.array([canary], object))
    return held.getvalue()


GADGETS: dict[str, Callable[[Canary], bytes]] = {
    "zip": zipped,
    "before zips": before_zips,
    "tar": in_a_tar,
    "array": as_an_array,
    "arrays": among_arrays,
    **{f"pickle {protocol}": partial(pickle.dumps, protocol=protocol) for protocol in range(6)},
}


def _weights(suffix: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        file = folder / f"w{suffix}"
        file.write_bytes(content)
        weights.read(file)

    return read


def _checkpoint(content: bytes, folder: Path) -> None:
    (folder / checkpoint.NAME).write_bytes(content)
    checkpoint.load(folder / checkpoint.NAME, "fingerprint")


def _array_here(content: bytes, folder: Path) -> None:
    (folder / "images.npy").write_bytes(content)
    _array(folder / "images.npy")
    raise ValueError("read, and nothing ran")  # an array of what is no object is an array


def _array_there(content: bytes, folder: Path) -> None:
    (folder / "images.npy").write_bytes(content)
    read_array(folder / "images.npy")
    raise ValueError("read, and nothing ran")


def _picture(content: bytes, folder: Path) -> None:
    """What a deployed folder is given to classify."""
    (folder / "picture.npy").write_bytes(content)
    program = run_path(str(PAYLOAD))
    try:
        program["_read"](folder / "picture.npy", (8, 8))
    except program["UnreadableError"] as error:
        raise ValueError(str(error)) from error


def _hub_folder(content: bytes, folder: Path) -> None:
    """Weights in a folder as hubs have them, which timm reads."""
    (folder / "config.json").write_text('{"architecture": "resnet18", "num_classes": 10}')
    (folder / "pytorch_model.bin").write_bytes(content)
    zoo.create(f"local-dir:{folder}", 10)


READERS: dict[str, Callable[[bytes, Path], None]] = {
    **{f"weights {suffix}": _weights(suffix) for suffix in (".pth", ".safetensors", ".npz")},
    "checkpoint": _checkpoint,
    "array": _array_here,
    "array on a device": _array_there,
    "picture": _picture,
    "hub's folder": _hub_folder,
}


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_it(reader: str, gadget: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    folder = tmp_path / "given"
    folder.mkdir()
    content = GADGETS[gadget](Canary(mark))
    with pytest.raises(REFUSALS):
        READERS[reader](content, folder)
    assert not mark.exists()


@pytest.mark.parametrize("gadget", ["zip", "before zips", "array", "pickle 0", "pickle 5"])
def test_each_would_run(gadget: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "w.pth"
    file.write_bytes(GADGETS[gadget](Canary(mark)))
    if gadget == "array":
        np.load(file, allow_pickle=True)
    elif gadget.startswith("pickle"):
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert mark.is_dir()


def test_a_trained_network_with_its_weights_swapped_is_refused(teacher: Path) -> None:
    mark = teacher / "ran"
    (teacher / "model.safetensors").write_bytes(zipped(Canary(mark)))
    with pytest.raises(EdgeKDError, match="was changed after it was made"):
        Artifact.open(teacher)
    assert not mark.exists()


def test_what_a_library_keeps_of_a_download_is_read_as_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the cache of torchvision's it would unpickle, whoever wrote that."""
    from torchvision.models import ResNet18_Weights

    mark, kept = tmp_path / "ran", tmp_path / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    name = ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (kept / name).write_bytes(zipped(Canary(mark)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="cannot load the published weights"):
        zoo.create("torchvision/resnet18", 0, tag="IMAGENET1K_V1")
    assert not mark.exists()
    torch.hub.load_state_dict_from_url(ResNet18_Weights.IMAGENET1K_V1.url)  # what would have been
    assert mark.exists()
