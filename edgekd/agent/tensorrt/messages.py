"""What TensorRT says while it works: kept, because its calls return nothing but failure."""

from __future__ import annotations

from typing import Any, List

KEPT = 20
SHOWN = 3


def listener(trt: Any) -> Any:
    """A logger of TensorRT's that prints nothing and keeps the errors, in ``said``."""

    class Listener(trt.ILogger):  # type: ignore[misc]  # a class of a module that is found at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: List[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.said = [*self.said, " ".join(message.split())][-KEPT:]

    return Listener()


def last_words(logger: Any) -> str:
    """The last errors, as the end of a sentence."""
    said = logger.said[-SHOWN:]
    return "TensorRT said: " + " / ".join(said)[:600] if said else "TensorRT gave no reason."
