"""The command line: each verb parses, calls one library function, and prints.

A verb is a file of this folder. It imports nothing heavy at its top: the body of the command does,
so that ``edgekd --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from edgekd import __version__
from edgekd.cli._launched import check_verb, died, hush, leave, speaks, who
from edgekd.cli._signals import Asked
from edgekd.cli.compare import compare
from edgekd.cli.completion import completion
from edgekd.cli.deploy import deploy
from edgekd.cli.device import device
from edgekd.cli.distill import distill
from edgekd.cli.doctor import doctor
from edgekd.cli.export import export
from edgekd.cli.listing import listing
from edgekd.cli.profile_ import profile
from edgekd.cli.report import report
from edgekd.cli.run import run
from edgekd.cli.scout import scout
from edgekd.cli.teach import teach
from edgekd.cli.verify import verify
from edgekd.errors import EdgeKDError

FLOW = (
    run,
    scout,
    teach,
    distill,
    compare,
    export,
    profile,
    device,
    verify,
    report,
    deploy,
    listing,
    doctor,
    completion,
)
"""The verbs, in the order of the flow."""

EPILOG = """\b
Start here:
  edgekd run                          the whole mission on embedded data
  edgekd list method                  what there is to distil with
  edgekd COMMAND --help               what a command takes"""


class _InOrder(click.Group):
    """Lists the verbs in the order of the flow instead of the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(verb.name) for verb in FLOW]


@click.group(cls=_InOrder, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgekd")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Distil a big vision model into a small one, export it, and prove what it does on the device.

    Exit codes: 0 fine, 1 a gate or a check failed, 2 wrong usage.
    """
    check_verb(ctx.invoked_subcommand)


for _verb in FLOW:
    cli.add_command(_verb)


def main() -> None:
    """Entry point: turn edgekd's errors into one message and an exit code."""
    # ONNX Runtime would tell its makers what it runs, from 1.29 on (microsoft/onnxruntime#27379)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    asked = Asked()
    try:
        hush()
        with asked.listening():
            code = cli.main(prog_name="edgekd", standalone_mode=False)
        leave()
        sys.exit(code or 0)  # a command's own exit code is returned
    except click.ClickException as error:
        if speaks():
            error.show()
        sys.exit(error.exit_code)
    except (EdgeKDError, OSError) as error:
        _end(str(error), error.exit_code if isinstance(error, EdgeKDError) else 1)
    except (KeyboardInterrupt, click.Abort) as stopped:
        _stop(stopped, asked.exit_code)
    except Exception as error:
        if said := died(error):
            _end(said, 1)
        if speaks():
            raise  # nobody expected it: where it happened is what helps
        sys.exit(1)


def _stop(stopped: BaseException, code: int) -> NoReturn:
    """The user asked for it; or the launcher, because another process is gone."""
    if said := died(stopped):
        _end(said, 1)
    # click puts its own Abort around what stopped it; the trainer's says that all is saved
    saved = "Interrupted" in (type(stopped).__name__, type(stopped.__cause__).__name__)
    how = " The state is saved: give the same command again to go on." if saved else ""
    _end(f"stopped.{how}", code)


def _end(message: str, code: int) -> NoReturn:
    """Tell why, once whatever the number of processes, and end."""
    if speaks():
        click.echo(f"{who()}: {message}", err=True)
    sys.exit(code)
