"""Exit codes and missing parts as sentences that say what to do."""

from __future__ import annotations

import pytest

from edgekd.agent.failures import Crash, explain, explain_import


def crash(code: int, stderr: str = "") -> tuple[str, str]:
    error = explain(Crash(code, stderr, "net.onnx", "ort", "Cortex-A72", 100 * 2**20))
    return error.kind, str(error)


@pytest.mark.parametrize("code", [-4, 132])  # as subprocess says it, and as a shell does
def test_illegal_instruction(code: int) -> None:
    kind, text = crash(code)
    assert kind == "crash"
    assert "does not run on Cortex-A72" in text
    assert "pip install 'onnxruntime<1.21'" in text


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


def test_unknown_memory_is_not_invented() -> None:
    assert "an unknown amount" in str(explain(Crash(-9, "", "net.onnx", "ort")))


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("ModuleNotFoundError: No module named 'numpy'", "module", "-m pip install numpy"),
        ("No module named 'onnxruntime.capi'", "module", "-m pip install onnxruntime"),
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
