"""Which device a file is written for, and what that device takes."""

from __future__ import annotations

from dataclasses import replace

from edgekd.agent import facts
from edgekd.devices import describe, reach
from edgekd.errors import UnknownNameError, UsageError
from edgekd.profiles import find_profile, profile_folders
from edgekd.targets import Target, flavour_of, read_target


def target_of(device: str, to: str = "onnx") -> Target:
    """What a device takes: as its profile says, else as the device itself does.

    Args:
        device: name of a profile, or how to reach it: ``local``, ``ssh://user@host``.
        to: name of the format.

    Raises:
        UnknownNameError: neither a profile nor a device.
        DeviceError: it could not be asked.
    """
    if _has_profile(device):
        return read_target(device)
    try:
        found = facts.describe() if device == "local" else describe(reach(device))
    except UnknownNameError as error:
        raise UnknownNameError("device", device, [*_profiles(), *DEVICES]) from error
    flavour = flavour_of(str(found["machine"]), found.get("cpu_flags") or ())
    target = Target(name=device, flavour=flavour)
    return replace(target, runtime="trt", precisions=TENSORRT) if to == "tensorrt" else target


TENSORRT = ("fp32", "fp16", "int8")
DEVICES = ("local", "ssh://user@host", "user@host", "a Host of ~/.ssh/config")


def _has_profile(device: str) -> bool:
    try:
        return find_profile("devices", device).is_file()
    except UnknownNameError:
        return False


def check_reachable(device: str) -> None:
    """Refuse a profile where a machine is needed, to time files or to build engines on.

    Raises:
        UsageError: it is a profile's name.
    """
    if _has_profile(device):
        raise UsageError(
            f"{device} is a profile: it says which file is written, not where a board is. Timing "
            "(--precision auto) and engines (--trt) need the board itself, such as "
            "--device ssh://user@host."
        )


def _profiles() -> list[str]:
    return sorted({f.stem for folder in profile_folders("devices") for f in folder.glob("*.toml")})
