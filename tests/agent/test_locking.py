"""Clocks that are fixed meanwhile: never unasked, set back however the run ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekd.agent import governors, locking
from edgekd.agent.failures import AgentError
from tests.agent.machines import machine, program

GOVERNOR = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
BOOT = "proc/sys/kernel/random/boot_id"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A board with two cores of different governors."""
    known = {
        GOVERNOR.format(0).replace("scaling_gov", "scaling_available_gov") + "s": "ondemand "
        "performance schedutil\n"
    }
    stat = f"{os.getpid()} (a (b) c) S " + " ".join(str(n) for n in range(4, 40))
    return machine(
        tmp_path / "root",
        {
            GOVERNOR.format(0): "ondemand\n",
            GOVERNOR.format(4): "schedutil\n",
            BOOT: "first\n",
            f"proc/{os.getpid()}/stat": stat,
            **known,
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the agent keeps what it has to remember; made when it is needed."""
    return tmp_path / "agent"


def now(root: Path) -> list[str]:
    return [(root / GOVERNOR.format(cpu)).read_text().strip() for cpu in (0, 4)]


def test_nothing_is_changed_unasked(root: Path, folder: Path) -> None:
    with locking.held(folder, False, root) as notes:
        assert now(root) == ["ondemand", "schedutil"]
    assert notes == []
    assert not folder.exists()


def test_held_and_set_back(root: Path, folder: Path) -> None:
    with locking.held(folder, True, root) as notes:
        assert now(root) == ["performance", "performance"]
        assert notes == []
        kept = json.loads((folder / locking.FILE).read_text())
        assert sorted(kept["governors"].values()) == ["ondemand", "schedutil"]
    assert now(root) == ["ondemand", "schedutil"]
    assert notes == [
        "the governor was set to performance meanwhile, as asked, and set back to ondemand + "
        "schedutil"
    ]
    assert list(folder.iterdir()) == []


def test_set_back_when_the_run_fails(root: Path, folder: Path) -> None:
    with pytest.raises(RuntimeError), locking.held(folder, True, root):
        raise RuntimeError
    assert now(root) == ["ondemand", "schedutil"]
    assert list(folder.iterdir()) == []


def died(root: Path, folder: Path, **more: str) -> None:
    """A run that ended with its clocks fixed, as a kill leaves it."""
    before = {str(root / GOVERNOR.format(0)): "ondemand", str(root / GOVERNOR.format(4)): "x"}
    state = {"pid": 4_000_000, "born": "7", "boot": "first", "governors": before, **more}
    folder.mkdir()
    (folder / locking.FILE).write_text(json.dumps(state))
    for cpu in (0, 4):
        (root / GOVERNOR.format(cpu)).write_text("performance")


def test_the_next_start_puts_right_what_a_run_that_died_left(root: Path, folder: Path) -> None:
    died(root, folder)
    with locking.held(folder, False, root) as notes:
        assert now(root) == ["ondemand", "x"]
    assert notes == ["an earlier run had died with its clocks fixed; they were set back"]
    assert list(folder.iterdir()) == []
    assert locking.restore(folder, root) == []


def test_after_a_restart_there_is_nothing_to_put_right(root: Path, folder: Path) -> None:
    died(root, folder, boot="an earlier one")
    assert locking.restore(folder, root) == []
    assert now(root) == ["performance", "performance"]  # the user's own wish, since then
    assert list(folder.iterdir()) == []


def test_the_place_goes_when_nothing_is_left_to_be_put_right(root: Path, tmp_path: Path) -> None:
    place = tmp_path / locking.FOLDER
    with locking.held(place, True, root):
        assert (place / locking.FILE).is_file()
    assert not place.exists()


def test_a_run_that_lives_is_left_alone(root: Path, folder: Path) -> None:
    with locking.held(folder, True, root):
        assert locking.restore(folder, root) == []
        assert now(root) == ["performance", "performance"]
        with pytest.raises(AgentError, match=r"another run .* has fixed the clocks"):
            locking.held(folder, True, root).__enter__()
        assert now(root) == ["performance", "performance"]
    assert now(root) == ["ondemand", "schedutil"]


def test_a_run_that_is_killed_is_put_right_by_who_kills_it(root: Path, folder: Path) -> None:
    died(root, folder)
    locking.release(folder, 1)  # another one's
    assert now(root) == ["performance", "performance"]
    locking.release(folder, 4_000_000)
    assert now(root) == ["ondemand", "x"]
    locking.release(folder, 4_000_000)
    assert list(folder.iterdir()) == []


def test_a_number_that_was_used_again_is_another_process(root: Path, folder: Path) -> None:
    died(root, folder)
    state = json.loads((folder / locking.FILE).read_text())
    state["pid"] = os.getpid()  # which lives, and was born at another time
    (folder / locking.FILE).write_text(json.dumps(state))
    assert locking.restore(folder, root) != []
    assert now(root) == ["ondemand", "x"]


def test_no_governor_at_all(tmp_path: Path, folder: Path) -> None:
    with (
        pytest.raises(AgentError, match="no CPU frequency governor"),
        locking.held(folder, True, tmp_path),
    ):
        pytest.fail("it went on")
    assert not folder.exists()


def test_not_permitted(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with (
        pytest.raises(AgentError, match=r"may not write .*scaling_governor.*sudo chmod a\+w"),
        locking.held(folder, True, root),
    ):
        pytest.fail("it went on")
    assert now(root) == ["ondemand", "schedutil"]


def test_a_governor_that_is_not_known(root: Path, folder: Path) -> None:
    (root / GOVERNOR.format(0)).with_name("scaling_available_governors").write_text("powersave")
    with pytest.raises(AgentError, match="knows powersave, not performance"):
        locking.held(folder, True, root).__enter__()
    assert now(root) == ["ondemand", "schedutil"]


def test_no_room_to_remember(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match="the clocks were left alone"):
        locking.held(tmp_path / "file", True, root).__enter__()
    assert now(root) == ["ondemand", "schedutil"]


def test_what_cannot_be_set_back_is_said(root: Path, folder: Path) -> None:
    with locking.held(folder, True, root) as notes:
        (root / GOVERNOR.format(4)).unlink()
        (root / GOVERNOR.format(4)).mkdir()
    (note,) = notes
    assert note.startswith("the clocks could not be set back: ")
    assert "cpu4" in note
    assert (folder / locking.FILE).exists()  # the next start tries again


JETSON = """from pathlib import Path
log = Path(__file__).with_name('log')
log.write_text(log.read_text() + ' '.join([a for a in sys.argv[1:] if a.startswith('-')]) + ';')
if sys.argv[1:2] == ['--store']:
    Path(sys.argv[2]).write_text('as it was')
if sys.argv[1:2] == ['--restore']:
    assert Path(sys.argv[2]).read_text() == 'as it was'
"""


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a ``jetson_clocks`` that notes what it is asked, in ``log``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "log").write_text("")
    program(programs, "jetson_clocks", JETSON)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return programs


def test_a_jetsons_clocks(root: Path, folder: Path, jetson: Path) -> None:
    with locking.held(folder, True, root) as notes:
        assert (jetson / "log").read_text() == "--store;;"
    assert (jetson / "log").read_text() == "--store;;--restore;"
    assert notes[0].startswith("jetson_clocks ran and the governor was set")
    assert list(folder.iterdir()) == []


def test_a_jetson_without_root(
    root: Path, folder: Path, jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(AgentError, match="jetson_clocks needs root"):
        locking.held(folder, True, root).__enter__()
    assert (jetson / "log").read_text() == ""


def test_jetson_clocks_that_fails(root: Path, folder: Path, jetson: Path) -> None:
    program(jetson, "jetson_clocks", "print('no such board'); sys.exit(3)")
    with pytest.raises(AgentError, match="exit code 3: no such board"):
        locking.held(folder, True, root).__enter__()
    assert now(root) == ["ondemand", "schedutil"]


def test_one_place_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locking.place(Path("x")) == tmp_path / ".cache/edgekd-clocks"
    assert governors.FIXED == "performance"


def homeless() -> Path:
    raise RuntimeError


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", homeless)
    assert locking.place(tmp_path) == tmp_path
