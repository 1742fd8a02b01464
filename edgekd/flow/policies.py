"""Policies: how a device is measured, by what was said and what is known of the board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgekd.boards import defaults_of
from edgekd.profiling import Policy

OF_A_RUNTIME = ("provider", "spinning")
"""Knobs of a board's own runtime, which mean nothing to another one."""


def policy_for(device: str, said: Mapping[str, Any]) -> Policy:
    """How to measure on a device.

    Args:
        device: its name; where it is that of a profile, the profile's ``[measure]`` fills in.
        said: fields of the policy that a person decided, which come first.

    Raises:
        UsageError: a field that cannot be, or a knob that the runtime does not have.
        RecipeError: the profile cannot be read.
    """
    known = asdict(defaults_of(device))
    if said.get("runtime", known["runtime"]) != known["runtime"]:
        known = {name: value for name, value in known.items() if name not in OF_A_RUNTIME}
    filled = {name: value for name, value in known.items() if value}  # 0 and "" say nothing
    return Policy(**{**filled, **said})
