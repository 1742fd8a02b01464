"""What an export is given: images of the data the network was trained on, decoded once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from edgekd.artifact import Artifact
from edgekd.data import Images
from edgekd.export import Calibration, Order, calibration_of
from edgekd.loading import Splits, some_images
from edgekd.preprocess import Preprocess
from edgekd.recipe import Data, Export
from edgekd.targets import Target
from edgekd.watching import Silent, Watch

USUAL = 512
"""Images to calibrate on, where there are enough."""


@dataclass(frozen=True)
class Exporting:
    """One network to export, for one device; its images are decoded once."""

    network: Artifact
    options: Export
    data: Data
    splits: Splits
    target: Target
    to: str = "onnx"
    explain: bool = False
    watch: Watch = field(default_factory=Silent)

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess.from_dict(self.network.manifest["input"])

    @cached_property
    def images(self) -> Images:
        """Validation images: they accept or refuse."""
        count = max(self.options.judged, self.options.samples)
        return some_images(self.splits.validation, self.preprocess, count)

    @cached_property
    def calibration(self) -> Calibration:
        """Training images for int8."""
        train = self.splits.train
        return calibration_of(train, self.preprocess, self.options.calibration or usual(len(train)))

    def order(self, options: Export) -> Order:
        """What an export of this network is given."""
        return Order(
            options,
            self.images,
            self.calibration if options.precision == "int8" else None,
            self.target,
            explain=self.explain,
            say=self.watch.say,
        )


def usual(images: int) -> int:
    """How many images to calibrate on where nobody says: half are left to choose with."""
    return max(1, min(USUAL, images // 2))
