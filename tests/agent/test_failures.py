"""Exit codes and missing parts as sentences that say what to do."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

from edgekd.agent import releases
from edgekd.agent.failures import Crash, explain, explain_import, explain_text

MACHINE = platform.machine()


def crash(code: int, stderr: str = "", cpu: str = "Cortex-A72") -> tuple[str, str]:
    error = explain(Crash(code, stderr, "net.onnx", "ort", cpu, 100 * 2**20))
    return error.kind, str(error)


@pytest.mark.parametrize("code", [-4, 132])  # as subprocess says it, and as a shell does
def test_illegal_instruction(code: int) -> None:
    kind, text = crash(code)
    assert kind == "crash"
    assert "does not run on Cortex-A72" in text
    assert "onnxruntime 1.21 from PyPI dies so on Cortex-A72" in text
    assert "microsoft/onnxruntime#23957, #24112" in text
    assert f"{sys.executable} -m pip install 'onnxruntime!=1.21.*'" in text


def test_an_illegal_instruction_on_a_cpu_without_a_known_case() -> None:
    text = crash(-4, cpu="Intel Atom")[1]
    assert "does not run on Intel Atom" in text
    assert "Cortex" not in text
    assert "'onnxruntime<1.21'" in text


@pytest.mark.parametrize(
    ("runtime", "words"),
    [("openvino", "'openvino=="), ("trt", "JetPack's"), ("a probe", "a build that was made for")],
)
def test_an_illegal_instruction_of_another_runtime(runtime: str, words: str) -> None:
    text = str(explain(Crash(-4, "", "net.onnx", runtime)))
    assert words in text
    assert "onnxruntime" not in text


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (-9, "memory", "ran out of memory: 100 MiB was free before. Use a smaller batch"),
        (137, "memory", "ran out of memory"),
        (-11, "crash", "crashed (SIGSEGV"),
        (-7, "crash", "Check the disk space"),
        (-6, "crash", "gave up (SIGABRT)"),
        (-15, "crash", "told to stop"),
        (-31, "crash", "was ended by signal 31"),
        (1, "crash", "ended with exit code 1. It said: Traceback / ValueError: 7"),
    ],
)
def test_exit_codes(code: int, kind: str, words: str) -> None:
    found, text = crash(code, "Traceback\n\nValueError: 7\n")
    assert found == kind
    assert words in text
    assert "ort with net.onnx" in text


def test_lines_of_sources_are_left_out() -> None:
    try:
        try:
            np.empty((10**6,) * 3)
        except MemoryError as error:
            raise ValueError("7") from error
    except ValueError:
        text = crash(1, f"a warning\n{traceback.format_exc()}")[1]
    first, then = (
        "Unable to allocate",
        "was the direct cause of the following exception: / ValueError: 7",
    )
    assert "It said: a warning / " in text
    assert first in text
    assert "_ArrayMemoryError" not in text
    assert then in text
    assert "Traceback" not in text
    assert "File" not in text
    assert "raise" not in text


def test_unknown_memory_is_not_invented() -> None:
    assert "an unknown amount" in str(explain(Crash(-9, "", "net.onnx", "ort")))


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("ModuleNotFoundError: No module named 'numpy'", "module", "-m pip install numpy"),
        (
            "No module named 'onnxruntime.capi'",
            "module",
            "has 'onnxruntime', and in it no 'onnxruntime.capi': it was made for another Python",
        ),
        ("No module named 'PIL'", "module", "-m pip install pillow"),
        (
            "ImportError: /x/libfoo.so: wrong ELF class: ELFCLASS64",
            "architecture",
            f"/x/libfoo.so was made for another kind of CPU than this one, which is {MACHINE}",
        ),
        (
            "libfoo.so.1: cannot open shared object file: Exec format error",
            "architecture",
            "libfoo.so.1 was made for another kind of CPU",
        ),
        (
            "OSError: [Errno 8] Exec format error: '/x/trtexec'",
            "architecture",
            "/x/trtexec was made",
        ),
        ("/x/a.so: file too short", "library", "/x/a.so is not a whole library"),
        (
            "/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by x.so)",
            "library",
            "wants GLIBCXX_3.4.29, which this one lacks. Install an older release",
        ),
        (
            "libcudnn.so.9: cannot open shared object file: No such file",
            "library",
            "needs libcudnn.so.9, which is not on this device's library path",
        ),
        (
            "/lib/libm.so.6: version `GLIBC_2.29' not found (required by x.so)",
            "library",
            "wants GLIBC_2.29",
        ),
    ],
)
def test_missing_parts(said: str, kind: str, words: str) -> None:
    error = explain_import(said)
    assert error is not None
    assert error.kind == kind
    assert words in str(error)
    assert crash(1, said) == (kind, str(error))  # found in a child's last words as well


def test_other_errors_are_not_missing_parts() -> None:
    assert explain_import("ValueError: 7") is None
    assert explain_text("ValueError: 7") is None


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "OSError: [Errno 28] No space left on device: 'x'",
            "disk",
            "the disk of the device is full",
        ),
        ("OSError: [Errno 30] Read-only file system: 'x'", "disk", "file system is read-only"),
        ("numpy._core._exceptions._ArrayMemoryError: MemoryError", "memory", "smaller batch"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "memory", "bad_alloc"),
        ("OSError: [Errno 12] Cannot allocate memory", "memory", "ran out of memory"),
        (
            "ERROR: ort-1.23.2-cp310-cp310-x.whl is not a supported wheel on this platform.",
            "architecture",
            "ort-1.23.2-cp310-cp310-x.whl is a wheel for another Python or CPU than this",
        ),
    ],
)
def test_what_a_system_lacks(said: str, kind: str, words: str) -> None:
    error = explain_text(said)
    assert error is not None
    assert error.kind == kind
    assert words in str(error)
    assert explain_import(said) is None
    found, text = crash(1, said)
    assert found == kind
    assert text.startswith("ort with net.onnx: ")  # and who met it
    assert text.endswith(f"It said: {said}")


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files")
def test_a_library_for_another_cpu_in_the_systems_own_words(tmp_path: Path) -> None:
    """Of such a file, glibc says that there is none."""
    own = min((Path(np.__file__).parent / "random").glob("*.so"))
    other = Path(shutil.copy(own, tmp_path / "other.so"))
    with other.open("r+b") as file:
        file.seek(18)  # e_machine
        file.write((40 if MACHINE != "armv7l" else 62).to_bytes(2, "little"))
    with pytest.raises(OSError, match=r"other\.so") as caught:
        ctypes.CDLL(str(other))
    error = explain_import(str(caught.value))
    assert error is not None
    assert error.kind == "architecture"
    assert str(other) in str(error)


@pytest.mark.parametrize(
    ("package", "python", "wanted"),
    [
        ("onnxruntime", (3, 8), "onnxruntime==1.19.2"),
        ("onnxruntime", (3, 9), "onnxruntime==1.19.2"),
        ("onnxruntime", (3, 10), "onnxruntime==1.23.2"),
        ("onnxruntime", (3, 13), "onnxruntime"),
        ("numpy", (3, 8), "numpy==1.24.4"),
        ("openvino", (3, 8), "openvino"),
    ],
)
def test_the_newest_release_for_a_python(
    package: str, python: tuple[int, int], wanted: str
) -> None:
    assert releases.requirement(package, python) == wanted


@pytest.mark.parametrize(
    ("package", "machine", "tegra", "words"),
    [
        ("tensorrt", "aarch64", True, "sudo apt install python3-libnvinfer; do not pip"),
        ("tensorrt", "x86_64", False, "py -m pip install 'tensorrt'"),
        ("onnxruntime-gpu", "aarch64", True, "PyPI has none for aarch64"),
        ("onnxruntime-gpu", "x86_64", False, "py -m pip install 'onnxruntime-gpu'"),
    ],
)
def test_how_to_install(package: str, machine: str, tegra: bool, words: str) -> None:
    assert words in releases.how_to_install(package, "py", machine, tegra)
