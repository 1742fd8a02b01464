"""What goes over the link for a model that a device knows already: bytes, counted on their way.

How long it takes is for ``tools/bench/first_number.py`` to say.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from edgekd.devices import reach
from edgekd.profiling import Policy, profile
from tests.cli.conftest import Command, edgekd
from tests.edge_env import Edge, edge_python
from tests.proxy import Proxy, proxied
from tests.sshd import needs_sshd, serving

__all__ = ["edge_python", "edgekd"]  # fixtures
TINY = run_path(str(Path(__file__).parent / "agent" / "tiny_models.py"))
MOST = 20_000
SIDE, COUNT = 32, 200
Link = tuple[Edge, Proxy]


@pytest.fixture(scope="module")
def link(edge_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    """A machine, and what counts the bytes on the way to it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(tmp_path_factory.mktemp("sshd")) as server,
        proxied(server.port) as proxy,
    ):
        through = replace(server, port=proxy.port)
        through.know(through.public("host"))
        through.use("mine", patch)
        yield Edge(through, edge_python), proxy


@needs_sshd
def test_a_known_model_is_measured_for_a_few_bytes(
    link: Link, tmp_path: Path, edgekd: Command
) -> None:
    edge, proxy = link
    model = TINY["classifier"](tmp_path / "tiny.onnx", size=(SIDE, SIDE))
    sent = []
    for _ in range(2):
        before = proxy.sent
        quick = ["--max-seconds", "0.5", "--threads", "1", "--json"]
        answer = edgekd("profile", model, "--device", edge.address, *quick)
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)[0]["timing"]["n"] > 1
        sent.append(proxy.sent - before)
    assert sent[0] > 50_000  # the agent alone
    assert sent[1] < MOST


@needs_sshd
def test_known_images_are_not_sent_again(link: Link, tmp_path: Path) -> None:
    edge, proxy = link
    model = TINY["classifier"](tmp_path / "tiny.onnx", size=(SIDE, SIDE))
    np.save(tmp_path / "images.npy", TINY["pictures"](COUNT, (SIDE, SIDE)))
    np.save(tmp_path / "targets.npy", np.zeros(COUNT, np.int64))
    sent = []
    for _ in range(2):
        before = proxy.sent
        (record,) = profile(
            [model],
            reach(edge.address),
            Policy(max_seconds=0.5, threads=1),
            images=tmp_path / "images.npy",
            targets=tmp_path / "targets.npy",
        )
        assert record["accuracy"]["n"] == COUNT
        sent.append(proxy.sent - before)
    assert sent[0] > 3 * SIDE * SIDE * COUNT
    assert sent[1] < MOST


@needs_sshd
@pytest.mark.slow
def test_the_wait_is_measured() -> None:
    """How long it is depends on the machine, and is not looked at here."""
    tool = Path(__file__).parents[1] / "tools" / "bench" / "first_number.py"
    done = subprocess.run(
        [sys.executable, tool, "--rounds", "1"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    rows = re.findall(r"^  (device|local|local again) +\d+\.\d\d \[", done.stdout, re.MULTILINE)
    assert rows == ["device", "local", "local again"]
    assert re.search(r"^bytes sent: \d[\d,]+ the first time", done.stdout, re.MULTILINE)
