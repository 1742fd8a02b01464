"""The workshop: a program that takes orders, a line of JSON each, and forks a command for each."""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import os
import pkgutil
import re
import select
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.doomed import ROOT, Blow, Moment
from tests.faults.striking import families, kill_all, strike

DRAWN = re.compile(r"(?<=\.)[a-z0-9_]{8}(?=/|$)")
"""What ``tempfile`` draws by lot at the end of a name."""
LATE = (
    "jinja2",
    "networkx",
    "onnx.checker",
    "onnxruntime.quantization",
    "onnxscript",
    "plotly.io",
    "PIL.PngImagePlugin",
    "rich.progress",
    "rich.table",
    "sklearn.datasets",
    "torch._dynamo",
    "torch.onnx._internal.exporter._core",
    "torchvision.transforms",
)
"""What commands import where they need it."""
ADOPTS = 36
"""``PR_SET_CHILD_SUBREAPER``: whose parent is killed becomes this program's child."""


def main() -> None:
    """Take orders until there are no more."""
    import edgekd

    skipped = re.compile(r".*\.(openvino|trt|wds|hf|__main__)$")
    for module in pkgutil.walk_packages(edgekd.__path__, "edgekd."):
        if not skipped.match(module.name) and "tensorrt" not in module.name:
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()  # what all of them share need not be looked through at their ends
    ctypes.CDLL(None).prctl(ADOPTS, 1, 0, 0, 0)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _strays(asked["strays"]) if "strays" in asked else _carried_out(asked)
        print(json.dumps(answer), flush=True)
    kill_all(os.getpid())


def _carried_out(asked: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(asked["folder"])
    heard = folder.with_name(f"{folder.name}.heard")
    heard.mkdir(exist_ok=True)
    files = {name: heard / name for name in ("out", "err", "moments")}
    for file in files.values():
        file.write_text("")
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _be(asked, files)  # never comes back
    blow = None if asked["blow"] is None else Blow(**asked["blow"])
    hit, late = _watch(child, blow, asked["limit_s"])
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - begun
    texts = {name: file.read_text("utf-8", "replace") for name, file in files.items()}
    moments = texts.pop("moments").splitlines()
    code = os.waitstatus_to_exitcode(status)
    how = {"hit": hit, "late": late, "seconds": seconds}
    return {"code": code, "moments": moments, **how, **texts}


def _watch(child: int, blow: Blow | None, limit_s: float) -> tuple[bool, bool]:
    """Until it ends: whether a blow hit somebody, and whether it had to be ended."""
    others, begun, hit = {*families(os.getpid())} - {child}, time.monotonic(), False
    ended = os.pidfd_open(child)
    try:
        if blow is not None and not _is_over(ended, blow.after_s):
            while not hit and time.monotonic() - begun < limit_s:
                hit = strike(child, blow, others)
                if not hit and _is_over(ended, 0.02):
                    break
        late = not _is_over(ended, max(0.0, limit_s - (time.monotonic() - begun)))
    finally:
        os.close(ended)
    if late:
        kill_all(os.getpid())
    return hit, late


def _is_over(ended: int, seconds: float) -> bool:
    return bool(select.select([ended], [], [], seconds)[0])


def _strays(patience_s: float) -> list[str]:
    until = time.monotonic() + patience_s
    while True:
        _bury()
        left = families(os.getpid())
        if not left or time.monotonic() > until:
            return sorted(left.values())
        time.sleep(0.1)


def _bury() -> None:
    """Adopted children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _be(asked: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Become ``edgekd WORDS``."""
    code = 70
    try:
        os.setsid()
        for number, name in ((0, os.devnull), (1, str(files["out"])), (2, str(files["err"]))):
            os.dup2(os.open(name, os.O_RDWR), number)
        os.environ.update(asked["env"])
        tempfile.tempdir = None  # it was looked up before
        folder = Path(asked["folder"])
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        if asked["first"]:
            module, _, name = asked["first"].partition(":")
            getattr(importlib.import_module(module), name)(**asked["told"])
        if asked["fresh"]:
            os.environ["PYTHONPATH"] = str(ROOT)
            os.execv(sys.executable, [sys.executable, "-m", "edgekd", *asked["words"]])
        until = asked["until"]
        _listen(files["moments"], folder, None if until is None else Moment(**until))
        sys.argv = ["edgekd", *asked["words"]]
        from edgekd import cli

        cli.main()
        code = 0
    except Exception:
        traceback.print_exc()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        gc.collect()  # as Python's own end would, which lets go of private folders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _listen(log: Path, folder: Path, until: Moment | None) -> None:
    """Write down the moments, and at one of them do what is to happen then."""
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    me, seen = os.getpid(), 0

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        moment = _named(event, arguments, folder)
        if moment is None or os.getpid() != me:  # a worker that was forked is no command
            return
        os.write(written, f"{moment}\n".encode())
        if until is None or not re.fullmatch(until.pattern, moment):
            return
        seen += 1
        if seen != until.count:
            return
        if until.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if until.gone:
            shutil.rmtree(folder / until.gone, ignore_errors=True)
        else:
            _strike_later(me, until.number, until.after_s)

    sys.addaudithook(hear)


def _strike_later(whom: int, number: int, after_s: float) -> None:
    if after_s:
        threading.Timer(after_s, os.kill, (whom, number)).start()
    else:
        os.kill(whom, number)


def _named(event: str, arguments: tuple[Any, ...], folder: Path) -> str | None:
    """What is about to happen, where it lasts; files outside of the folder do not count."""
    if event == "subprocess.Popen":
        return f"starts {Path(os.fsdecode(arguments[1][0])).name}"
    if event not in ("os.rename", "os.remove"):
        return None
    if event == "os.remove" and arguments[1] != -1:  # of a folder that goes as a whole
        return None
    path = Path.cwd() / os.fsdecode(arguments[event == "os.rename"])
    if not path.is_relative_to(folder):
        return None
    name = DRAWN.sub("*", str(path.relative_to(folder)))
    if event == "os.remove" and ("*" in name or not path.exists()):  # a draft, or nothing
        return None
    return f"{'renames' if event == 'os.rename' else 'removes'} {name}"


if __name__ == "__main__":
    main()
