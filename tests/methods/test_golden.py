"""A method gives the very loss it gave before; ``tools/golden`` rewrites what that was."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from edgekd import plugins

ROOT = Path(__file__).parents[2]
GOLDEN: dict[str, dict[str, float]] = json.loads((ROOT / "tests" / "golden.json").read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    losses: dict[str, dict[str, float]] = runpy.run_path(str(ROOT / "tools" / "golden"))["losses"]()
    return losses


def test_every_method_has_a_golden_number() -> None:
    assert set(plugins.summaries("method")) < set(GOLDEN)


@pytest.mark.parametrize("text", GOLDEN)
def test_the_loss_is_what_it_was(text: str, found: dict[str, dict[str, float]]) -> None:
    assert found[text] == pytest.approx(GOLDEN[text], rel=1e-9)
