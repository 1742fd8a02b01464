"""One workshop, whose disk can fail, and one stock for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import stock
from tests.faults.doomed import Workshop, workshop
from tests.faults.writes import Disk, failing_workshop


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workshop, Disk | None]]:
    if shutil.which("cc") is None:
        with workshop() as shop:
            yield shop, None
    else:
        with failing_workshop(tmp_path_factory.mktemp("failing")) as (shop, disk):
            yield shop, disk


@pytest.fixture(scope="session")
def shop(opened: tuple[Workshop, Disk | None]) -> Workshop:
    return opened[0]


@pytest.fixture
def disk(opened: tuple[Workshop, Disk | None]) -> Iterator[Disk]:
    """It is well again afterwards."""
    disk = opened[1]
    if disk is None:
        pytest.skip("there is no C compiler to make a disk that fails with")
    yield disk
    disk.well()


@pytest.fixture(scope="session")
def source(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands need; only to read."""
    return stock(shop, tmp_path_factory.mktemp("stock") / "stock")
