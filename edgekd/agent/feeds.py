"""Inputs: decoded images, uint8 NHWC, in the shape and type that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Arrays, TensorSpec

POOL = 8  # feeds that a measurement cycles through
IMAGE_DTYPES = ("uint8", "float32", "float16")
DTYPES = ("int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float64", "bool")
FIXED = (
    "Export it for numbers, and with fixed sizes: only the first one, and the height and width of "
    "a picture with three channels (--image-size), may be left free."
)


@dataclass(frozen=True)
class ImageInput:
    """The input of a model that takes pictures."""

    name: str
    dtype: str
    channels_last: bool
    batch: Optional[int]
    """None if any batch size will do."""
    height: int
    width: int


@dataclass(frozen=True)
class Normalise:
    """(pixel / 255 - mean) / std, for each channel."""

    mean: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: Tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Normalise:
        """Read ``mean`` and ``std``, each three numbers."""
        try:
            values = [[float(value) for value in table[key]] for key in ("mean", "std")]
            (a, b, c), (x, y, z) = values
            if not np.isfinite(values).all() or not (x and y and z):
                raise ValueError("nothing can be divided by it")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise AgentError(
                "input",
                f"the preprocessing is {str(dict(table))[:200]}; expected mean and std, three "
                "numbers each, and no deviation of 0.",
            ) from error
        return cls((a, b, c), (x, y, z))


def image_input(
    inputs: Sequence[TensorSpec], size: Optional[Sequence[int]], model: str
) -> ImageInput:
    """Recognise a picture: four dimensions, three channels, first or last.

    Args:
        inputs: as the model declares them.
        size: height and width for a model that leaves them free.
        model: its name, for messages.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype not in IMAGE_DTYPES:
        raise _no_picture(inputs, model)
    spec = inputs[0]
    last = spec.shape[3] == 3
    if not last and spec.shape[1] != 3:
        raise _no_picture(inputs, model)
    height, width = spec.shape[1:3] if last else spec.shape[2:4]
    if height is None or width is None:
        if size is None:
            raise AgentError(
                "input",
                f"{model} leaves its height or width free ({spec}), so there is no size to measure "
                "at. Give one (--image-size 224 224), or export the model with a fixed size.",
            )
        height, width = height or int(size[0]), width or int(size[1])
    return ImageInput(spec.name, spec.dtype, last, spec.shape[0], height, width)


def batch_of(fixed: Optional[int], wanted: int, model: str) -> int:
    """The batch size to run with.

    Raises:
        AgentError: the model has a fixed one that is not the one wanted.
    """
    if fixed is not None and fixed != wanted:
        raise AgentError(
            "input",
            f"{model} was exported for batches of {fixed}, and {wanted} was asked for. "
            f"Ask for {fixed} (--batch-size {fixed}), or export it with a free batch size.",
        )
    return wanted


def to_input(images: Any, target: ImageInput, normalise: Normalise) -> Any:
    """Images as the model takes them: (B, H, W, 3) uint8 in; normalised and turned if need be."""
    if target.dtype == "uint8":
        values = images
    else:
        mean, std = np.array(normalise.mean, np.float32), np.array(normalise.std, np.float32)
        values = ((np.float32(images) / np.float32(255) - mean) / std).astype(target.dtype)
    if not target.channels_last:
        values = values.transpose(0, 3, 1, 2)  # (B, 3, H, W)
    return np.ascontiguousarray(values)


def check_images(images: Any, target: ImageInput, model: str) -> None:
    """Refuse images that are not decoded pictures of the model's size."""
    wanted = (target.height, target.width, 3)
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1:] != wanted
        or not len(images)
    ):
        raise AgentError(
            "input",
            f"the images are {images.dtype} {tuple(images.shape)}; {model} takes uint8 "
            f"(N, {target.height}, {target.width}, 3). Decode and resize them to that size.",
        )


def crops(photos: Any, target: ImageInput, count: int, seed: int) -> Any:
    """Random, seeded pieces of photographs, brought to the model's size by nearest neighbour."""
    rng = np.random.default_rng(seed)
    height, width = photos.shape[1:3]
    pieces = np.empty((count, target.height, target.width, 3), photos.dtype)  # or no memory, now
    for piece in pieces:
        share = rng.uniform(0.4, 1.0)
        tall = max(int(share * min(height, width * target.height / target.width)), 1)
        wide = max(int(share * min(width, height * target.width / target.height)), 1)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        rows = top + np.arange(target.height) * tall // target.height
        columns = left + np.arange(target.width) * wide // target.width
        piece[:] = photos[rng.integers(len(photos))][rows][:, columns]
    return pieces  # (count, H, W, 3)


def random_feed(
    inputs: Sequence[TensorSpec],
    batch: int,
    model: str,
    seed: int,
    size: Optional[Sequence[int]] = None,
) -> Arrays:
    """Random numbers of the right types and shapes, for whatever the model takes.

    Args:
        inputs: as the model declares them.
        batch: of each input that has sizes.
        model: its name, for messages.
        seed: of the numbers.
        size: height and width of a picture, for a model that leaves them free.
    """
    rng = np.random.default_rng(seed)
    feed: Dict[str, Any] = {}
    for spec in inputs:
        first = [batch_of(spec.shape[0], batch, model)] if spec.shape else []
        rest = _filled(spec, size)
        if None in rest or spec.dtype not in IMAGE_DTYPES + DTYPES:
            raise AgentError(
                "input",
                f"{model} takes {spec}, which random data cannot stand in for. {FIXED}",
            )
        shape = first + [int(size) for size in rest if size is not None]
        high = 256 if spec.dtype == "uint8" else 2  # small integers are valid as indices too
        floating = spec.dtype.startswith("float")
        values = rng.random(shape) if floating else rng.integers(0, high, shape)
        feed[spec.name] = np.asarray(values).astype(spec.dtype)
    return feed


def _filled(spec: TensorSpec, size: Optional[Sequence[int]]) -> List[Optional[int]]:
    """All sizes but the first; what a picture leaves free of its height and width is ``size``."""
    rest = list(spec.shape[1:])
    if size is not None and len(rest) == 3 and 3 in (rest[0], rest[2]):
        at = 0 if rest[2] == 3 else 1
        rest[at : at + 2] = [rest[at] or int(size[0]), rest[at + 1] or int(size[1])]
    return rest


def cycle(count: int, batch: int) -> List[List[int]]:
    """Which images are in each feed of a measurement; they come again where there are too few."""
    feeds = min(POOL, max(1, -(-count // batch)))
    return [[(index * batch + place) % count for place in range(batch)] for index in range(feeds)]


def pool(images: Any, target: ImageInput, batch: int, normalise: Normalise) -> List[Arrays]:
    """The feeds of a measurement: batches of these images."""
    return [
        {target.name: to_input(images[chosen], target, normalise)}
        for chosen in cycle(len(images), batch)
    ]


def _no_picture(inputs: Sequence[TensorSpec], model: str) -> AgentError:
    found = "; ".join(str(spec) for spec in inputs)
    numbers = all(spec.dtype in IMAGE_DTYPES + DTYPES for spec in inputs)
    fixed = numbers and all(None not in spec.shape[1:] for spec in inputs)
    random = "Ask for random input to time it all the same (--input random)."
    return AgentError(
        "input",
        f"{model} takes {found}; expected one picture: uint8 or float, four dimensions, three "
        f"channels first or last. {random if fixed else FIXED}",
    )


def noise(target: ImageInput, count: int, seed: int) -> Any:
    """Random pixels, where there is no photograph."""
    shape = (count, target.height, target.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
