"""The crew that decodes: the same batches, in bounded memory, and nobody stays behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Indices, Pixels
from edgekd.errors import CrewError, DataError
from edgekd.loading.crew import Crew

SIDE = (4, 4)


def show(epoch: int, image: int) -> tuple[Pixels, int]:
    """An image that says which it is."""
    if image == 99:
        raise DataError("cannot read image 99")
    if image == 98:
        raise ZeroDivisionError("nobody thought of it")
    return np.full((*SIDE, 3), 10 * epoch + image, np.uint8), 100 * epoch + image


def rows(*images: int) -> Indices:
    return np.array(images, np.int64)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rpartition(") ")[2][0] != "Z"


def gone(*pids: int) -> bool:
    limit = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_they_were_asked_for(workers: int) -> None:
    crew = Crew(workers)
    desk, other = crew.seat(show, 5, SIDE, 3), crew.seat(show, 2, SIDE, 2)
    crew.ask(desk, 1, rows(3, 1, 4, 1, 5))
    crew.ask(other, 2, rows(7))
    crew.ask(desk, 0, rows(9, 2))
    for at, index, epoch in ((desk, [3, 1, 4, 1, 5], 1), (desk, [9, 2], 0), (other, [7], 2)):
        pixels, views, chosen = crew.take(at)
        assert chosen.tolist() == index
        assert pixels.shape == (len(index), *SIDE, 3)
        assert (pixels == (10 * epoch + chosen)[:, None, None, None]).all()
        assert views.tolist() == [100 * epoch + image for image in index]
    assert desk.decoded == 7
    assert desk.busy > 0
    assert len(crew.processes) == workers


def test_a_slot_is_used_again_and_again() -> None:
    crew = Crew(1)
    desk = crew.seat(show, 2, SIDE, 2)
    crew.ask(desk, 0, rows(0, 0))
    for number in range(1, 20):
        crew.ask(desk, 0, rows(number, number))
        assert (crew.take(desk)[0] == number - 1).all()
    assert desk.pixels.nbytes == 2 * 2 * 4 * 4 * 3


def test_what_was_dropped_is_not_handed_out() -> None:
    crew = Crew(2)
    desk = crew.seat(show, 2, SIDE, 3)
    for number in (1, 99, 3):
        crew.ask(desk, 0, rows(number, number))
    crew.drop(desk)
    crew.ask(desk, 0, rows(4, 5))
    assert crew.take(desk)[2].tolist() == [4, 5]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_does_not_end_the_crew(workers: int) -> None:
    crew = Crew(workers)
    desk = crew.seat(show, 4, SIDE, 3)
    crew.ask(desk, 0, rows(1, 2, 99, 4))
    crew.ask(desk, 0, rows(98))
    crew.ask(desk, 0, rows(5))
    with pytest.raises(DataError, match=r"^cannot read image 99$"):
        crew.take(desk)
    with pytest.raises(RuntimeError if workers else ZeroDivisionError, match="nobody thought of"):
        crew.take(desk)
    assert crew.take(desk)[2].tolist() == [5]


def test_a_loader_that_comes_late_is_refused() -> None:
    crew = Crew(1)
    crew.ask(crew.seat(show, 1, SIDE, 1), 0, rows(1))
    with pytest.raises(RuntimeError, match="the crew is at work"):
        crew.seat(show, 1, SIDE, 1)


def test_a_process_that_is_killed_is_told_of_and_the_next_batch_has_a_new_crew() -> None:
    crew = Crew(2)
    desk = crew.seat(show, 4, SIDE, 2)
    crew.ask(desk, 0, rows(1, 2, 3, 4))
    crew.take(desk)
    first = crew.processes
    os.kill(first[0], signal.SIGKILL)

    def go_on() -> None:
        for _ in range(3):
            crew.ask(desk, 0, rows(1, 2, 3, 4))
            crew.take(desk)

    with pytest.raises(CrewError, match=r"ended by signal 9; .* Lower data.workers or train.bat"):
        go_on()
    assert gone(*first)
    crew.drop(desk)
    crew.ask(desk, 0, rows(6))
    assert crew.take(desk)[2].tolist() == [6]
    assert not set(crew.processes) & set(first)


def leave(epoch: int, image: int) -> tuple[Pixels, int]:
    os._exit(7)


def test_a_process_that_ends_by_itself_is_told_of_with_its_code() -> None:
    crew = Crew(1)
    desk = crew.seat(leave, 4, SIDE, 2)
    crew.ask(desk, 0, rows(1))
    with pytest.raises(CrewError, match=r"images has ended by itself, with exit code 7\. Lower"):
        crew.take(desk)


def test_the_crew_leaves_with_its_last_loader() -> None:
    crew, other = Crew(2), Crew(1)
    for one in (crew, other):  # the later one holds copies of the earlier one's lines
        one.ask(one.seat(show, 1, SIDE, 1), 0, rows(1))
    pids, rest = crew.processes, other.processes
    begun = time.monotonic()
    del crew, one
    gc.collect()
    assert gone(*pids)
    assert time.monotonic() - begun < 5  # they were asked to, and not ended
    assert all(map(alive, rest))


def slow(epoch: int, image: int) -> tuple[Pixels, int]:
    time.sleep(0.05)
    return show(epoch, image)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_nobody_stays_behind_where_the_training_ends_in_the_middle(
    how: signal.Signals | None,
) -> None:
    told, tell = os.pipe()
    training = os.fork()
    if not training:
        crews = [Crew(2), Crew(1)]
        for crew in crews:
            crew.ask(crew.seat(slow, 8, SIDE, 2), 0, np.arange(8))
        pids = [pid for crew in crews for pid in crew.processes]
        os.write(tell, " ".join(map(str, pids)).encode())
        time.sleep(60 if how else 0)
        os._exit(3)
    pids = [int(word) for word in os.read(told, 100).split()]
    assert len(pids) == 3
    if how:
        os.kill(training, how)
    os.waitpid(training, 0)
    assert gone(*pids)


PROGRAM = """
import numpy as np
from edgekd.loading.crew import Crew
crew = Crew(2)
crew.ask(crew.seat(lambda epoch, image: (np.zeros((4, 4, 3)), 0), 8, (4, 4), 2), 0, np.arange(8))
print(*crew.processes, flush=True)
raise KeyboardInterrupt
"""


def test_a_program_that_ends_takes_its_crew_along() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode
    assert gone(*map(int, done.stdout.split()))
    assert len(done.stdout.split()) == 2  # the crew has not printed it again


def test_the_crew_does_not_stop_where_the_training_is_asked_to() -> None:
    crew = Crew(2)
    desk = crew.seat(show, 2, SIDE, 1)
    crew.ask(desk, 0, rows(1, 2))
    crew.take(desk)
    for pid in crew.processes:  # Ctrl-C and a service's stop reach the whole group
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    crew.ask(desk, 0, rows(3, 4))
    assert crew.take(desk)[2].tolist() == [3, 4]


def test_where_processes_cannot_be_forked_images_are_decoded_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "fork")
    assert Crew(4).workers == 0
