"""Pace: how fast images come, how fast they are learned from, which of both is the limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from edgekd.data import Batch, Loader
from edgekd.loading.stream import StreamLoader

Work = tuple[int, float]
"""How many images were decoded, and in how many seconds they can be."""


class Pace:
    """Notes the time that passes until a batch is there.

    Args:
        loader: of the training images.
        say: told which is the limit, where images are streamed.
    """

    def __init__(self, loader: Loader, say: Callable[[str], None]) -> None:
        self._loader, self._say = loader, say
        self._waited = 0.0
        self._images, self._seconds, self._waits = 0, 0.0, 0.0  # of this epoch
        self._told = self._ended = _decoded(loader)
        self._known: float | None = None
        self._verdict = ""

    def of(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches."""
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - begun
            if batch is None:
                return
            yield batch

    def told(self, images: int, seconds: float) -> dict[str, int]:
        """Images a second since this was last asked: of the training, the loader and the step.

        Those of the loader and the step are what each could do by itself; they are left out where
        the batches came another way.

        Args:
            images: learned from, by all processes.
            seconds: it took, the waiting included.
        """
        rates, waited = {"training": round(images / max(seconds, 1e-9))}, self._waited
        self._waited = 0.0
        self._images, self._seconds = self._images + images, self._seconds + seconds
        self._waits += waited
        since, self._told = self._told, _decoded(self._loader)
        if images and 0 < waited < seconds:
            rates |= {"loader": round(self._loaded(images, waited, since, self._told))}
            rates |= {"step": round(images / (seconds - waited))}
        return rates

    def end(self) -> None:
        """At the end of an epoch: say which is the limit, the first time and where it changed."""
        images, seconds, waited = self._images, self._seconds, self._waits
        self._images, self._seconds, self._waits = 0, 0.0, 0.0
        since, self._ended = self._ended, self._told
        if not isinstance(self._loader, StreamLoader) or not 0 < waited < seconds:
            return
        loader, step = self._loaded(images, waited, since, self._ended), images / (seconds - waited)
        verdict = "loading" if loader < step else "step"
        if verdict == self._verdict:
            return
        self._verdict = verdict
        if verdict == "step":
            self._say(f"the step is the limit: {step:,.0f} images/s; loading gives {loader:,.0f}")
        else:
            advice = self._loader.advice
            self._say(
                f"loading is the limit: {loader:,.0f} images/s, and the step could take "
                f"{step:,.0f}{f'. To train faster, {advice}' if advice else ''}"
            )

    def _loaded(self, images: int, waited: float, since: Work, until: Work) -> float:
        """Images a second the loader could give; who decodes ahead knows it better."""
        decoded, seconds = until[0] - since[0], until[1] - since[1]
        if decoded and seconds > 0:
            self._known = decoded / seconds
        return images / waited if self._known is None else self._known


def _decoded(loader: Loader) -> Work:
    return loader.decoded if isinstance(loader, StreamLoader) else (0, 0.0)


def told(rates: dict[str, int]) -> str:
    """The rates of :meth:`Pace.told` in words."""
    parts = [f"{name} {rates[name]:,}" for name in ("loader", "step") if name in rates]
    beside = f" ({', '.join(parts)})" if parts else ""
    return f"{rates['training']:,} images/s{beside}"
