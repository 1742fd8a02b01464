"""Sections: the parts of a recipe, their defaults and their ranges."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgekd.strict import DECAY, SHARE, above, at_least, between, check_ranges, one_of

CALIBRATORS = ("minmax", "percentile", "percentile99999", "moving-average", "entropy")
QUANTISED = ("int8", "int8-reduced", "int8-symmetric")
MOST_GB = 1_000_000
"""More than any machine has."""
MOST_PIXELS = 8192
"""A side of an input; no network was published with a tenth of it."""
MOST_WORKERS = 1024
"""Processes or threads; more have no use on any machine, and harm most."""
MOST_BATCH = 65536
"""Images that a device may be given at once."""
MOST_VIEWS = 10_000
"""Fixed ones of an image; where it is shown in fewer ways at all, so many."""
TRACKERS = frozenset({"tensorboard", "wandb", "mlflow"})


@dataclass(frozen=True)
class Data:
    """Where the images come from and how they are split."""

    source: str = "digits"
    """``digits``, a folder, a tar, ``torchvision/NAME``, ``hf/NAME`` or ``wds/FOLDER``."""
    size: int = 0
    """Side of the square input in pixels; 0 takes the student's own."""
    limit: int = 0
    """Use at most this many training images, class by class in equal shares; 0 takes all."""
    validation: float = 0.1
    """Share of the training images held out to watch the training, in (0, 1)."""
    test: float = 0.2
    """Share held out for the one final figure, where the source has no test split."""
    augment: str = "auto"
    """``auto`` (what the source recommends), ``none``, ``shift``, ``shift+flip`` or ``timm``."""
    memory_gb: float = 1.5
    """Decoded images up to this size, all splits together, are kept in memory; more is streamed."""
    workers: int = 2
    """Processes that decode images when they are streamed."""
    order: int = -1
    """Seed of shuffling and augmentation; -1 takes the training's own."""
    teacher_views: int = 0
    """Augment each image in this many fixed ways, or in all there are, so that a teacher's answers
    repeat; 0 draws anew each time. It changes what is trained on."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            size=(
                lambda size: size == 0 or 8 <= size <= MOST_PIXELS,
                f"0, or 8 to {MOST_PIXELS:,}",
            ),
            limit=at_least(0),
            validation=SHARE,
            test=SHARE,
            augment=one_of("auto", "none", "shift", "shift+flip", "timm"),
            memory_gb=(lambda gb: 0 < gb <= MOST_GB, f"more than 0, and at most {MOST_GB:,}"),
            workers=between(0, MOST_WORKERS),
            order=at_least(-1),
            teacher_views=between(0, MOST_VIEWS),
        )

    def order_of(self, seed: int) -> int:
        """Seed of shuffling and augmentation in a training of that seed."""
        return seed if self.order < 0 else self.order


@dataclass(frozen=True)
class Network:
    """A network by name, and where its weights come from."""

    name: str = "resnet8"
    """A CIFAR family, any timm model, or ``torchvision/NAME``."""
    weights: str = ""
    """Empty: random. Else ``pretrained``, a folder, a .safetensors or a .pth file."""

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read ``NAME[:WEIGHTS]``, or the folder of an artifact, which knows its name."""
        if text.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
            return cls(text)
        with suppress(OSError):  # of what is too long to be a path
            if Path(text, "manifest.json").is_file():
                return cls("", text)
        name, _, weights = text.partition(":")
        return cls(name, weights)


