"""Commands so small that one takes a few seconds, and the folders that they need beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from edgekd.profiling import Policy
from tests.faults.doomed import Ended, Workshop

DATA = ("--data", "digits", "--size", "8", "--limit", "300")
TEACH = {"epochs": 6, "batch_size": 32, "lr": 0.1, "precision": "fp32"}
TRAIN = {"epochs": 2, "batch_size": 32, "precision": "fp32"}
OFTEN = {"checkpoint_minutes": 0, "log_steps": 4}
STREAMED = {"memory_gb": 1e-5, "workers": 2}
"""By two processes: there is no room for any image in memory."""
QUICK = ("--max-seconds", "0.4")


BRIEF = "tests.faults.commands:measure_briefly"


def measure_briefly() -> None:
    """Time models for tenths of a second, also where the command line cannot say so."""
    made = Policy.__init__
    assert made.__defaults__ is not None
    known = dict(zip((each.name for each in fields(Policy)), made.__defaults__, strict=True))
    short = {"warmup_seconds": 0.1, "min_seconds": 0.2, "max_seconds": 1.0, "block_seconds": 0.02}
    made.__defaults__ = tuple((known | short).values())


def settings(**sections: Mapping[str, object]) -> list[str]:
    """``--set section.key=value`` ..."""
    pairs = [
        (f"{name}.{key}", value) for name, table in sections.items() for key, value in table.items()
    ]
    return [word for key, value in pairs for word in ("--set", f"{key}={value}")]


@dataclass(frozen=True)
class Command:
    """The words of one, and what has to lie in its folder before."""

    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Folders of the :func:`stock`."""
    codes: tuple[int, ...] = (0,)
    """How it may end where nothing is in its way."""
    first: str = ""
    """What is done in its process before; see :meth:`tests.faults.doomed.Workshop.run`."""


RUN = Command(
    (
        *("run", "--teacher", "resnet14", "--student", "resnet8", "--baseline", "epochs"),
        *("-o", "run", *DATA),
        *settings(
            teach=TEACH | OFTEN | {"epochs": 3},
            train=TRAIN | OFTEN,
            profile={"max_seconds": 0.4},
            export={"samples": 16},
        ),
    )
)
MISSION = Command(
    (
        *("run", "--budget", "p50<=200ms, top1>=5%", "--students", "resnet8", "--attempts", "2"),
        *("--teacher", "teacher", "--baseline", "none", "-o", "run"),
        *("--data", "digits", "--size", "8", "--limit", "600"),
        *settings(
            data={"validation": 0.3},
            train=TRAIN | OFTEN | {"epochs": 1},
            profile={"max_seconds": 0.4},
            export={"samples": 16, "precision": "fp32"},
        ),
    ),
    ("teacher",),
    first=BRIEF,
)
COMMANDS: dict[str, Command] = {
    "teach": Command(
        (
            *("teach", "--teacher", "resnet8", "-o", "taught", *DATA),
            *settings(data=STREAMED, teach=TRAIN | OFTEN),
        )
    ),
    "distill": Command(
        (
            *("distill", "--teacher", "teacher", "--student", "resnet8", "-o", "student", *DATA),
            *("--method", "ce + 0.5*kd + ft"),
            *settings(train=TRAIN | OFTEN | {"ema": 0.9}),
        ),
        ("teacher",),
    ),
    "export": Command(
        (
            *("export", "teacher", "-o", "exported", "--precision", "int8", "--max-drop", "90%"),
            *("--calibrator", "minmax", "--calibration", "64", "--repair", "none"),
        ),
        ("teacher",),
    ),
    "profile": Command(
        ("profile", "exported", "--data", "digits", *QUICK, "-o", "measured/profile.json"),
        ("exported",),
    ),
    "scout": Command(
        ("scout", "--students", "resnet8,resnet14", "--size", "8", "-o", "found"), first=BRIEF
    ),
    "run": RUN,
    "run --budget": MISSION,
    "compare": Command(
        (
            *("compare", "--teacher", "teacher", "--student", "resnet8", "--seeds", "1"),
            *("--method", "ce + 0.9*kd", "--method", "ce + fitnet", "-o", "beside", *DATA),
            *settings(train=TRAIN | OFTEN),
        ),
        ("teacher",),
    ),
}
"""Those that go on where they were, or begin anew, when they are given again."""
WITH_CHILDREN = ("teach", "profile", "scout", "run", "run --budget")
"""Those that start processes: a crew that decodes, or the agent."""

OTHERS: dict[str, Command] = {
    "verify": Command(("verify", "proved", *QUICK), ("proved",), codes=(0, 1)),
    "report": Command(("report", "proved", "-o", "shown"), ("proved",)),
    "deploy": Command(("deploy", "proved", "-o", "deployed"), ("proved",)),
    "device add": Command(("device", "add", "here", "local", "--replace")),
}

STOCK = (
    (
        *("teach", "--teacher", "resnet14", "-o", "teacher", *DATA),
        *settings(teach=TEACH),
    ),
    ("export", "teacher", "-o", "exported"),
)
"""How what commands need is made, once."""


def stock(shop: Workshop, place: Path) -> Path:
    """A folder of what commands need: ``teacher``, ``exported`` and ``proved``."""
    for words in STOCK:
        _made(shop, words, place)
    shutil.copytree(place / "exported", place / "proved")
    _made(shop, ("profile", "proved", "--data", "digits", *QUICK), place)
    return place


def _made(shop: Workshop, words: tuple[str, ...], place: Path) -> None:
    ended = shop.run(words, place, env=homes(place))
    assert ended.code == 0, ended.err


def laid_out(command: Command, source: Path, folder: Path) -> Path:
    """A new folder with what a command needs."""
    folder.mkdir(parents=True)
    for name in command.needs:
        shutil.copytree(source / name, folder / name)
    return folder


def homes(folder: Path) -> dict[str, str]:
    """Caches and settings of its own; what edgekd makes in private is found there as well."""
    home = home_of(folder)
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    names = {"XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "TMPDIR": "tmp"}
    return {name: str(home / within) for name, within in names.items()}


def home_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.home")


def undisturbed(shop: Workshop, command: Command, source: Path, folder: Path) -> Ended:
    """The command as it should be."""
    laid_out(command, source, folder)
    ended = shop.run(command.words, folder, env=homes(folder), first=command.first)
    assert ended.code in command.codes, ended.err
    return ended
