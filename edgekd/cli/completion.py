"""Print a script that completes edgekd's words in a shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: eval "$(edgekd completion bash)"."""
    from click.shell_completion import get_completion_class

    from edgekd.cli import cli

    made = get_completion_class(shell)
    if made is None:  # click knows the three above; a later one may drop one
        raise click.UsageError(f"click completes nothing in {shell}.")
    click.echo(made(cli, {}, "edgekd", "_EDGEKD_COMPLETE").source())
