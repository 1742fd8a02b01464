"""The command line: each verb parses, calls one library function, and prints.

A verb is a file of this folder. It imports nothing heavy at its top: the body of the command does,
so that ``edgekd --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from edgekd import __version__
from edgekd.cli._launched import check_verb, died, hush, leave, speaks, who
from edgekd.cli._printing import echo, spell_out, wrong_usage
from edgekd.cli._shortage import advice
from edgekd.cli._signals import Asked, number_of, settle
from edgekd.cli._streams import end_streams, have_width, open_closed, speak
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
from edgekd.plain import one_screen
from edgekd.shortage import is_shortage, shortage_of

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
    open_closed()
    spell_out()
    have_width()
    speak()
    with Asked().listening():
        try:
            code = _carried_out()
        except (KeyboardInterrupt, click.Abort) as stopped:
            settle()
            code = _stopped(stopped)
        code = end_streams(code)
    sys.exit(code)


def _carried_out() -> int:
    """Do what the command line says, and tell why where that cannot be.

    Returns:
        The exit code.
    """
    try:
        hush()
        _check_place()
        code: int | None = cli.main(prog_name="edgekd", standalone_mode=False)
        leave()
        return code or 0  # a command's own exit code is returned
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except click.ClickException as error:
        if speaks():
            with suppress(OSError):
                echo(wrong_usage(error), err=True)
        return error.exit_code
    except Exception as error:
        said = _reason(error)
        if not said and speaks():
            raise  # nobody expected it: where it happened is what helps
        code = getattr(error, "exit_code", 1)
        return _told(said, 1 if is_shortage(error) else code) if said else 1


def _check_place() -> None:
    """Refuse to work in a folder that was removed, in which libraries end in ways of their own."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib is not needed here
    except OSError as error:
        raise click.UsageError(
            f"the current folder cannot be used: {error.strerror}. Go to one that is there (cd)."
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, for a person; nothing where that is edgekd itself."""
    if is_shortage(error):
        return advice(shortage_of(error))
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else "the system refused: "
        return f"{where}{error.strerror}. Look at its path, its permissions and the disk it is on."
    said = str(error) or repr(error)
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return _uncompiled(said)
    return said if isinstance(error, EdgeKDError | OSError) else died(error)


def _uncompiled(said: str) -> str:
    """PyTorch's compiler leaves broken files behind where it is killed, and fails at them later."""
    from pathlib import Path
    from tempfile import gettempdir

    what = " ".join(line.strip() for line in said.splitlines()[:2])
    left = Path(gettempdir()) / "torchinductor_*"
    return (
        f"PyTorch's compiler failed: {what}. If it was ever stopped at work, remove what it left, "
        f"{left}. Else train with what is not compiled: another optimizer, and train.compile=false."
    )


def _stopped(stopped: BaseException) -> int:
    """The user asked for it; or the launcher, because another process is gone."""
    if said := died(stopped):
        return _told(said, 1)
    # click puts its own Abort around what stopped it; the trainer's says that all is saved
    saved = "Interrupted" in (type(stopped).__name__, type(stopped.__cause__).__name__)
    how = " The state is saved: give the same command again to go on." if saved else ""
    return _told(f"stopped.{how}", 128 + number_of(stopped))


def _told(message: str, code: int) -> int:
    """Tell why, once whatever the number of processes."""
    if speaks():
        with suppress(OSError):  # nobody hears it
            click.echo(one_screen(f"{who()}: {message}"), err=True)
    return code
