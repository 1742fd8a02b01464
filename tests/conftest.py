"""One thread for every test and every process a test starts, and one teacher for all of them.

Two threads that wait for each other on two busy cores take ten times as long as one; and results
are compared bit by bit, which holds for equal numbers of threads.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch, which reads it, is imported later
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all of torch anew
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs aside
    signal.signal(signal.SIGINT, signal.default_int_handler)


# the same examples each time; `pytest --hypothesis-profile=search` draws others, and more of them
settings.register_profile("edgekd", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=3000, print_blob=True)
settings.load_profile("edgekd")

LONGEST = ("test_docs.py", "test_killed.py", "test_wheel.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one worker would be busy with one while others wait."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What methods learn from a teacher is kept in a cache; not in that of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-14 that knows digits of 8x8 pixels, as ``edgekd teach`` leaves it; only to read."""
    from edgekd.flow.training import teach
    from edgekd.recipe import recipe_from

    table = {
        "data": {"source": "digits", "size": 8, "limit": 300},
        "teacher": {"name": "resnet14"},
        "teach": {"epochs": 6, "batch_size": 32, "lr": 0.1, "precision": "fp32"},
    }
    return teach(recipe_from(table), tmp_path_factory.mktemp("taught") / "teacher").path


@pytest.fixture
def teacher(taught: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return shutil.copytree(taught, tmp_path / "teacher")
