"""A job: the models to measure, how, and on what inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from edgekd.agent import facts, feeds
from edgekd.agent.accuracy import read_array
from edgekd.agent.decoding import Decoder, Fit, read_encoded
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import POOL, ImageInput, Normalise
from edgekd.agent.race import Rules
from edgekd.agent.runtimes import Arrays, Runtime, Session, load

ON_GPU = ("trt",)  # runtimes that know no provider and need none
RULES = (
    "warmup_runs",
    "warmup_seconds",
    "blocks",
    "block_runs",
    "block_seconds",
    "min_seconds",
    "max_seconds",
)


@dataclass(frozen=True)
class Model:
    """A model's file and the name it goes by in messages."""

    name: str
    path: Path


@dataclass(frozen=True)
class Job:
    """``job.json``, with paths made whole."""

    models: Sequence[Model]
    runtime: str
    policy: Mapping[str, Any]
    photos: Optional[Path]
    images: Optional[Path]
    targets: Optional[Path]
    preprocess: Optional[Mapping[str, Any]]
    encoded: Optional[Path] = None
    """A zip of image files."""

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job; its paths are relative to its own folder.

        Raises:
            AgentError: it is none, or names files that are not there.
        """
        folder = path.resolve().parent
        try:
            table = json.loads(path.read_text("utf-8"))
            files = {key: folder / table[key] if table.get(key) else None for key in _FILES}
            models = [Model(str(one["name"]), folder / one["path"]) for one in table["models"]]
            runtime, policy = str(table["runtime"]), {**table["policy"]}
            lost = [file for file in _named(models, files) if not file.is_file()]
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise AgentError(
                "job", f"{path.name} is not a whole job of edgekd's: {error!r}. Send it again."
            ) from error
        if lost:
            raise AgentError("job", f"{path.name} names {lost[0]}, which is not there.")
        return cls(models, runtime, policy, preprocess=table.get("preprocess"), **files)

    @property
    def threads(self) -> int:
        """As asked for, or as many as there are physical cores."""
        return int(self.policy["threads"]) or facts.physical_cores()

    @property
    def clock(self) -> str:
        """``inference``, ``end_to_end`` or ``compute``."""
        return str(self.policy.get("clock") or "inference")

    @property
    def batch_size(self) -> int:
        return int(self.policy["batch_size"])

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU runs the model, so that its time is all the time there is."""
        return self.runtime not in ON_GPU and str(self.policy["provider"]).startswith("CPU")

    def rules(self, sessions: int) -> Rules:
        """When to stop measuring that many sessions."""
        table = {key: self.policy[key] for key in RULES if key in self.policy}
        one_thread = self.on_cpu and self.threads == 1
        return Rules(null_pair=sessions > 1, one_thread=one_thread, **table)

    def options(self, interleaved: bool = False) -> Dict[str, Any]:
        """What a runtime is opened with."""
        return {
            "provider": self.policy["provider"],
            "threads": self.threads,
            "batch_size": self.batch_size,
            "spinning": bool(self.policy["spinning"]),
            "interleaved": interleaved,
            "events": self.clock == "compute",
        }

    def opener(self, model: Model, interleaved: bool = False) -> Callable[[], Session]:
        """Prepare a model; what comes back loads it."""
        runtime, options = self.loaded_runtime(), self.options(interleaved)
        return partial(runtime.open, runtime.prepare(model.path, options), options)

    def loaded_runtime(self) -> Runtime:
        """The runtime, its module imported."""
        return load(self.runtime)

    def input_words(self) -> str:
        """Where the inputs come from, for the record."""
        if self.clock == "end_to_end":
            return "encoded images"
        if self.policy["input"] == "random":
            return "random"
        if self.images is not None:
            return "images"
        return "photos (scikit-learn)" if self.photos else "random (scikit-learn's photos are gone)"

    def feeds(self, session: Session, model: Model, count: int = POOL) -> List[Arrays]:
        """The inputs that a measurement of a model cycles through; so many, at most."""
        seed, batch = int(self.policy["seed"]), self.batch_size
        if self.policy["input"] == "random":
            size = self.policy.get("image_size")
            return [
                feeds.random_feed(session.inputs, batch, model.name, seed + index, size)
                for index in range(count)
            ]
        target = self.image_input(session, model)
        feeds.batch_of(target.batch, batch, model.name)
        normalise = self.normalise(session) or Normalise()
        return feeds.pool(self._pictures(target, model, count), target, batch, normalise)

    def image_input(self, session: Session, model: Model) -> ImageInput:
        """How a model takes pictures; a size it leaves free is the policy's or the images'."""
        size = self.policy.get("image_size")
        if size is None and self.images is not None:
            size = read_array(self.images).shape[1:3]
        target = feeds.image_input(session.inputs, size, model.name)
        asked = self.policy.get("image_size")
        if asked and (target.height, target.width) != tuple(asked):
            raise AgentError(
                "input",
                f"{model.name} takes pictures of {target.height}x{target.width} only, and "
                f"{asked[0]}x{asked[1]} was asked for. Leave the size out (--image-size).",
            )
        return target

    def normalise(self, session: Session) -> Optional[Normalise]:
        """From the job, else from the model's own metadata."""
        if self.preprocess is not None and "mean" in self.preprocess:
            return Normalise.from_table(self.preprocess)
        if "edgekd.mean" in session.metadata:
            said = {key: session.metadata.get(f"edgekd.{key}", "null") for key in ("mean", "std")}
            try:
                return Normalise.from_table({key: json.loads(said[key]) for key in said})
            except (ValueError, RecursionError):
                return Normalise.from_table(said)  # which refuses it, with what it is
        return None

    def decoder(self, target: ImageInput) -> Decoder:
        """Of image files, as the preprocessing says, to the size that a model takes."""
        return Decoder(Fit.from_table(self.preprocess or {}, (target.height, target.width)))

    def image_files(self, count: int = POOL) -> List[Any]:
        """Encoded images enough for so many feeds, where there are as many."""
        if self.encoded is None:
            raise AgentError(
                "job",
                "the clock end_to_end begins at image files, and the job has none. Give images "
                "(--data), or use --clock inference.",
            )
        return read_encoded(self.encoded, count * self.batch_size)

    def _pictures(self, target: ImageInput, model: Model, feeds_wanted: int) -> Any:
        """Decoded images enough for so many feeds, where there are as many."""
        count = feeds_wanted * self.batch_size
        if self.clock == "end_to_end":
            decoder = self.decoder(target)
            images = np.stack([decoder(data) for data in self.image_files(feeds_wanted)])
            feeds.check_images(images, target, model.name)
            return images
        if self.images is not None:
            images = read_array(self.images)
            feeds.check_images(images, target, model.name)
            return images[:count]
        seed = int(self.policy["seed"])
        if self.photos is not None:
            return feeds.crops(read_array(self.photos), target, count, seed)
        return feeds.noise(target, count, seed)


_FILES = ("photos", "images", "targets", "encoded")


def _named(models: Sequence[Model], files: Mapping[str, Optional[Path]]) -> List[Path]:
    return [model.path for model in models] + [file for file in files.values() if file is not None]
