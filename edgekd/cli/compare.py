"""Compare methods on one teacher and student."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.cli._options import (
    as_json,
    data_options,
    output,
    print_json,
    recipe_of,
    restart,
    show_recipe,
    train_options,
)

if TYPE_CHECKING:
    from edgekd.recipe import Recipe


MISSING = {
    "teacher": "Give NAME:WEIGHTS, or a folder that edgekd teach made.",
    "student": "Give the name of a smaller network; edgekd list model has them.",
}


@click.command(short_help="Compare methods, sharing one teacher's answers.")
@click.option("--teacher", metavar="NAME", help="NAME:WEIGHTS, or an artifact's folder.")
@click.option("--student", metavar="NAME", help="NAME[:WEIGHTS]; see edgekd list model.")
@click.option(
    "--method",
    "methods",
    metavar="SUM",
    multiple=True,
    help='Such as "ce + 0.9*kd"; once for each method to compare. The student alone comes too.',
)
@click.option("--recipe", metavar="NAME", help="A recipe's name or .toml file to start from.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How often each is trained, fixed before you look; the first seed is --seed.",
)
@data_options
@train_options
@output
@restart
@as_json
def compare(
    methods: tuple[str, ...],
    recipe: str | None,
    seeds: int,
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
    """
    if not methods:
        raise click.UsageError('--method is missing. Give two or more, such as "ce + 0.9*kd".')
    made = _recipes(methods, flags, recipe)
    first = made[methods[0]]
    if print_recipe:
        show_recipe(first, as_json=as_json)
        return
    for role, advice in MISSING.items():
        if recipe is None and not flags[role] and not getattr(first, role).weights:
            raise click.UsageError(f"--{role} is missing. {advice}")
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


def _term(setting: str) -> str | None:
    """The term whose option a setting is."""
    section, _, rest = setting.partition("=")[0].strip().partition(".")
    if section != "method":
        return None
    if not rest:
        raise click.UsageError(f"--set {setting}: name methods with --method, once for each.")
    return rest.partition(".")[0]
