"""The policy of a measurement: how to measure, every field of it in the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekd import plugins
from edgekd.boards import AFFINITY
from edgekd.errors import UnknownNameError, UsageError
from edgekd.sections import MOST_PIXELS

CLOCKS = ("inference", "end_to_end", "compute")
AT_LEAST_1 = ("batch_size", "blocks", "block_runs")
AT_MOST = {"threads": 1024, "batch_size": 65536}
"""More runs nowhere, and takes a machine's memory."""
NEVER_BELOW_0 = ("threads", "min_seconds", "seed", "sustained_s", "wait_s", "idle_s")
ALWAYS_ABOVE_0 = ("max_seconds", "timeout_s", "sustained_row_s", "energy_s")
PROVIDERS = {"ort": "CPUExecutionProvider", "openvino": "CPU", "trt": "GPU"}


@dataclass(frozen=True)
class Policy:
    """How to measure; every field is in the record."""

    batch_size: int = 1
    threads: int = 0
    """0: as many as the device has physical cores."""
    spinning: bool = False
    """Whether idle threads burn the CPU to wake up sooner."""
    provider: str = ""
    """Of ONNX Runtime, which has several; empty is the runtime's own (ONNX Runtime's CPU)."""
    runtime: str = "ort"
    input: str = "photos"
    """``photos`` (the caller's images where given), or ``random`` for whatever a model takes."""
    image_size: tuple[int, int] | None = None
    """Height and width, for models that leave them free."""
    warmup_runs: int = 10
    warmup_seconds: float = 1.0
    blocks: int = 5
    block_runs: int = 30
    block_seconds: float = 0.3
    """At least so long a block takes, and so many runs it has."""
    min_seconds: float = 3.0
    max_seconds: float = 30.0
    """After these a measurement ends, known well enough or not."""
    clock: str = "inference"
    """``inference`` (host memory in, host memory out), ``end_to_end`` (encoded image in, class out:
    decode, resize, inference, arg max) or ``compute`` (the device's own events; TensorRT only)."""
    affinity: str = ""
    """CPUs such as ``4-7``, ``big`` or ``little``; empty leaves it to the system."""
    sweep: bool = False
    """Whether to try threads and spinning as well, each pair in a process of its own."""
    sustained_s: float = 0.0
    """Go on for so long after the timing, a row for every :attr:`sustained_row_s`."""
    sustained_row_s: float = 60.0
    energy: bool = False
    """Whether to read the board's meter as well, in a loop of its own."""
    energy_s: float = 30.0
    idle_s: float = 10.0
    """How long the idle board is metered beforehand."""
    lock_clocks: bool = False
    """Whether to fix the device's clocks meanwhile; the only setting that is ever changed."""
    wait_s: float = 0.0
    """How long to wait for a device that somebody else is using."""
    layers: bool = False
    """Whether to run the runtime's own profiler as well, apart from the timing."""
    seed: int = 0
    timeout_s: float = 3600.0
    """For the whole job, accuracy included; see :meth:`limit_s`."""

    def __post_init__(self) -> None:
        self._settle_runtime()
        if self.input not in ("photos", "random"):
            raise UsageError(f"the input is {self.input!r}; expected photos or random.")
        self._check_clock()
        if AFFINITY.fullmatch(self.affinity) is None:
            raise UsageError(
                f"the affinity is {self.affinity!r}; expected CPUs (4-7 or 0,2), big or little."
            )
        if not all(1 <= side <= MOST_PIXELS for side in self.image_size or ()):
            expected = f"height and width, 1 to {MOST_PIXELS:,}"
            raise UsageError(f"the image size is {self.image_size}; expected {expected}.")
        low = [(name, "at least 1") for name in AT_LEAST_1 if getattr(self, name) < 1]
        low += [(name, "at least 0") for name in NEVER_BELOW_0 if getattr(self, name) < 0]
        low += [(n, f"at most {most:,}") for n, most in AT_MOST.items() if getattr(self, n) > most]
        times = [name for name in ALWAYS_ABOVE_0 if not math.isfinite(getattr(self, name))]
        low += [(name, "a number") for name in times]
        low += [(name, "more than 0") for name in ALWAYS_ABOVE_0 if getattr(self, name) <= 0]
        for name, expected in low:
            raise UsageError(f"{name} is {getattr(self, name)}; expected {expected}.")

    def limit_s(self, models: int) -> float:
        """Seconds a job of so many models may take, once it is its turn."""
        metered = self.idle_s + self.energy_s if self.energy else 0.0
        return self.timeout_s + models * (self.sustained_s + metered)

    def _check_clock(self) -> None:
        if self.clock not in CLOCKS:
            raise UsageError(f"the clock is {self.clock!r}; expected one of {', '.join(CLOCKS)}.")
        if self.clock == "end_to_end" and self.input == "random":
            raise UsageError(
                "the clock end_to_end starts at encoded images, which random input has none of. "
                "Leave --input random out, or use --clock inference."
            )

    def _settle_runtime(self) -> None:
        """Fill in the provider, and refuse knobs that only ONNX Runtime has."""
        if self.runtime not in PROVIDERS:
            raise UnknownNameError("runtime", self.runtime, plugins.summaries("runtime"))
        own = PROVIDERS[self.runtime]
        provider = self.provider or own
        if self.runtime != "ort" and (provider != own or self.spinning):
            knob = "--spinning" if self.spinning else "--provider"
            raise UsageError(
                f"{knob} is a knob of ONNX Runtime's and {self.runtime} has none like it. "
                "Leave it out, or use --runtime ort."
            )
        object.__setattr__(self, "provider", provider)  # frozen: this is its construction
