"""The agent's tasks beside measuring: say what is here, and build an engine and let it answer."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from edgekd.agent import feeds
from edgekd.agent.accuracy import logits_of, read_array
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise
from edgekd.agent.tensorrt import makers, probe
from edgekd.agent.tensorrt.making import make
from edgekd.agent.tensorrt.spec import BuildSpec

Emit = Callable[[Dict[str, Any]], None]
BATCH = 32
log = logging.getLogger("edgekd.agent")
"""Its lines become the agent's events."""


@dataclass(frozen=True)
class BuildJob:
    """The job of the task ``build``; paths are relative to its folder."""

    folder: Path
    spec: BuildSpec
    metadata: Mapping[str, str]
    images: Optional[Path]
    preprocess: Optional[Mapping[str, Any]]
    dtype: str = "uint8"
    """Of the engine's input, which trtexec cannot be asked for."""

    @classmethod
    def read(cls, path: Path) -> BuildJob:
        """Read a job, and see that its files are there."""
        table = json.loads(path.read_text("utf-8"))
        folder = path.resolve().parent
        images = folder / table["images"] if table.get("images") else None
        spec = BuildSpec.from_job(table["build"], folder)
        for file in (spec.onnx, images):
            if file is not None and not file.is_file():
                raise AgentError("job", f"{path.name} names {file}, which is not there.")
        given = table.get("metadata") or {}, images, table.get("preprocess")
        return cls(folder, spec, *given, str(table.get("dtype") or "uint8"))


def describe(path: Path, emit: Emit) -> Dict[str, Any]:
    """CUDA and TensorRT, found in this process, which may not survive it."""
    return probe.facts()


def build(path: Path, emit: Emit) -> Dict[str, Any]:
    """Make the engine; it is named relative to the job's folder."""
    job = BuildJob.read(path)
    made = make(job.spec, job.metadata)
    place = made.plan.relative_to(job.folder).as_posix()
    return {"engine": place, "built": made.built, "bytes": made.plan.stat().st_size, **made.side}


def answers(path: Path, emit: Emit) -> Dict[str, Any]:
    """Run the engine that :func:`build` made on the job's images; the logits become a file."""
    job = BuildJob.read(path)
    if job.images is None:
        raise AgentError("job", "the job has no images for the engine to answer.")
    maker = makers.here()
    engine = make(job.spec, job.metadata, maker)
    images = read_array(job.images)
    session = maker.open(engine.plan, job.spec, job.dtype)
    target = feeds.image_input(session.inputs, images.shape[1:3], engine.plan.name)
    feeds.check_images(images, target, engine.plan.name)
    normalise = Normalise.from_table(job.preprocess) if job.preprocess else Normalise()
    size = target.batch or min(BATCH, job.spec.batch.most)
    if maker.one_batch_a_process:
        log.info(
            "%d calls of trtexec follow, one for each %d images", -(-len(images) // size), size
        )
    found = []
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        found.append(logits_of(session, batch, target, normalise))
        emit(
            {"event": "progress", "step": "answers", "done": start + len(batch), "of": len(images)}
        )
    session.close()
    file = engine.plan.with_suffix(".logits.npy")
    np.save(file, np.concatenate(found))
    return {"logits": file.relative_to(job.folder).as_posix(), "images": len(images)}
