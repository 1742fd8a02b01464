"""Preprocess: what was done to the pixels before a network saw them; it belongs to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """From a decoded image to a network's input.

    Resize (so that the crop covers ``crop_pct`` of the shorter side), crop the centre, and
    normalise: ``(pixel / 255 - mean) / std`` per channel.
    """

    size: tuple[int, int]
    """Height and width in pixels."""
    mean: RGB
    std: RGB
    interpolation: str = "bilinear"
    """``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, as Pillow does it."""
    crop_pct: float = 1.0

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Preprocess:
        """Read the ``input`` section of a manifest."""
        height, width = table["size"]
        return cls(
            (int(height), int(width)),
            _rgb(table["mean"]),
            _rgb(table["std"]),
            str(table["interpolation"]),
            float(table["crop_pct"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``input`` section of a manifest."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @property
    def scale(self) -> RGB:
        """Factor of a uint8 pixel: ``pixel * scale + shift`` is the normalised value."""
        return _rgb([1 / (255 * std) for std in self.std])

    @property
    def shift(self) -> RGB:
        """Summand beside :attr:`scale`."""
        return _rgb([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])


def _rgb(values: Any) -> RGB:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
