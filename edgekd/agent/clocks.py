"""The three clocks: what a timed run is, and which sessions can be timed so.

``inference``: host memory in, host memory out. ``compute``: the device's own events around the
model alone, copies left out. ``end_to_end``: an encoded image in, its class out.
"""

from __future__ import annotations

from typing import List, Mapping, Sequence

import numpy as np

from edgekd.agent import decoding
from edgekd.agent.bench import Entrant
from edgekd.agent.decoding import Decoder
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import POOL, ImageInput, Normalise, cycle, to_input
from edgekd.agent.job import Job, Model
from edgekd.agent.runtimes import Arrays, Session, TensorSpec

EVENTS = ("trt",)  # runtimes that tell the device's own time
CLOCKS = ("inference", "end_to_end", "compute")


class EndToEnd:
    """A session from encoded images to their classes: decoding, the model, the arg max.

    Args:
        session: the model; closed with this one.
        decoder: makes pixels.
        target: how the model takes images.
        normalise: applied where it takes float.
    """

    def __init__(
        self, session: Session, decoder: Decoder, target: ImageInput, normalise: Normalise
    ) -> None:
        self.session, self._decoder = session, decoder
        self._target, self._normalise = target, normalise
        self.info: Mapping[str, str] = session.info
        self.inputs: Sequence[TensorSpec] = session.inputs
        self.metadata: Mapping[str, str] = session.metadata

    def run(self, feed: Arrays) -> Arrays:
        """One batch: an image file's bytes under each key."""
        images = np.stack([self._decoder(data) for data in feed.values()])  # (B, H, W, 3)
        given = to_input(images, self._target, self._normalise)
        name, logits = next(iter(self.session.run({self._target.name: given}).items()))
        if logits.ndim != 2:
            raise AgentError(
                "output",
                f"the model's first output {name} is {logits.dtype} {tuple(logits.shape)}; the "
                "clock end_to_end ends at a class, so it takes logits (images, classes). Time "
                "other models with --clock inference.",
            )
        return {"class": logits.argmax(axis=1)}

    def close(self) -> None:
        self.session.close()


def plain(session: Session) -> Session:
    """The model itself, which takes pixels and gives logits."""
    return session.session if isinstance(session, EndToEnd) else session


def entrant(job: Job, model: Model, interleaved: bool = False, feeds: int = POOL) -> Entrant:
    """How a model is opened and what it is fed, so that a run is what the job's clock times.

    Args:
        job: the job.
        model: one of its models.
        interleaved: whether other sessions run in turn with it.
        feeds: how many inputs to cycle through, at most.

    Raises:
        AgentError: it cannot be timed so.
    """
    _check(job)
    load = job.opener(model, interleaved)
    if job.clock != "end_to_end":
        return Entrant(load, lambda session: job.feeds(session, model, feeds))
    decoding.pillow()  # imported before anybody's clock starts: it is no part of loading a model

    def opened() -> Session:
        session = load()
        target, normalise = job.image_input(session, model), job.normalise(session)
        return EndToEnd(session, job.decoder(target), target, normalise or Normalise())

    return Entrant(opened, lambda session: _encoded(job, session, model, feeds))


def _encoded(job: Job, session: Session, model: Model, count: int) -> List[Arrays]:
    job.feeds(session, model, 1)  # refuses what does not fit the model
    files = job.image_files(count)
    return [
        {str(place): files[index] for place, index in enumerate(chosen)}
        for chosen in cycle(len(files), job.batch_size)
    ]


def _check(job: Job) -> None:
    if job.clock not in CLOCKS:
        raise AgentError("job", f"the clock is {job.clock!r}; expected one of {', '.join(CLOCKS)}.")
    if job.clock == "compute" and job.runtime not in EVENTS:
        raise AgentError(
            "job",
            f"the clock compute takes the GPU's own events, which {job.runtime} does not tell; "
            "TensorRT does (--runtime trt). Use --clock inference for the others.",
        )
