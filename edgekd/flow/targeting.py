"""Which device a file is written for, and what that device takes."""

from __future__ import annotations

from dataclasses import replace

from edgekd.agent import facts
from edgekd.boards import Board, board_names, has_board, read_board
from edgekd.devices import describe, reach
from edgekd.errors import UnknownNameError, UsageError
from edgekd.targets import Target, flavour_of


def target_of(device: str, to: str = "onnx") -> Target:
    """What a device takes: as its profile says, else as the device itself does.

    Args:
        device: name of a profile, or how to reach it: ``local``, ``ssh://user@host``.
        to: name of the format.

    Raises:
        UnknownNameError: neither a profile nor a device.
        DeviceError: it could not be asked.
    """
    board = read_board(device) if has_board(device) else None
    if board is not None and _described(board):
        return board.export
    try:
        found = facts.describe() if device == "local" else describe(reach(device))
    except UnknownNameError as error:
        raise UnknownNameError("device", device, [*board_names(), *DEVICES]) from error
    flavour = flavour_of(str(found["machine"]), found.get("cpu_flags") or ())
    target = Target(name=device if board is None else board.name, flavour=flavour)
    return replace(target, runtime="trt", precisions=TENSORRT) if to == "tensorrt" else target


def _described(board: Board) -> bool:
    """Whether a profile says what the device takes; one of no kind is asked as any address is."""
    return not board.connect.address or bool(board.based_on) or board.export != Target(board.name)


TENSORRT = ("fp32", "fp16", "int8")
DEVICES = ("local", "ssh://user@host", "user@host", "a Host of ~/.ssh/config")


def check_reachable(device: str) -> None:
    """Refuse a kind of board where a machine is needed, to time files or to build engines on.

    Raises:
        UsageError: it is a profile's name, and nothing says where such a board is.
    """
    if has_board(device) and not read_board(device).connect.address:
        raise UsageError(
            f"{device} is a kind of board: it says which file is written, not where a board is. "
            "Timing (--precision auto) and engines (--trt) need the board itself: add yours "
            f"(edgekd device add NAME user@host --profile {device}), or give --device "
            "ssh://user@host."
        )
