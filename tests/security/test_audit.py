"""The audit of what edgekd installs says what is known, and what could not be found out."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "audit"
CLEAN = {"name": "numpy", "version": "2.4.0", "vulns": []}
KNOWN = {
    "name": "pillow",
    "version": "10.0.0",
    "vulns": [
        {"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"]},
        {"id": "GHSA-nobody-mended-it", "fix_versions": []},
    ],
}
SKIPPED = {"name": "torch", "skip_reason": "not found on the service"}


@pytest.fixture
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL), run_name="audit")


@pytest.mark.parametrize(
    ("entries", "code", "said"),
    [
        ([CLEAN], 0, "1 packages looked up, no known vulnerabilities\n"),
        ([CLEAN, KNOWN], 1, "pillow   10.0.0   PYSEC-2023-175         10.0.1\n"),
        ([KNOWN], 1, "GHSA-nobody-mended-it  -\n1 packages looked up, 2 known vulnerabilities\n"),
        ([CLEAN, SKIPPED], 2, "not looked up: torch: not found on the service\n1 packages"),
        ([KNOWN, SKIPPED], 1, "not looked up: torch"),
        ([], 2, "0 packages looked up, no known vulnerabilities\n"),
    ],
)
def test_an_answer_is_a_table_and_an_exit_code(
    tool: dict[str, Any],
    entries: list[Any],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"dependencies": entries, "fixes": []}))
    monkeypatch.setattr(sys, "argv", ["audit", "--answer", str(answer)])
    assert tool["main"]() == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "no JSON", "{}", "[]", '{"dependencies": [{}]}'])
def test_what_is_no_answer_is_said(
    tool: dict[str, Any],
    content: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "answer.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["audit", "--answer", str(tmp_path / "answer.json")])
    assert tool["main"]() == 2
    assert capsys.readouterr().err.startswith("audit: this is no answer of pip-audit's")


def test_a_mirror_that_knows_no_advisories_is_no_all_clear(tool: dict[str, Any]) -> None:
    answer = json.dumps({"dependencies": [SKIPPED, SKIPPED]})
    with pytest.raises(tool["UnavailableError"], match="none of 2 packages could be looked up"):
        tool["read"](answer)


def test_a_service_that_cannot_be_reached_is_said(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked through a proxy that is not there."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    pinned = tmp_path / "requirements.txt"
    pinned.write_text("numpy==2.0.0\n")
    with pytest.raises(tool["UnavailableError"], match="nothing could be looked up at 'osv'"):
        tool["asked"](pinned, "osv")
