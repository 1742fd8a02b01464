"""Pinning, on made-up boards and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.agent.failures import AgentError
from edgekd.agent.pinning import choose, pin, spans
from tests.agent.machines import machine

ALL = list(range(8))
CPU = "sys/devices/system/cpu/cpu{}/"


def board(root: Path, *cores: tuple[str, int | None, int | None]) -> Path:
    """A board whose cores have a part, a capacity and a highest frequency."""
    files = {}
    blocks = [f"processor\t: {n}\nCPU part\t: {part}\n" for n, (part, _, _) in enumerate(cores)]
    files["proc/cpuinfo"] = "\n".join(blocks)
    for n, (_, capacity, khz) in enumerate(cores):
        files[CPU.format(n) + "online"] = "1"
        if capacity is not None:
            files[CPU.format(n) + "cpu_capacity"] = str(capacity)
        if khz is not None:
            files[CPU.format(n) + "cpufreq/cpuinfo_max_freq"] = str(khz)
    return machine(root, files)


LITTLE, BIG = "0xd05", "0xd0b"
RK3588 = [(LITTLE, 530, 1_800_000)] * 4 + [(BIG, 1024, 2_400_000)] * 2 + [(BIG, 994, 2_256_000)] * 2
CLOSE = [("0xd03", None, 2_000_000)] * 2 + [("0xd09", None, 2_100_000)] * 4
PHONE = (
    [(LITTLE, 300, 1_800_000)] * 4 + [("0xd41", 800, 2_400_000)] * 3 + [("0xd44", 1024, 3_000_000)]
)
ONE_PART = [("0xd03", None, 1_200_000)] * 4 + [("0xd03", None, 1_800_000)] * 4


@pytest.mark.parametrize(("cores", "little"), [(RK3588, 4), (CLOSE, 2), (PHONE, 4), (ONE_PART, 4)])
def test_big_and_little(
    tmp_path: Path, cores: list[tuple[str, int | None, int | None]], little: int
) -> None:
    root, every = board(tmp_path, *cores), list(range(len(cores)))
    assert choose("little", every, root) == every[:little]
    assert choose("big", every, root) == every[little:]
    assert choose("big", every[:-1], root) == every[little:-1]  # a container has fewer


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        ([(BIG, 1024, 2_400_000)] * 4, r"\(0-3\) are all alike"),
        ([(BIG, None, 2_400_000)] * 2 + [(BIG, None, 2_256_000)] * 2, r"\(0-3\) are all alike"),
        ([(LITTLE, None, None)] * 2 + [(BIG, None, None)] * 2, "do not say how fast they are"),
    ],
)
def test_no_big_ones_is_a_sentence(
    tmp_path: Path, cores: list[tuple[str, int | None, int | None]], words: str
) -> None:
    with pytest.raises(AgentError, match=f"the big CPUs were asked for.*{words}.*--affinity 0"):
        choose("big", [0, 1, 2, 3], board(tmp_path, *cores))


def test_numbers() -> None:
    assert choose("4-6,1", ALL) == [1, 4, 5, 6]
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    with pytest.raises(AgentError, match="may not use 8-9: it may use 0-7") as caught:
        choose("7-9", ALL)
    assert caught.value.kind == "job"
    for words in ("middle", "5-4"):
        with pytest.raises(AgentError, match=f"the CPUs {words} were asked for"):
            choose(words, ALL)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_this_process_is_pinned_and_its_threads_with_it() -> None:
    last = max(os.sched_getaffinity(0))
    script = (
        "import os, threading\n"
        "from edgekd.agent.pinning import pin\n"
        f"found = pin('{last}')\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(sorted(os.sched_getaffinity(0))))\n"
        "thread.start(); thread.join()\n"
        "print(found, *seen)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\n")[0] == f"[{last}] [{last}]"
    assert pin("") == sorted(os.sched_getaffinity(0))
    with pytest.raises(AgentError, match="may not use 4096"):
        pin("4096")
