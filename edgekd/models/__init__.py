"""Models: any timm network, the CIFAR families of the papers, torchvision's, or the user's own."""

from edgekd.models.backbone import Backbone, freeze
from edgekd.models.building import build, from_artifact
from edgekd.models.tap import Tap

__all__ = ["Backbone", "Tap", "build", "freeze", "from_artifact"]
