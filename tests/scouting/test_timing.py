"""Jobs on a device that is none: the anchor, what is kept, and what cannot be measured."""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import DeviceError, LinkError, UsageError
from edgekd.profiling import Policy
from edgekd.scouting import timing
from edgekd.scouting.efforts import FIRST_RUNS, LATER_RUNS, Effort
from edgekd.scouting.keeping import Store, environment
from edgekd.scouting.ranking import Entry
from edgekd.scouting.timing import Stand
from edgekd.scouting.writing import Files

MADE = runpy.run_path(str(Path(__file__).parent / "entrants.py"))
entry, record, Quiet = MADE["entry"], MADE["record"], MADE["Quiet"]
BRIEF = Effort(FIRST_RUNS)


class Nowhere:
    """A device that only forgets."""

    name = "bench"

    def __init__(self) -> None:
        self.removed: list[str] = []

    def remove(self, remotes: Sequence[str]) -> None:
        self.removed += remotes


class Bench:
    """A stand with what there is around it, and the jobs that it made."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setattr(timing, "profile", self._profile)
        self.device, self.watch, self.tmp = Nowhere(), Quiet(), tmp_path
        self.jobs: list[list[str]] = []
        self.policies: list[Policy] = []
        self.refused: Callable[[list[str]], Exception | None] = lambda names: None
        self.unwritable: set[str] = set()
        self.apart, self.state = False, "stable"
        self.written: list[str] = []

    def stand(self, **facts: Any) -> Stand:
        around = environment("bench", {"cpu": "a CPU", **facts}, {"onnxruntime": "1.2"}, Policy())
        store, folder = Store(around, 10), self.tmp / "files"
        device: Any = self.device
        files = Files(self._sketch, store, folder, self.apart)
        return Stand(device, Policy(), files, store, self.watch)

    def time(self, entries: Sequence[Entry], effort: Effort = BRIEF) -> dict[str, Any]:
        return self.stand().time(entries, effort, lambda done, note: None)

    def _sketch(self, each: Entry, folder: Path) -> Path:
        if each.candidate.name in self.unwritable:
            raise RuntimeError("no such layer\nand more")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_text(each.key)
        self.written.append(each.key)
        return folder / "model.onnx"

    def _profile(
        self, files: Sequence[Path], device: Any, policy: Policy, on_event: Any
    ) -> list[dict[str, Any]]:
        names = [file.parent.name.removesuffix("-32px") for file in files]
        self.jobs.append(names)
        self.policies.append(policy)
        error = self.refused(names)
        if error is not None:
            raise error
        made = [
            record(float(len(self.jobs)), runs=policy.blocks * policy.block_runs)
            | {"verdict": {"state": self.state}}
            for _ in names
        ]
        return [*made, *({"comparison": {}} for _ in names[1:])]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def field(count: int) -> list[Entry]:
    return [entry(f"n{i}", 0.5, macs=100 * (i + 1)) for i in range(count)]


def test_every_job_has_the_anchor_first_and_nobody_else_twice(bench: Bench) -> None:
    stand = bench.stand()
    found = stand.time(field(20), BRIEF, lambda done, note: None)
    assert set(found) == {f"n{i}-32px" for i in range(20)}
    trial, *jobs = bench.jobs
    assert trial == ["n10"]  # of middling size
    assert all(job[0] == "n10" and len(job) <= 9 for job in jobs)
    assert sorted(name for job in jobs for name in job[1:]) == sorted(
        f"n{i}" for i in range(20) if i != 10
    )
    noise = stand.noise()
    assert noise is not None
    assert (noise.name, noise.medians) == ("n10-32px", (2.0, 3.0, 4.0))
    assert len(bench.written) == 20


def test_what_is_kept_is_not_timed_again(bench: Bench) -> None:
    first = bench.time(field(9))
    jobs = len(bench.jobs)
    again = bench.stand()
    found = again.time(field(9), BRIEF, lambda done, note: None)
    assert len(bench.jobs) == jobs
    assert all(outcome.cached for outcome in found.values())
    assert {k: o.record for k, o in found.items()} == {k: o.record for k, o in first.items()}
    noise = again.noise()
    assert noise is not None
    assert len(noise.medians) == 1
    more = bench.time(field(10))
    assert bench.jobs[-1] == ["n5", "n9"]
    assert [key for key, outcome in more.items() if not outcome.cached] == ["n9-32px"]


def test_a_better_measurement_does_for_a_lesser_one_and_not_the_other_way(bench: Bench) -> None:
    bench.time(field(2), Effort(LATER_RUNS))
    assert all(outcome.cached for outcome in bench.time(field(2)).values())
    full = Effort(150, last=True, energy=True)
    assert not any(outcome.cached for outcome in bench.time(field(2), full).values())
    assert bench.policies[-1].energy
    assert all(outcome.cached for outcome in bench.time(field(2), full).values())


def test_another_device_or_damage_is_measured_anew(bench: Bench) -> None:
    bench.time(field(2))
    stand = bench.stand(governor="powersave")
    found = stand.time(field(2), BRIEF, lambda done, note: None)
    assert not any(outcome.cached for outcome in found.values())
    for file in bench.stand().store.folder.glob("n0-*.json"):
        file.write_text('{"entry"')
    found = bench.time(field(2))
    assert [outcome.cached for outcome in found.values()].count(True) == 1
    bench.stand().store.forget(field(2))
    assert not any(outcome.cached for outcome in bench.time(field(2)).values())


def test_a_job_that_is_cut_off_leaves_those_before_it(bench: Bench) -> None:
    bench.refused = lambda names: LinkError("bench: gone") if len(bench.jobs) > 2 else None
    with pytest.raises(LinkError):
        bench.time(field(20))
    bench.refused = lambda names: None
    found = bench.time(field(20))
    assert [outcome.cached for outcome in found.values()].count(True) == 9  # a job, and its anchor


def test_who_cannot_be_run_is_found_and_the_others_are_measured(bench: Bench) -> None:
    bench.refused = lambda names: DeviceError("bench: no Einsum") if "n3" in names else None
    found = bench.time(field(9))
    assert found["n3-32px"].failed == "no Einsum"
    assert [key for key, outcome in found.items() if outcome.record is None] == ["n3-32px"]
    assert bench.watch.said == ["n3-32px is left out: no Einsum"]


def test_an_agent_that_was_ended_with_its_link_up_is_the_networks_doing(bench: Bench) -> None:
    killed = LinkError("bench: ended by signal 9", beyond=True)
    bench.refused = lambda names: killed if "n3" in names else None
    assert "signal 9" in str(bench.time(field(9))["n3-32px"].failed)


def test_what_cannot_be_exported_is_left_out(bench: Bench) -> None:
    bench.unwritable = {"n4", "n1"}  # the first to be tried as an anchor is one of them
    found = bench.time(field(8))
    assert found["n1-32px"].failed == "it could not be exported: RuntimeError: no such layer"
    assert sum(outcome.record is not None for outcome in found.values()) == 6
    assert all("n4" not in job for job in bench.jobs)


def test_a_device_that_runs_nothing_is_said_at_once(bench: Bench) -> None:
    bench.refused = lambda names: DeviceError("bench: there is no onnxruntime")
    with pytest.raises(DeviceError, match="no onnxruntime"):
        bench.time(field(100))
    assert len(bench.written) == 3
    bench.unwritable = {"a", "b"}
    with pytest.raises(DeviceError, match="none of 2 candidates could be measured"):
        bench.time([entry("a"), entry("b")])


def test_one_candidate_alone_is_its_own_anchor(bench: Bench) -> None:
    stand = bench.stand()
    found = stand.time(field(1), BRIEF, lambda done, note: None)
    assert found["n0-32px"].record is not None
    assert stand.noise() is None


def test_files_that_are_not_needed_any_more_go_here_and_there(bench: Bench) -> None:
    stand = bench.stand()
    stand.time(field(4), BRIEF, lambda done, note: None)
    stand.drop(field(4)[:2])
    assert sorted(folder.name for folder in (bench.tmp / "files").iterdir()) == [
        "n2-32px",
        "n3-32px",
    ]
    assert [address.rpartition("/")[2] for address in bench.device.removed] == ["model.onnx"] * 2
    stand.clear()
    assert not list((bench.tmp / "files").iterdir())
    assert len(bench.device.removed) == 4


def test_a_policy_that_cannot_be_is_nobodys_fault(bench: Bench) -> None:
    bench.refused = lambda names: UsageError("no such provider")
    with pytest.raises(UsageError, match="no such provider"):
        bench.time(field(3))


def test_what_was_not_steady_is_timed_again_by_a_later_scout_and_the_better_one_kept(
    bench: Bench,
) -> None:
    bench.state = "noisy"
    noisy = bench.time(field(3))
    stand = bench.stand()
    stand.time(field(3), BRIEF, lambda done, note: None)
    jobs = len(bench.jobs)
    stand.time(field(3), BRIEF, lambda done, note: None)
    assert len(bench.jobs) == jobs  # but not twice by the same one
    bench.state = "stable"
    good = bench.time(field(3))
    assert {o.record["verdict"]["state"] for o in good.values()} == {"stable"}
    jobs = len(bench.jobs)
    assert bench.time(field(3)) == {k: replace(o, cached=True) for k, o in good.items()}
    assert len(bench.jobs) == jobs
    assert noisy["n0-32px"].record["verdict"]["state"] == "noisy"


def test_what_is_never_steady_is_timed_three_times(bench: Bench) -> None:
    bench.state = "drifting"
    outcomes = [bench.time(field(2)) for _ in range(5)]
    assert [each["n0-32px"].cached for each in outcomes] == [False, False, False, True, True]
    bench.refused = lambda names: DeviceError("bench: out of memory")
    assert bench.time(field(2)) == outcomes[-1]


def test_a_retry_that_cannot_be_run_leaves_what_there_was(bench: Bench) -> None:
    bench.state = "noisy"
    bench.time(field(4))
    bench.refused = lambda names: DeviceError("bench: no memory") if "n3" in names else None
    found = bench.time(field(4))
    assert found["n3-32px"].failed is None
    assert found["n3-32px"].cached


def test_what_could_not_be_exported_is_not_tried_again_unless_it_is_forgotten(
    bench: Bench,
) -> None:
    bench.unwritable = {"n3"}
    first = bench.time(field(4))
    bench.unwritable.clear()
    again = bench.time(field(4))
    assert again["n3-32px"].failed == first["n3-32px"].failed
    assert bench.written.count("n3-32px") == 0
    bench.stand().store.forget(field(4))
    assert bench.time(field(4))["n3-32px"].record is not None


@pytest.mark.parametrize("apart", [True, False])
def test_the_next_files_are_written_meanwhile_where_that_disturbs_nothing(
    bench: Bench, apart: bool
) -> None:
    bench.apart = apart
    seen: list[bool] = []

    def look(names: list[str]) -> None:
        if len(names) < 9:
            return
        for _ in range(200 if apart else 0):  # the other thread has two seconds
            if len(bench.written) > 9:
                break
            time.sleep(0.01)
        seen.append(len(bench.written) > 9)

    bench.refused = look
    found = bench.time(field(17))
    assert all(outcome.record is not None for outcome in found.values())
    assert sorted(bench.written) == sorted(found)
    assert seen == [apart, True]
