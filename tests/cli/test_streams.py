"""Standard streams that are closed, full or gone: a sentence where one can be said, and a code."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from runpy import run_path

import pytest
from rich.console import Console

from edgekd.cli._screen import Screen
from edgekd.cli._streams import enduring

TINY = run_path(str(Path(__file__).parents[1] / "agent" / "tiny_models.py"))
LIST = "exec {python} -m edgekd list method"
"""Some kB, by ``click.echo`` and by ``rich``."""
FULL = (
    "edgekd: cannot write to the standard output: No space left on device. Send it to another "
    "place, or free some space.\n"
)


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of it; ``{python}`` is this one."""
    text = script.replace("{python}", sys.executable)
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_a_terminal_of_no_width_is_shown_what_there_is(tmp_path: Path) -> None:
    seen = [shell(f"COLUMNS={width} {LIST}", tmp_path) for width in ("0", "80")]
    assert [one.returncode for one in seen] == [0, 0]
    assert seen[0].stdout == seen[1].stdout != ""


def test_a_folder_that_was_removed_is_no_place_to_work_in(tmp_path: Path) -> None:
    """PyTorch's libraries would end the program in words of their own."""
    ended = shell(f"mkdir a && cd a && rmdir ../a && {LIST}", tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    said = "the current folder cannot be used: No such file or directory. Go to one that is there"
    assert said in ended.stderr


def test_the_agent_speaks_utf_8_whatever_python_is_told(tmp_path: Path) -> None:
    TINY["classifier"](tmp_path / "a.onnx")
    told = "PYTHONIOENCODING=utf-16 {python} -m edgekd profile a.onnx --max-seconds 0.3 --json"
    assert shell(told, tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (f"{LIST} >&-", 0, ""),
        (f"{LIST} >&- 2>&- <&-", 0, ""),
        (f"{LIST} > /dev/full", 1, FULL),
        (f"{LIST} --json > /dev/full", 1, FULL),
        (f"{LIST} | head -1 | wc -l; exit $((${{PIPESTATUS[0]}} > 1))", 0, ""),
        ("exec {python} -m edgekd list nothing 2> /dev/full", 2, ""),
        ("exec {python} -m edgekd report nowhere 2> /dev/full", 2, ""),
        ("exec {python} -m edgekd report nowhere 2>&-", 2, ""),
        ("exec {python} -m edgekd --help > /dev/full", 1, FULL),
        ("({python} -m edgekd list method; echo $? >&2) | true", 0, "1\n"),
    ],
)
def test_streams_that_do_not_work(script: str, code: int, said: str, tmp_path: Path) -> None:
    done = shell(script, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert len(done.stderr) < len(said) + 30
    assert "[Errno" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_given_the_number_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    """What libraries print would be written into it, and they are silenced by its number."""
    text = "from edgekd.cli._streams import open_closed\nopen_closed()\n"
    text += "import sys\nfile = open('a', 'w')\nprint('out')\nfile.write(str(file.fileno()))\n"
    done = shell(f'exec {{python}} -c "{text}" >&- 2>&- <&-', tmp_path)
    assert done.returncode == 0
    assert int((tmp_path / "a").read_text()) > 2


def test_what_an_encoding_lacks_is_spelt_out_all_the_same(tmp_path: Path) -> None:
    text = "from edgekd.cli._streams import open_closed\nopen_closed()\n"
    text += "from edgekd.cli._printing import spell_out\nspell_out()\nprint(chr(0x2026))\n"
    done = shell(f'PYTHONIOENCODING=ascii exec {{python}} -c "{text}"', tmp_path)
    assert (done.returncode, done.stdout) == (0, "\\u2026\n"), done.stderr


def test_what_tells_how_far_a_work_is_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with Screen() as screen:
            screen.say("a line")
            screen.progress("stage", 1, 1, "done")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # what is left to be written
    heard = StringIO()
    Console(file=enduring(heard), width=40).print("a line")
    assert heard.getvalue() == "a line\n"
