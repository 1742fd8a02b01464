"""Examine a device: what it has, how it does, what of that is in the way, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgekd.agent.throttling import throttling
from edgekd.boards import Board, Connect, has_board, read_board
from edgekd.boards.kinds import kind_of
from edgekd.devices import device_at, reach
from edgekd.errors import DeviceError
from edgekd.flow.boarding import look_at, names_of, packages, split
from edgekd.flow.checkup import Check

NEEDED_BYTES = 100e6  # the agent, a model and images
RUNTIMES = {"ort": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
JETPACK = "It comes with JetPack, not from pip: sudo apt install python3-libnvinfer libnvinfer-bin"
OTHERS = ("openvino", "tensorrt", "pillow")
"""Packages that some measurements need, and most do not."""


@dataclass(frozen=True)
class Examined:
    """What was found."""

    name: str
    board: Board
    checks: Sequence[Check]
    survey: Mapping[str, Any] = field(default_factory=dict)
    """As the agent said it; empty where it could not be asked."""

    @property
    def ok(self) -> bool:
        """Whether something can be measured there."""
        return all(check.ok or check.optional for check in self.checks)

    @property
    def lacking(self) -> bool:
        """Whether a virtual environment would mend what is in the way."""
        bad = {check.name for check in self.checks if not check.ok and not check.optional}
        return bool(bad & {"numpy", "runtime"})


def examine(name: str, python: str = "") -> Examined:
    """Look at a device; nothing there is changed.

    Args:
        name: one of the user's own, or an address.
        python: the Python to look at, where it is not the device's own.

    Raises:
        UnknownNameError: it is neither.
        UsageError: the address or the profile cannot be read.
    """
    other = replace(split(Connect(name)), python=python) if python else None
    device = reach(name) if other is None else device_at(other, name)
    board = read_board(name) if has_board(name) else Board(name)
    try:
        survey = look_at(device)
    except DeviceError as error:
        return Examined(name, board, [Check("connection", "none", False, False, str(error))])
    kind = None if board.title else kind_of(names_of(survey))
    board = board if kind is None else read_board(kind)
    return Examined(name, board, list(_checks(board, survey)), survey)


def _checks(board: Board, survey: Mapping[str, Any]) -> Iterable[Check]:
    device = survey["device"]
    memory, free = device["ram_bytes"], survey["moment"]["free_bytes"]
    yield Check("device", device["soc"] or "a machine that does not say what it is")
    yield Check("profile", _profile(board))
    yield Check("CPU", f"{device['cpu']}, {device['machine']}")
    yield Check("cores", cores(device))
    yield Check("memory", f"{_gb(memory)}, {_gb(free)} of it free")
    yield Check("system", f"{device['os']}, kernel {device['kernel']}")
    if device["power_mode"]:
        yield Check("power mode", device["power_mode"])
    python = f"{survey['python']} of {survey['bits']} bits at {survey['executable']}"
    yield Check("python", python)
    yield _package("numpy", survey)
    yield _runtime(board, survey)
    yield from (_package(name, survey, optional=True) for name in _others(board, survey))
    yield _disk(survey)
    yield from _state(board, survey)
    yield from _traps(board, survey)


def cores(device: Mapping[str, Any]) -> str:
    """How many there are, and of which kinds: the weakest first, each with its numbers."""
    groups = device.get("clusters") or ()
    if len(groups) < 2:
        most = max(device["core_max_khz"] or [0])
        return f"{device['physical_cores']}{f', up to {most / 1e6:.2f} GHz' if most else ''}"
    return "; ".join(
        f"{len(group['cpus'])} x {group['part'] or 'core'} ({_ranges(group['cpus'])}"
        f"{', {:.2f} GHz'.format(group['max_khz'] / 1e6) if group['max_khz'] else ''})"
        for group in groups
    )


def _profile(board: Board) -> str:
    if not board.title:
        return "none that fits; what it is asked decides"
    said = "" if board.measured else ", not measured by edgekd's authors"
    return f"{board.based_on or board.name}: {board.title}{said}"


def _package(name: str, survey: Mapping[str, Any], *, optional: bool = False) -> Check:
    found = survey["packages"][name]
    version, error = found["version"] or "none", found["error"] or ""
    return Check(name, version, not error, optional, error)


def _runtime(board: Board, survey: Mapping[str, Any]) -> Check:
    """The one that the profile measures with."""
    if board.runtime == "trt" and survey["trtexec"]:
        return Check("runtime", f"trtexec at {survey['trtexec']}")
    wanted = RUNTIMES.get(board.runtime, ("tensorrt",))
    found = {name: survey["packages"][name] for name in wanted}
    working = [name for name, one in found.items() if one["version"] and not one["error"]]
    if working:
        one = found[working[0]]
        said = f" ({', '.join(one['providers'])})" if one["providers"] else ""
        return Check("runtime", f"{working[0]} {one['version']}{said}")
    there = next((name for name in wanted if found[name]["version"]), wanted[0])
    version, error = found[there]["version"], found[there]["error"] or ""
    said = f"{there} {version}, which does not work" if version else f"no {there}"
    advice = JETPACK if there == "tensorrt" and not version else error
    return Check("runtime", said, False, False, advice)


def _others(board: Board, survey: Mapping[str, Any]) -> Iterable[str]:
    used = RUNTIMES.get(board.runtime, ("tensorrt",))
    for name in OTHERS:
        if name not in used and (survey["packages"][name]["version"] or name == "pillow"):
            yield name


def _disk(survey: Mapping[str, Any]) -> Check:
    free = survey["disk_free_bytes"]
    found = f"{_gb(free)} free"
    if not survey["writable"]:
        advice = "Give a folder that can be written: edgekd device add ... --folder DIR --replace"
        return Check("disk", f"{found}, but read-only", False, False, advice)
    advice = "Free some space there, or: edgekd device remove NAME --clean"
    return Check("disk", found, free is None or free > NEEDED_BYTES, False, advice)


def _state(board: Board, survey: Mapping[str, Any]) -> Iterable[Check]:
    """How it does at this moment: none of it keeps anybody from measuring."""
    device, now = survey["device"], survey["moment"]
    governor = device["governor"]
    if governor:
        fixed = governor == "performance"
        yield Check("governor", governor, fixed, True, "edgekd profile --lock-clocks fixes it.")
    degrees = now["temperature_c"] or {}
    if degrees:
        zone = max(degrees, key=lambda name: degrees[name])
        limit = board.limits.throttles_at_c
        said = f", slows down at {limit:g}" if limit else ""
        cool = not limit or degrees[zone] < limit - 5
        hot = "Let it cool down before measuring."
        yield Check("temperature", f"{degrees[zone]:.0f} C ({zone}){said}", cool, True, hot)
    slowed = throttling([now])
    yield Check("throttling", "; ".join(slowed) or "none now", not slowed, True, _POWER)
    known = [text for text in survey["warnings"] if text not in slowed and "governor" not in text]
    yield from (Check("notice", text, False, True) for text in known)
    yield from _meters(survey)
    lock = survey["lock"]
    yield Check(
        "in use", lock or "by nobody", not lock, True, "edgekd profile --wait waits for it."
    )


def _meters(survey: Mapping[str, Any]) -> Iterable[Check]:
    meters = "; ".join(f"{one['name']} ({one['scope']})" for one in survey["meters"])
    yield Check("meters", meters or "none: energy is n/a", bool(meters), True)


_POWER = "See to its power supply and its cooling."


def _traps(board: Board, survey: Mapping[str, Any]) -> Iterable[Check]:
    found = {**packages(survey), "python": survey["python"], "bits": str(survey["bits"])}
    for trap in board.traps:
        if trap.applies(found):
            yield Check("trap", trap.text, False, True, f"Source: {trap.source}")


def _gb(count: float | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def _ranges(numbers: Sequence[int]) -> str:
    """CPUs as ``--affinity`` takes them: ``0-3,6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
