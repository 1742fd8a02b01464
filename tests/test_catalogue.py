"""What edgekd list method says: read from the files, never imported, and true."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgekd import plugins
from edgekd.catalogue import methods

METHODS = methods()


def test_every_method_is_there() -> None:
    assert list(METHODS) == list(plugins.summaries("method"))


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_of_a_method_is_what_it_does(name: str) -> None:
    entry, kind = METHODS[name], plugins.load("method", name)
    assert set(entry.needs) == set(kind.needs)
    assert entry.suits.endswith(".")
    assert 20 < len(entry.suits) <= 130
    assert 10 < len(entry.summary) <= 90
    assert entry.cost is not None
    assert 0.1 < entry.cost < 20


def test_reconstructions_are_called_so() -> None:
    assert "reconstruction" in METHODS["rtk"].summary
    assert "reconstruction" in METHODS["kr"].summary


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from edgekd.catalogue import methods; methods(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
