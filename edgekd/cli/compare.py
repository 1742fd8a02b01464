"""Compare methods on one teacher and student."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.cli._options import (
    check_named,
    from_recipe,
    pair_options,
    recipe_of,
    show_recipe,
    train_options,
)
from edgekd.cli._printing import print_json

if TYPE_CHECKING:
    from edgekd.recipe import Recipe


@click.command(short_help="Compare methods, sharing one teacher's answers.")
@pair_options
@click.option(
    "--method",
    "methods",
    metavar="SUM",
    multiple=True,
    help='Such as "ce + 0.9*kd"; once for each method to compare. The student alone comes too.',
)
@from_recipe
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How often each is trained, fixed before you look; the first seed is --seed.",
)
@click.option(
    "--share-batches",
    is_flag=True,
    help="Show all seeds the first one's batches, and ask the teacher once for all of them.",
)
@train_options
def compare(
    methods: tuple[str, ...],
    recipe: str | None,
    seeds: int,
    share_batches: bool,
    print_recipe: bool,
    output: Path | None,
    restart: bool,
    as_json: bool,
    **flags: object,
) -> None:
    """Train one student with several methods and seeds, and alone, and say what each gains.

    The methods of a seed train side by side and ask the teacher once a batch; each student is the
    one that edgekd distill would have made. A comparison that was cut off goes on where it was when
    the command is given again, and more methods can be added. Fix the number of seeds beforehand:
    who adds seeds until a method wins finds a winner by luck, so that each further look at a result
    has to be surer.

    With --share-batches the students of all seeds train side by side, all in memory at once, and
    the teacher works once for all of them. They differ in first weights then, not in the order of
    the images, so that the range over the seeds is that of first weights alone.
    """
    if not methods:
        raise click.UsageError('--method is missing. Give two or more, such as "ce + 0.9*kd".')
    made = _recipes(methods, flags, recipe)
    if share_batches:
        made = {text: _ordered(one) for text, one in made.items()}
    first = made[methods[0]]
    if print_recipe:
        show_recipe(first, as_json=as_json)
        return
    if recipe is None:
        check_named(first, flags, ["teacher", "student"])
    from edgekd.cli._comparison import print_comparison
    from edgekd.cli._screen import Screen
    from edgekd.flow.compare import Comparison
    from edgekd.flow.compare import compare as compare_all

    command = shlex.join(["edgekd", *sys.argv[1:]])
    with Screen() as screen:
        out = output or Path("runs/compare")
        found = compare_all(Comparison(made, seeds, out, screen, restart, command))
    if as_json:
        print_json(found)
    else:
        print_comparison(found)
    if any(method["failed"] for method in found["methods"]):
        sys.exit(1)


def _recipes(
    methods: Sequence[str], flags: Mapping[str, object], source: str | None
) -> dict[str, Recipe]:
    """One a method, and one for the student alone; a term's option goes to whoever has the term."""
    from edgekd.formula import parse_method

    given = flags["settings"]
    settings = [str(text) for text in given] if isinstance(given, Sequence) else []
    texts = list(dict.fromkeys(["ce", *methods]))
    terms = {text: parse_method(text).keys() for text in texts}
    for setting in settings:
        term = _term(setting)
        if term is not None and not any(term in names for names in terms.values()):
            raise click.UsageError(f"--set {setting}: no --method here has a term {term!r}.")
    made = {}
    for text in texts:
        own = [setting for setting in settings if _term(setting) in (None, *terms[text])]
        made[text] = recipe_of({**flags, "method": text, "settings": own}, source=source)
    return made


def _ordered(recipe: Recipe) -> Recipe:
    """The same with the images in the order of its seed, unless it names another order."""
    data = recipe.data
    return replace(recipe, data=replace(data, order=data.order_of(recipe.train.seed)))


def _term(setting: str) -> str | None:
    """The term whose option a setting is."""
    section, _, rest = setting.partition("=")[0].strip().partition(".")
    if section != "method":
        return None
    if not rest:
        raise click.UsageError(f"--set {setting}: name methods with --method, once for each.")
    return rest.partition(".")[0]
