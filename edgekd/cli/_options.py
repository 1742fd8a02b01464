"""Options several verbs share, and how they become overrides of a recipe."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekd.cli._printing import echo, print_json

if TYPE_CHECKING:
    from edgekd.recipe import Data, Recipe

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class Named(click.Path):
    """A path; one of no letters is a variable that was not set, and not the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; expected a path.", param, ctx)
        try:
            os.lstat(value)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # else it says more later
                self.fail(f"{value}: {error.strerror}.", param, ctx)
        return super().convert(value, param, ctx)


output = click.option("-o", "--output", type=Named(), help="Folder to write.")
restart = click.option("--restart", is_flag=True, help="Throw away what the folder holds.")
from_recipe = click.option(
    "--recipe", metavar="NAME", help="A recipe's name or .toml file to start from."
)

views = click.option(
    "--teacher-views",
    type=int,
    metavar="K",
    help="Show each image in K fixed ways, so that the teacher's answers repeat.",
)

METHOD_HELP = 'Such as "ce + 0.9*kd + at", or auto; see edgekd list method.'

DATA = {
    "data": ("data.source", str, "digits, a folder or tar, torchvision/NAME, hf/NAME, wds/FOLDER."),
    "size": ("data.size", int, "Side of the square input in pixels; 0 takes the network's own."),
    "limit": ("data.limit", int, "Use at most this many training images."),
}
TRAIN = {
    "epochs": ("epochs", int, "Passes over the training images."),
    "batch_size": ("batch_size", int, "Images a step."),
    "lr": ("lr", float, "Learning rate."),
    "seed": ("seed", int, "Of weights, shuffling and augmentation."),
    "precision": ("precision", str, "fp32, bf16, fp16, or auto (bf16 where it is fast)."),
}
MISSING = {
    "teacher": "Give NAME:WEIGHTS, or a folder that edgekd teach made.",
    "student": "Give the name of a smaller network; edgekd list model has them.",
}


def data_options(command: F) -> F:
    """``--data``, ``--size``, ``--limit``."""
    return _options(command, DATA)


def source_options(command: F) -> F:
    """``--data``: the network has its size; with another limit, trained images would judge."""
    return _options(command, {"data": DATA["data"]})


def pair_options(command: F) -> F:
    """``--teacher`` and ``--student``, and how the one is shown what the other learns from."""
    teacher = click.option(
        "--teacher", metavar="NAME", help="NAME:WEIGHTS, or an artifact's folder."
    )
    student = click.option(
        "--student", metavar="NAME", help="NAME[:WEIGHTS]; see edgekd list model."
    )
    return teacher(student(views(command)))


def train_options(command: F) -> F:
    """All that says how to train, and on what; ``--output``, ``--restart`` and ``--json``."""
    setting = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override any key of the recipe, such as data.workers=2.",
    )
    printing = click.option(
        "--print-recipe", is_flag=True, help="Print the recipe these flags make, and stop."
    )
    told = output(restart(as_json(command)))
    return data_options(setting(printing(_options(told, TRAIN))))


def recipe_of(
    flags: Mapping[str, Any], section: str = "train", source: str | None = None
) -> Recipe:
    """The recipe that a file (or the defaults) and the flags make together.

    Args:
        flags: what the shared options gave, and ``teacher``, ``student``, ``peer``,
            ``method``.
        section: which part the training flags go to, ``train`` or ``teach``.
        source: a recipe's path or name.
    """
    from edgekd.recipe import Network, Recipe, recipe_from, toml_of

    keys = {name: key for name, (key, _, _) in DATA.items()}
    keys |= {name: f"{section}.{key}" for name, (key, _, _) in TRAIN.items()}
    keys |= {"teacher_views": "data.teacher_views"}
    given = [(key, flags[name]) for name, key in keys.items() if flags.get(name) is not None]
    overrides = [f"{key}={toml_of(value)}" for key, value in given]
    for role in ("teacher", "student", "peer"):
        if flags.get(role) is not None:
            network = Network.parse(flags[role])
            overrides.append(f"{role}.name={toml_of(network.name)}")
            overrides.append(f"{role}.weights={toml_of(network.weights)}")
    if flags.get("method") is not None:
        overrides.append(f"method={flags['method']}")
    overrides += _heard(flags.get("settings") or (), section)
    return recipe_from({}, overrides) if source is None else Recipe.load(source, overrides)


def _heard(settings: Sequence[str], section: str) -> Sequence[str]:
    """Refuse what a verb would not read: who sets it thinks that it changes something."""
    lost = [text for text in settings if section == "teach" and text.strip().startswith("train.")]
    if lost:
        instead = lost[0].strip().replace("train.", "teach.", 1)
        raise click.UsageError(
            f"--set {lost[0]}: [train] is how a student is trained, which this verb does not read. "
            f"For the teacher: --set {instead}"
        )
    return settings


def check_named(recipe: Recipe, flags: Mapping[str, Any], roles: Sequence[str]) -> None:
    """The default networks are examples: nobody means them who named none."""
    for role in roles:
        if not flags[role] and not getattr(recipe, role).weights:
            raise click.UsageError(f"--{role} is missing. {MISSING[role]}")


def data_of(flags: Mapping[str, Any], made_with: Mapping[str, Any]) -> Data:
    """An artifact's own data, with what the flags replace.

    The shares held out stay the artifact's: other ones would take images it was trained on for
    test images.
    """
    from edgekd.recipe import recipe_from, toml_of

    given = [(DATA[name][0], flags[name]) for name in DATA if flags.get(name) is not None]
    return recipe_from(made_with, [f"{key}={toml_of(value)}" for key, value in given]).data


def show_recipe(recipe: Recipe, *, as_json: bool) -> None:
    """As a file that ``edgekd run FILE`` takes, or as JSON."""
    if as_json:
        print_json(recipe.to_dict())
    else:
        echo(recipe.to_toml())


def _options(command: F, table: Mapping[str, tuple[str, type, str]]) -> F:
    for name, (_, kind, text) in reversed(list(table.items())):
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)(command)
    return command
