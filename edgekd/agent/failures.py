"""What goes wrong on a device, turned into sentences: found, expected, what to do."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Optional

from edgekd.agent import causes, releases

NUMPYS = re.compile(r"^numpy[\w.]*Error: (?=Unable to allocate)")
"""What Python puts before a reason of numpy's."""


class AgentError(Exception):
    """Something the person at the other end has to know.

    Args:
        kind: one word for programs: ``job``, ``module``, ``library``, ``model``, ``provider``,
            ``gpu``, ``precision``, ``input``, ``output``, ``crash``, ``memory``, ``disk``,
            ``architecture``, ``meter``, ``clocks``, ``internal``.
        message: a sentence for people.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True)
class Crash:
    """How a child process ended."""

    code: int
    """As ``subprocess`` reports it: negative for a signal; a shell's 128 + signal is read too."""
    stderr: str
    model: str
    runtime: str
    cpu: str = "this CPU"
    free_bytes: Optional[int] = None


def explain(crash: Crash) -> AgentError:
    """Say what an exit code means and what can be done about it."""
    imported = explain_import(crash.stderr)
    if imported is not None:
        return imported
    number = -crash.code if crash.code < 0 else crash.code - 128
    said = _tail(crash.stderr)
    who = f"{crash.runtime} with {crash.model}"
    lacking = causes.of_system(crash.stderr)
    if lacking is not None:
        return AgentError(lacking.kind, f"{who}: {lacking.sentence} {said}")
    if number in _SIGNALS:
        kind, sentence = _SIGNALS[number]
        release = releases.executable(crash.runtime, crash.cpu)
        text = sentence.format(who=who, cpu=crash.cpu, free=_free(crash), release=release)
        return AgentError(kind, f"{text} {said}".strip())
    if number > 0:
        return AgentError("crash", f"{who} was ended by signal {number}. {said}".strip())
    return AgentError("crash", f"{who} ended with exit code {crash.code}. {said}".strip())


def explain_import(text: str) -> Optional[AgentError]:
    """The sentence for a module or a library that is missing or does not fit; None if none is."""
    cause = causes.of_import(text)
    return None if cause is None else AgentError(*cause)


def explain_text(text: str) -> Optional[AgentError]:
    """As :func:`explain_import`, for what any program said: a full disk and memory as well."""
    cause = causes.of_import(text) or causes.of_system(text)
    return None if cause is None else AgentError(*cause)


def _tail(stderr: str, lines: int = 5) -> str:
    told = (NUMPYS.sub("", line) for line in without_traces(stderr).splitlines())
    kept = [line for line in told if line.strip()][-lines:]
    return "It said: " + " / ".join(kept) if kept else ""


def without_traces(text: str) -> str:
    """What a program said, but for the lines of sources that Python lists before an exception."""
    kept, within = [], False
    for line in text.strip("\n").splitlines():
        within = line.startswith(_TRACES) or (within and line.startswith(" "))
        if not within:
            kept.append(line)
    return "\n".join(kept).strip()


def _free(crash: Crash) -> str:
    return (
        "an unknown amount" if crash.free_bytes is None else f"{crash.free_bytes / 2**20:.0f} MiB"
    )


_TRACES = ("Traceback (most recent call last):", '  File "')


def _number(name: str) -> int:
    """A signal's number; systems without that signal never report it."""
    return int(getattr(signal, name, 0))


_SIGNALS = {
    _number("SIGILL"): (
        "crash",
        "{who} stopped on an illegal instruction (SIGILL): this build does not run on {cpu}, "
        "because it uses CPU instructions that one lacks. {release}",
    ),
    _number("SIGSEGV"): (
        "crash",
        "{who} crashed (SIGSEGV, memory access outside its own) on {cpu}. Another release of the "
        "runtime or another provider may work; the model itself is rarely the cause.",
    ),
    _number("SIGKILL"): (
        "memory",
        "{who} was killed (SIGKILL), most likely because the device ran out of memory: {free} was "
        "free before. Use a smaller batch, a smaller or int8 model, or stop other programs.",
    ),
    _number("SIGBUS"): (
        "crash",
        "{who} stopped on a bus error (SIGBUS): a file changed or was cut short while it was read, "
        "or the disk or memory is full ({free} free before). Check the disk space of the device.",
    ),
    _number("SIGABRT"): (
        "crash",
        "{who} gave up (SIGABRT), as programs do when an allocation fails or a check inside them "
        "does; {free} of memory was free before. Try a smaller batch or another release.",
    ),
    _number("SIGTERM"): (
        "crash",
        "{who} was told to stop (SIGTERM) by another program on the device. Run it again.",
    ),
}
