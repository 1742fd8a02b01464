"""What engine is asked for: read from a job, and part of the key of the engine that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from edgekd.agent.failures import AgentError
from edgekd.agent.tensorrt.timing import cache_folder

PRECISIONS = ("fp32", "fp16", "int8")
SHARE = 0.5
"""Least share of the multiplying layers in the asked precision. Below one half the engine is not
what its name says; far above it, a repaired int8 graph (its worst layers left in float) would be
refused for what its author wanted."""


@dataclass(frozen=True)
class Batch:
    """The batch sizes an engine takes, and the one its kernels are chosen for."""

    least: int = 1
    best: int = 1
    most: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.best <= self.most:
            raise AgentError(
                "job",
                f"the batch sizes of the engine are {self.least} to {self.most}, best at "
                f"{self.best}; expected 1 <= least <= best <= most. Correct --batch-size.",
            )

    def holds(self, size: int) -> bool:
        return self.least <= size <= self.most


@dataclass(frozen=True)
class BuildSpec:
    """How to make an engine of an ONNX file."""

    onnx: Path
    precision: str = "fp32"
    """``fp32``, ``fp16`` or ``int8``."""
    inputs: Mapping[str, Tuple[int, ...]] = field(default_factory=dict)
    """Input name -> its sizes after the batch, ``{"images": (224, 224, 3)}``; empty: as the file
    itself says (which trtexec cannot read for itself)."""
    batch: Batch = Batch()
    workspace_mib: int = 1024
    """Most memory a kernel may use while it works."""
    dla_core: Optional[int] = None
    """Which deep-learning accelerator of a Jetson; None for the GPU."""
    typed: bool = True
    """Whether the graph itself has the precision (half weights, Q/DQ). From TensorRT 10 on the
    network is then strongly typed; 8.x has no such networks, and is permitted what the graph has.
    """
    share: float = SHARE
    """Least share of the multiplying layers that must have the asked precision; 0: any."""
    timing_cache: Optional[Path] = None
    """Folder of what earlier builds on this device measured; None: nothing is kept."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise AgentError(
                "job",
                f"the engine's precision is {self.precision!r}; expected one of "
                f"{', '.join(PRECISIONS)}.",
            )

    @classmethod
    def from_job(cls, table: Mapping[str, Any], folder: Path) -> BuildSpec:
        """Read the job's ``build`` section; ``onnx`` is relative to ``folder``."""
        cache, core = table.get("timing_cache"), table.get("dla_core")
        return cls(
            onnx=folder / str(table["onnx"]),
            precision=str(table["precision"]),
            inputs={name: tuple(map(int, sizes)) for name, sizes in table["inputs"].items()},
            batch=Batch(*(int(size) for size in table["batch"])),
            workspace_mib=int(table["workspace_mib"]),
            dla_core=None if core is None else int(core),
            typed=bool(table["typed"]),
            share=float(table["share"]),
            timing_cache=Path(str(cache)) if cache else cache_folder(),
        )

    def shapes(self, name: str) -> Tuple[Tuple[int, ...], ...]:
        """The least, best and largest shape of an input, batch first."""
        batch = self.batch
        return tuple((size, *self.inputs[name]) for size in (batch.least, batch.best, batch.most))

    def options(self) -> Dict[str, Any]:
        """All that decides what engine comes of the file, as JSON holds it."""
        return {
            "precision": self.precision,
            "inputs": {name: list(sizes) for name, sizes in sorted(self.inputs.items())},
            "batch": [self.batch.least, self.batch.best, self.batch.most],
            "workspace_mib": self.workspace_mib,
            "dla_core": self.dla_core,
            "typed": self.typed,
        }
