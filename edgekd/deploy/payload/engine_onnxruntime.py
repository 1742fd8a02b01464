"""Run the model with ONNX Runtime, on the provider and the threads it was measured with.

On a CPU, the first start keeps the graph as ONNX Runtime optimised it, and later ones load that: in
``edgekd/sessions`` of the user's cache, by release, CPU and model. That file is never shipped: its
nodes and weights are laid out for this CPU. Whatever goes wrong with it, the model is opened as
ever; ``XDG_CACHE_HOME=/dev/null`` keeps nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict

CPU = "CPUExecutionProvider"
LAYOUT = "1"  # of what is kept; part of its name
KEPT, NOTES = 4, 16  # newest files of a kind that stay
SETTLED = 2.0  # seconds after which a file that changes again has another time of change
X86 = ("model name", "flags", "vendor_id", "cpu family", "model", "stepping")
ARM = ("features", "cpu implementer", "cpu architecture", "cpu variant", "cpu part")
TOLD_BY = {*X86, *ARM, "isa", "uarch"}  # the last two are RISC-V's
Start = Callable[..., Any]


def open_model(file: Path, runtime: Dict[str, Any]) -> Callable[[Any], Any]:
    """The model, ready: from one input (1, ...) to its logits (1, K)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it tells its makers what it runs
    try:
        ort = import_module("onnxruntime")
    except ImportError as error:
        sys.exit(f"{error}: python3 -m pip install -r requirements.txt")
    provider, offered = runtime["provider"], ort.get_available_providers()
    if provider not in offered:
        sys.exit(f"this ONNX Runtime has no {provider}, only {', '.join(offered)}.")

    def start(graph: Path, **settings: Any) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only; they are raised as well
        options.intra_op_num_threads = runtime["threads"] or 0  # 0: one a core
        options.inter_op_num_threads = 1
        spinning = "1" if runtime["spinning"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        for name, value in settings.items():
            setattr(options, name, value)
        return ort.InferenceSession(str(graph), options, providers=[provider])

    # a kept graph would look for weights that lie beside the model
    alone = provider == CPU and not file.with_name(f"{file.name}.data").exists()
    session = _kept_or_made(ort, start, file) if alone else start(file)
    if session.get_providers()[0] != provider:
        sys.exit(f"{provider} does not work here: ONNX Runtime fell back to another one.")
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]


def _kept_or_made(ort: Any, start: Start, model: Path) -> Any:
    """A session of the graph that an earlier start kept, or of the model, kept for the next."""
    try:
        folder = _folder()
        key = _key(ort, model, folder)
        found = sorted(folder.glob(f"{key}-*.onnx"))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: nobody's home
        return start(model)
    as_it_is = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for file in found:
        with suppress(Exception):  # ONNX Runtime's errors have nothing else in common
            if file.stem == f"{key}-{_digest(file, folder)}":
                return start(file, graph_optimization_level=as_it_is)
        _remove(file)  # it was damaged
    return _make(start, model, folder, key)


def _make(start: Start, model: Path, folder: Path, key: str) -> Any:
    """A session of the model; its graph is written aside, and gets its name when it is whole."""
    part = folder / f"{key}-{os.urandom(8).hex()}.part"
    try:
        session = start(model, optimized_model_filepath=str(part))
    except Exception:  # a full disk, or the model itself, which then says so again
        _remove(part)
        return start(model)
    try:
        with part.open("rb+") as content:
            os.fsync(content.fileno())  # no name without its content, even after a power cut
        part.replace(folder / f"{key}-{_sha256(part)}.onnx")
        for pattern, most in (("*.onnx", KEPT), ("*.part", KEPT), ("*.sha256", NOTES)):
            ages = sorted((-file.stat().st_mtime_ns, file) for file in folder.glob(pattern))
            for _, file in ages[most:]:
                _remove(file)
    except OSError:  # another start may have cleared it away
        _remove(part)
    return session


def _folder() -> Path:
    """Where graphs are kept, made if need be.

    Raises:
        OSError: it cannot be made, or others may write to it, whose graphs are not to be run.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (place if place.is_absolute() else Path.home() / ".cache") / "edgekd" / "sessions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OSError(f"{folder} is not this user's alone")
    return folder


def _key(ort: Any, model: Path, folder: Path) -> str:
    """All that the optimised graph depends on.

    Raises:
        OSError: this system does not say what CPU it has, or a file cannot be read.
    """
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    told = {line for line in lines if line.partition(":")[0].strip().lower() in TOLD_BY}
    build = getattr(ort, "get_build_info", str)()
    parts = [LAYOUT, ort.__version__, build, CPU, platform.machine(), *sorted(told)]
    parts.append(_digest(model, folder))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _digest(file: Path, folder: Path) -> str:
    """The sha256 of a file, noted down for as long as that is not written to.

    Hashing can take as long as is to be saved. A note is believed as Git believes its index: the
    file has the same place, size and times, and was not changed shortly before. Nobody can set the
    time of change; where it has whole seconds (FAT, squashfs, images made with fixed times), two
    files could share it, so that there every start hashes.
    """
    seen = _seen(file)
    note = folder / f"{hashlib.sha256(repr(seen).encode()).hexdigest()[:32]}.sha256"
    changed = seen[-1]
    told = changed % 10**9 != 0 and time.time() - changed / 1e9 > SETTLED
    if told and note.exists():
        digest, _, check = note.read_text("ascii", "replace").partition(" ")
        if check == hashlib.sha256(digest.encode()).hexdigest():
            return digest
    digest = _sha256(file)
    if told and seen == _seen(file):
        check = hashlib.sha256(digest.encode()).hexdigest()
        part = note.with_name(f"{note.stem}-{os.urandom(8).hex()}.part")
        try:
            part.write_text(f"{digest} {check}", "ascii")
            part.replace(note)
        except OSError:
            _remove(part)
    return digest


def _seen(file: Path) -> Any:
    """What tells a file from all others and from itself before it was written to."""
    found, place = file.stat(), str(file.resolve())
    times = found.st_mtime_ns, found.st_ctime_ns
    return (place, found.st_dev, found.st_ino, found.st_size, *times)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        for piece in iter(lambda: content.read(1 << 18), b""):
            digest.update(piece)
    return digest.hexdigest()


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
