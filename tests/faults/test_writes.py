"""Disks that fail at any write: it is said, nothing half-written stays, the same command goes on.

A few writes here; ``tools/faults --writes 30`` takes as many as one likes of every command.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, OTHERS
from tests.faults.doomed import Workshop
from tests.faults.writes import Disk, starve, table


@pytest.mark.parametrize("verb", ["teach", "deploy"])
def test_a_few(verb: str, shop: Workshop, disk: Disk, source: Path, tmp_path: Path) -> None:
    found = starve(shop, disk, verb, source, tmp_path / "place", 2)
    print(table([found]))
    assert found.lost == []
    assert found.writes > 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", [*COMMANDS, *OTHERS])
def test_many(verb: str, shop: Workshop, disk: Disk, source: Path, tmp_path: Path) -> None:
    found = starve(shop, disk, verb, source, tmp_path / "place", 30)
    print(table([found]))
    assert found.lost == []
