"""What a person reads of an explanation."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.cli._explained import print_explanation
from edgekd.export._explaining.stages import Explanation, Spot, Stage

NODE = "/network/stages/stages.2/stages.2.0/conv1/conv/Conv"
REASON = "12% of its output lies outside of what its scale holds: 0 to 0.3"


def explanation(**fields: Any) -> dict[str, Any]:
    spot = Spot("int8", "Conv", NODE, "t", 36.4, 4.2, REASON)
    other = Spot("int8", "LayerNormalization", "node_[bold]odd[/bold]", "u", 30, 24, "a reason")
    stages = (
        Stage("preprocess", "a with b", None, 90.0, True, "outside"),
        Stage("export", "a with b", 131.2, 90.0, True),
        Stage("int8", "a with b", 4.0, 15.0, False),
    )
    made = Explanation(32, stages, (spot, other), spot, f"It is at {NODE}; {REASON}.")
    return {**made.to_dict(), **fields}


def test_stages_nodes_reasons_and_the_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_explanation(explanation())
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["preprocess", "-", "90", "dB"] in rows
    assert ["export", "131", "dB", "90", "dB", "good"] in rows
    assert ["int8", "4", "dB", "15", "dB", "BAD"] in rows
    tables = text.split("LayerNormalization node_")[0].splitlines()
    assert max(len(line.rstrip()) for line in tables) <= 80
    (row,) = (line for line in tables if line.rstrip().endswith("32 dB"))
    assert row.split()[0].startswith("...")
    assert row.split()[0].endswith("conv1/conv/Conv")
    assert "node_[bold]odd[/bold]" in text  # a name is no markup
    assert "LayerNormalization node_[bold]odd[/bold]: a reason." in text
    assert text.count(REASON) == 1  # the sentence has it
    assert text.rstrip().endswith(f"It is at {NODE}; {REASON}.")


def test_an_overflow_has_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    spot = Spot("fp16", "Conv", "c", "t", 64.0, -200.0).to_dict()
    print_explanation(explanation(worst=[spot], stages=[]))
    text = capsys.readouterr().out
    assert "nothing right" in text
    assert "-200" not in text
    assert "264" not in text


def test_what_could_not_be_explained_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_explanation(explanation(stages=[], worst=[], sentence="It does not open."))
    assert capsys.readouterr().out == "It does not open.\n"
