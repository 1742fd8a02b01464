"""Furnish a device: a virtual environment with the runtime, on a device without internet."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekd.boards import Connect, read_board
from edgekd.devices import AGENT, Device, address, reach, ship
from edgekd.errors import UsageError
from edgekd.flow import wheels
from edgekd.flow.boarding import split
from edgekd.flow.examining import Examined, examine
from edgekd.flow.roster import furnished, is_own
from edgekd.flow.wheels import There
from edgekd.scratch import temporary
from edgekd.watching import Silent, Watch

IMPORTS = ("numpy", "onnxruntime")
MAKING_S = 1800.0  # unpacking 150 MB onto an SD card, and an import of minutes


@dataclass(frozen=True)
class Equipped:
    """A device with an environment, looked at again."""

    examined: Examined
    words: str
    """What was made, and how it is used from now on."""


@dataclass(frozen=True)
class Furnished:
    """The environment that is there now."""

    python: str
    """The path of its Python on the device."""
    versions: dict[str, str]
    """What was imported in it."""


def equip(found: Examined, watch: Watch | None = None) -> Equipped:
    """Furnish a device that was examined, and use the environment from now on.

    Raises:
        UsageError: it is this machine, whose Python is edgekd's own.
        DeviceError: as :func:`furnish`.
    """
    name = found.name
    own = is_own(name)
    connect = read_board(name).connect if own else split(Connect(name))
    if connect.address == "local" and not connect.folder:
        raise UsageError(
            "this machine is measured with edgekd's own Python, and needs no environment. Install "
            f"what it lacks there: {sys.executable} -m pip install numpy onnxruntime"
        )
    tensorrt = found.board.runtime == "trt"
    made = furnish(reach(name), found.survey, tensorrt=tensorrt, watch=watch)
    has = ", ".join(f"{package} {version}" for package, version in made.versions.items())
    if own:
        furnished(name, made.python)
        return Equipped(examine(name), f"{made.python} has {has}; {name} uses it from now on.")
    use = f"edgekd device add NAME {connect.address} --python {made.python}"
    return Equipped(examine(name, made.python), f"{made.python} has {has}. To use it: {use}")


def furnish(
    device: Device,
    survey: Mapping[str, Any],
    *,
    tensorrt: bool = False,
    watch: Watch | None = None,
) -> Furnished:
    """Make a virtual environment with numpy, ONNX Runtime and Pillow in the device's folder.

    The wheels are fetched here, and sent once; the device needs no internet and no pip. An
    environment that is there already and works is taken as it is.

    Args:
        device: where.
        survey: what the agent saw there.
        tensorrt: whether it has to see the system's own packages, as TensorRT is one of JetPack's.
        watch: told what happens.

    Raises:
        DeviceError: the device cannot be reached, has no room or cannot run what is made for it.
        UsageError: the wheels could not be fetched here.
    """
    watch, there = watch or Silent(), There.of(survey)
    with temporary() as folder:
        watch.say(f"fetching packages for Python {there.python} on {there.machine}")
        files = wheels.download(there, folder, tensorrt=tensorrt)
        places = {address(file): file for file in files}
        watch.say(f"sending {', '.join(file.name.split('-')[0] for file in files)}")
        plan = {
            "wheels": list(places),
            "name": _name(there, places, tensorrt=tensorrt),
            "system": tensorrt,
            "imports": [*IMPORTS, *(["tensorrt"] if tensorrt and _bound(survey) else [])],
        }
        job = {"agent": AGENT, "task": "furnish", "furnish": plan}
        found = ship(device, job, places, MAKING_S)
    return Furnished(str(found["python"]), dict(found["versions"]))


def _bound(survey: Mapping[str, Any]) -> bool:
    """Whether TensorRT's Python bindings are there, so that the environment has to see them."""
    return bool(survey["packages"]["tensorrt"]["version"])


def _name(there: There, places: Iterable[str], *, tensorrt: bool) -> str:
    """The same for the same packages: what is there is found again."""
    key = repr((sorted(asdict(there).items()), sorted(places), tensorrt))
    return f"venv-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
