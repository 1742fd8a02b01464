"""The agent as one file that any Python can run."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
OLDEST_PYTHON = (3, 8)

# At the root of the zip, so that `python agent.zip job.json` runs; any Python can read it.
ENTRY = f"""import json, sys
if sys.version_info < {OLDEST_PYTHON}:
    print(json.dumps({{"event": "error", "kind": "python", "message":
        "the device's Python is " + sys.version.split()[0] + "; the agent needs "
        "{".".join(map(str, OLDEST_PYTHON))} or newer. Name another in the device's profile."}}))
    sys.exit(1)
from edgekd.agent.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
# What a line of Python may begin to be read as: a text that stands for itself, which is what a
# docstring is; else what may hold quotes or a # that mean nothing: comments and other texts.
_TEXT = re.compile(
    r'^(?P<indent> *)(?P<doc>"""(?:\\.|[^\\])*?""")$'
    r'|(?P<comment>(?:^ *|  )#[^\n]*)|"""(?:\\.|[^\\])*?"""'
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
    re.MULTILINE | re.DOTALL,
)


def pack_agent(target: Path) -> None:
    """Zip the agent: the same bytes from the same sources, whatever the time and the machine."""
    sources = [PACKAGE / "__init__.py", *sorted((PACKAGE / "agent").rglob("*.py"))]
    content = {file.relative_to(PACKAGE.parent).as_posix(): slim(file) for file in sources}
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in {"__main__.py": ENTRY, **content}.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, text.encode(), compresslevel=9)


def slim(source: Path) -> str:
    """A file of Python without comments and docstrings: nobody reads them on a device.

    Every line keeps its number.
    """
    return _TEXT.sub(_shorten, source.read_text("utf-8"))


def _shorten(found: re.Match[str]) -> str:
    if found["doc"] is not None:
        return f'{found["indent"]}""' + "\n" * found["doc"].count("\n")
    return "" if found["comment"] is not None else found[0]
