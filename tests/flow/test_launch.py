"""What a verb in several processes agrees on before it trains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from edgekd.flow.job import METRICS, Job
from edgekd.flow.launch import check_alike, check_seen, one_first, wrote
from edgekd.recipe import Recipe
from edgekd.watching import Silent

APART = """
import sys
from pathlib import Path
from edgekd.errors import EdgeKDError
from edgekd.flow import launch
launch.PATIENCE_S = 1.0
try:
    {what}
except EdgeKDError as error:
    sys.exit(str(error))
except RuntimeError:
    sys.exit("lost")
"""


def apart(what: str, places: list[Path]) -> list[str]:
    """What two processes, each of a machine of its own, say when they end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", APART.format(what=what)]
    running = [
        subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **found, "RANK": str(rank), "PYTHONPATH": str(Path.cwd())},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, place in enumerate(places)
    ]
    try:
        return [process.communicate(timeout=200)[1] for process in running]
    finally:
        for process in running:
            process.kill()


def test_one_process_agrees_with_itself(tmp_path: Path) -> None:
    with one_first():
        check_alike("hash")
        check_seen(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_this_launch_wrote_is_not_thrown_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recipe()
    job = Job("student", made.student, made.train, {"ce": {}}, made, tmp_path, Silent(), True)
    file = tmp_path / METRICS
    assert job.discards
    file.parent.mkdir()
    file.touch()
    assert job.discards, "nobody launched it: --restart means what it says"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert wrote(file)
    assert not job.discards
    before = psutil.Process(os.getppid()).create_time() - 10
    os.utime(file, (before, before))
    assert job.discards, "it is of an earlier training"
    assert not replace(job, restart=False).discards


@pytest.mark.slow
@pytest.mark.parametrize("shares", [True, False])
def test_a_folder_that_one_machine_does_not_see_is_refused(tmp_path: Path, shares: bool) -> None:
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        (place / "out").mkdir(parents=True)
    if shares:
        places[1] = places[0]
    main, other = apart("launch.meet(); launch.check_seen(Path('out'))", places)
    assert ("is not the folder that the main process writes" in other) is not shares, other
    assert ("lost" in main) is not shares, main
    assert not list((places[0] / "out").iterdir())


@pytest.mark.slow
def test_machines_with_other_images_are_refused(tmp_path: Path) -> None:
    what = "launch.check_alike(__import__('os').environ['RANK']); launch.wait()"
    main, other = apart(what, [tmp_path, tmp_path])
    assert "reads other images or other weights than the main one" in other
    assert "lost" in main