@dataclass(frozen=True)
class Train:
    """How a network is trained."""

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.05
    optimizer: str = "sgd"
    """Any optimiser timm knows by name."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    """Any schedule timm knows by name; it is stepped every update."""
    warmup_epochs: float = 1.0
    ema: float = 0.0
    """Decay of the weights' moving average; 0 turns it off."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: str = "fp32"
    """``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the machine computes it."""
    quantise: str = ""
    """Train with the rounding of an int8 file: ``int8``, ``int8-reduced`` or ``int8-symmetric``."""
    compile: bool = False
    """Compile the networks before training (``torch.compile``); pays on a GPU, with small batches.
    """
    shard_teacher: bool = False
    """Spread a teacher that is too large for one GPU over those of all processes."""
    cache_gb: float = 4.0
    """Disk for a teacher's answers to images it was shown before; 0 asks it each time."""
    seed: int = 0
    checkpoint_minutes: float = 5.0
    log_steps: int = 50
    """Steps between two lines of metrics; the only points where the loop waits for the numbers."""
    trackers: tuple[str, ...] = ()
    """``tensorboard``, ``wandb`` or ``mlflow``, beside the JSONL that is always written."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            epochs=at_least(1),
            batch_size=at_least(1),
            lr=above(0),
            momentum=DECAY,
            weight_decay=at_least(0),
            warmup_epochs=at_least(0),
            ema=DECAY,
            clip=at_least(0),
            precision=one_of("auto", "fp32", "bf16", "fp16"),
            # bf16 is as coarse as int8 itself: what is learned would be its rounding
            quantise=(
                lambda name: not name or (name in QUANTISED and self.precision == "fp32"),
                f"one of {', '.join(QUANTISED)}, and precision fp32 with it",
            ),
            compile=(lambda on: not (on and self.quantise), "false where quantise rounds"),
            shard_teacher=(
                lambda on: not (on and self.compile),
                "false where train.compile is true",
            ),
            cache_gb=between(0, MOST_GB),
            seed=at_least(0),
            checkpoint_minutes=at_least(0),
            log_steps=at_least(1),
            trackers=(TRACKERS.issuperset, "some of tensorboard, wandb, mlflow"),
        )


@dataclass(frozen=True)
class Export:
    """What the exported file looks like, and what it may lose."""

    precision: str = "fp32"
    """``fp32``, ``fp16``, ``int8``, or ``auto``: the fastest on the device that is accurate."""
    opset: int = 0
    """ONNX operator set; the file is read back and must have it. 0 takes what the device reads."""
    float_input: bool = False
    """Take normalised float32 NCHW instead of uint8 NHWC with the preprocessing inside."""
    samples: int = 256
    """Real images on which the float file must agree with the network."""
    judged: int = 2000
    """Validation images on which a file's accuracy is compared with the network's, at most."""
    max_drop: float = 0.01
    """Accuracy that fp16 and int8 may lose: the bad end of the 95 % interval has to be within."""
    calibration: int = 0
    """Training images that int8 takes its ranges from, in equal shares of each class; 0 takes 512,
    or half of them where there are fewer than 1024."""
    calibrator: str = "auto"
    """How: ``minmax``, ``percentile`` and so on, or the one whose answers agree best."""
    repair: str = "all"
    """What is tried where int8 loses too much: ``none``, ``post`` (without training), ``all``."""
    repair_epochs: int = 0
    """Epochs of tuning the network for int8; 0 takes a tenth of the student's."""
    batches: tuple[int, int] = (1, 8)
    """Of a TensorRT engine: the batch it is tuned for, and the largest it takes."""
    workspace_mb: int = 1024
    """Memory TensorRT may try layers with."""
    dla_core: int = -1
    """Deep-learning accelerator to build for, where the device has one; -1 for the GPU."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            precision=one_of("fp32", "fp16", "int8", "auto"),
            opset=(lambda opset: opset == 0 or opset >= 13, "0, or at least 13"),
            samples=at_least(1),
            judged=at_least(1),
            max_drop=SHARE,
            calibration=at_least(0),
            calibrator=one_of("auto", *CALIBRATORS),
            repair=one_of("none", "post", "all"),
            repair_epochs=at_least(0),
            batches=(lambda pair: 1 <= pair[0] <= pair[1], "two, the smaller one first"),
            workspace_mb=at_least(1),
            dla_core=at_least(-1),
        )


@dataclass(frozen=True)
class Profile:
    """How latency is measured; see ``edgekd.profiling.Policy``."""

    device: str = "local"
    threads: int = 0
    """Intra-op threads; 0 takes the physical cores."""
    batch_size: int = 1
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            threads=between(0, MOST_WORKERS),
            batch_size=between(1, MOST_BATCH),
            max_seconds=above(0),
        )
