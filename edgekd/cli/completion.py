"""Print a script that completes edgekd's words in a shell."""

from __future__ import annotations

import click

from edgekd.cli._options import as_json
from edgekd.cli._printing import echo, print_json


@click.command(short_help="Print a script that completes in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@as_json
def completion(shell: str, as_json: bool) -> None:
    """Print a script that completes edgekd's words in SHELL.

    For bash and zsh: eval "$(edgekd completion bash)". For fish: edgekd completion fish | source.
    """
    from click.shell_completion import get_completion_class

    from edgekd.cli import cli

    made = get_completion_class(shell)
    if made is None:  # click knows the three above; a later one may drop one
        raise click.UsageError(f"click completes nothing in {shell}.")
    script = made(cli, {}, "edgekd", "_EDGEKD_COMPLETE").source()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        echo(script)
