"""What can go wrong, as the user meets it.

    EdgeKDError             exit code 1: a gate or a check failed
    |- UsageError           exit code 2: the command, the recipe or the input is wrong
    |  |- RecipeError       a recipe or an override cannot be read
    |  |- UnknownNameError  a method, model, data set ... there is not
    |  `- DataError         images or labels that cannot be used
    |- WeightsError         exit code 2: weights that do not fit, or are not safe to load
    |- ArtifactError        a folder that is not whole, or not what its manifest says
    |  `- NoArtifactError   exit code 2: there is none where one was expected
    |- GateError            a proof failed: parity, chance-level teacher
    |  `- AccuracyError     a reduced precision loses more than it may
    |- DivergedError        training reached NaN or infinity
    |- CrewError            a process that decodes images is gone
    |- ShortageError        memory ran out on this machine
    `- DeviceError          a device or a runtime on it refused, with the reason
       `- LinkError         the way to it was lost; what runs there may go on

Every message says what was found, what was expected and what to do.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self


class EdgeKDError(Exception):
    """Anything edgekd refuses to do; its text is for the user."""

    exit_code = 1


class UsageError(EdgeKDError):
    """The command line, the recipe or an input file is wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, or an override of it, cannot be read; ``key`` is the dotted key at fault."""

    def __init__(self, message: str, key: str = "") -> None:
        self.key = key
        super().__init__(message)


class DataError(UsageError):
    """Images or labels that cannot be used."""


class WeightsError(UsageError):
    """Weights that do not fit the network, or are not safe to load."""


class ArtifactError(EdgeKDError):
    """A folder that is not complete, or not what its manifest says."""


class NoArtifactError(ArtifactError):
    """Another path was meant: there is nothing, or something else."""

    exit_code = 2


class GateError(EdgeKDError):
    """A proof failed: the result is not good enough to go on with.

    Args:
        message: for the user.
        explanation: where the error begins, as a table, where that is known.
    """

    def __init__(self, message: str, explanation: Mapping[str, Any] | None = None) -> None:
        self.explanation = explanation
        self.bare, self.kept = message, ""
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.bare} {self.kept}".strip()

    def told(self, message: str, explanation: Mapping[str, Any] | None = None) -> Self:
        """The same refusal in other words."""
        again = copy.copy(self)
        again.bare = message
        again.explanation = explanation or self.explanation
        return again

    def keeping(self, where: str) -> Self:
        """The same refusal, and a sentence on the file that is kept to look into."""
        again = copy.copy(self)
        again.kept = where
        return again


class AccuracyError(GateError):
    """A reduced precision loses more accuracy than it may.

    Args:
        message: for the user.
        explanation: where the error begins.
        attempts: what was tried on the images that judge, as the manifest would hold it.
    """

    def __init__(
        self,
        message: str,
        explanation: Mapping[str, Any] | None = None,
        attempts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.attempts = tuple(attempts)
        super().__init__(message, explanation)


class DivergedError(EdgeKDError):
    """Training reached NaN or infinity.

    Args:
        what: did, and when.
        advice: what to do about it, where the network is trained by itself.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        self.what, self.advice = what, advice
        super().__init__(f"{what} {advice}".strip())


class CrewError(EdgeKDError):
    """A process that decodes images is gone."""


class ShortageError(EdgeKDError):
    """Memory ran out on this machine."""


class DeviceError(EdgeKDError):
    """A device, or a runtime on it, refused."""


class LinkError(DeviceError):
    """The way to a device was lost; what was started there may be running still.

    Args:
        message: for the user.
        beyond: whether the way seems to be there, and it is the program at its end that was ended
            by a signal or says nothing.
    """

    def __init__(self, message: str, *, beyond: bool = False) -> None:
        self.beyond = beyond
        super().__init__(message)


class UnknownNameError(UsageError):
    """A name that is not on its shelf; the message lists the nearest ones.

    Args:
        kind: what was asked for, such as ``method``.
        name: the name that was not found.
        known: the names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"there is no {kind} {name!r}.{hint(name, known)}")


def reason(error: Exception) -> str:
    """Why, without the system's number for it and the path, which a message names itself."""
    return str((isinstance(error, OSError) and error.strerror) or error)


def hint(name: str, known: Iterable[str], limit: int = 12) -> str:
    """`` Did you mean ...?`` for a near miss, else the names there are (at most ``limit``)."""
    names = [one for one in known if one != name]  # that one is there, and is no such thing
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f" Did you mean {' or '.join(near)}?"
    more = f" ... ({len(names)} in all)" if len(names) > limit else ""
    return f" There are: {', '.join(names[:limit])}{more}." if names else ""
