"""The benchmarks under tools/ still run; what they time is not looked at here."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd import plugins

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "tools" / "bench"
RATIO = r"[\d.]+x \[[\d.]+, [\d.]+\]"
Quick = Callable[..., str]


def bench(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / name), *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What a benchmark's file holds; beside it lie those that it imports."""
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # which some set, for good
    return lambda name: runpy.run_path(str(BENCH / name), run_name="bench")


@pytest.fixture
def quick(
    tool: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Quick:
    """Run a benchmark in this process, which has imported PyTorch already; what it prints."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--quick", *arguments])
        assert not tool(name)["main"]()
        printed = capsys.readouterr().out
        assert printed.startswith("edgekd "), "versions come first"
        return printed

    return run


@pytest.mark.slow
def test_the_cost_of_every_method_is_measured() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \| [\d.]+x", bench("methods.py", "--quick"), re.MULTILINE)
    assert rows == [*plugins.summaries("method"), "null"]


@pytest.mark.slow
def test_every_precision_is_measured() -> None:
    printed = bench("export.py", "--quick")
    rows = re.findall(r"^\| resnet8 \| (\w+) \| [\d.]+ MB \| [\d.]+", printed, re.MULTILINE)
    assert rows == ["fp32", "fp16", "int8"]
    assert "| null pair | fp32 |" in printed
    assert "| auto | " in printed


def test_sharing_a_teacher_is_measured(quick: Quick) -> None:
    printed = quick("step.py", "--part", "shared-fp32")
    for what, count in (("four methods", 4), ("five with the student alone, as compare does", 5),
                        ("three seeds of one method", 3)):  # fmt: skip
        row = rf"^  {what}(?: together)?, over {count} singles +{RATIO}  {RATIO}$"
        assert re.search(row, printed, re.MULTILINE), printed
    assert len(re.findall(RATIO, printed)) == 12


def test_loops_of_the_shape_of_others_are_measured(quick: Quick) -> None:
    printed = quick("step.py", "--part", "peers")
    for name in ("mdistiller", "RepDistiller", "torchdistill"):
        row = rf"^  {name} +{RATIO} of the floor, {RATIO} of edgekd in (?:bf16|fp32)$"
        assert re.search(row, printed, re.MULTILINE), printed
    assert re.search(rf"^  null +{RATIO} of the floor$", printed, re.MULTILINE)


def test_a_step_of_that_shape_is_plain_pytorchs(tool: Callable[[str], dict[str, Any]]) -> None:
    import copy
    from itertools import repeat

    import torch
    from torch import nn

    peers, loss_of = tool("peers.py"), tool("floor.py")["plain_loss"]
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(12, 7)) for _ in range(2))
    plain = copy.deepcopy(student)
    optimizer = torch.optim.SGD(plain.parameters(), 0.01, 0.9, weight_decay=5e-4)
    image, target = torch.randn(8, 3, 2, 2), torch.arange(8) % 7
    seen: list[float] = []
    watches = [watch() for watch in peers["WATCHES"].values()]

    def watch(*given: torch.Tensor) -> None:
        seen.append(given[0].item())
        for each in watches:
            each(*given)

    step = peers["peer"](teacher, student, repeat((image, target)), watch)
    for number in range(3):
        step()
        loss = loss_of(plain(image), teacher(image).detach(), target)
        assert seen[number] == loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(map(torch.equal, student.parameters(), plain.parameters()))
    assert f"loss {sum(seen) / 3:.4f}" in watches[0].shown


def test_the_harness_is_measured_alone(quick: Quick) -> None:
    printed = quick("step.py", "--part", "harness")
    names = ("mdistiller", "RepDistiller", "torchdistill", "edgekd")
    for row in (*names, *(f"{name}, loader" for name in names), "null"):
        assert re.search(rf"^  {row} +[+-][\d.]+ ms a step", printed, re.MULTILINE), printed


@pytest.mark.parametrize(
    ("state", "share"),
    [
        ("cold", 0.478),
        pytest.param("hot", 0.882, marks=pytest.mark.slow),
        pytest.param("shared", 0.478, marks=pytest.mark.slow),
    ],
)
def test_a_step_with_the_cache_is_measured(quick: Quick, state: str, share: float) -> None:
    printed = quick("step.py", "--rounds", "2", "--cache", state)
    found = re.search(r"([\d.]+)% of the answers were there; .* expects ([\d.]+)%", printed)
    assert found, printed
    hits, expected = (float(each) / 100 for each in found.groups())
    assert expected == pytest.approx(share, abs=0.001)
    # of 8 batches of 64: four standard deviations of the draws, not of the epochs
    assert hits == pytest.approx(share, abs=4 * (share * (1 - share) / 512) ** 0.5)
    assert len(re.findall(rf"^  .* {RATIO}  {RATIO}$", printed, re.MULTILINE)) == 3


@pytest.mark.parametrize("views", [10, 162])
def test_the_share_of_answers_that_a_run_finds_is_that_of_drawn_views(
    tool: Callable[[str], dict[str, Any]], views: int
) -> None:
    import numpy as np

    draw, images, before, epochs = np.random.default_rng(0), 2000, 20, 30
    drawn, there = draw.integers(0, views, (before + epochs, images)), []
    seen = np.zeros((images, views), bool)
    for epoch, each in enumerate(drawn):
        if epoch >= before:
            there.append(seen[np.arange(images), each].mean())
        seen[np.arange(images), each] = True
    caching = tool("caching.py")
    assert caching["expected"](before, epochs, views) == pytest.approx(np.mean(there), abs=0.01)
    for past in (0, 240):
        parts = caching["shares"](past)
        assert sum(parts) / len(parts) == pytest.approx(
            caching["expected"](past, 240, 162), abs=0.01
        )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_step_is_measured(quick: Quick, precision: str) -> None:
    from edgekd.trainer.precision import has_bf16

    if precision == "bf16" and not has_bf16():
        pytest.skip("this machine only emulates bf16")
    printed = quick("step.py", "--part", precision)
    assert re.search(rf"^  edgekd, .* {RATIO}$", printed, re.MULTILINE), printed


def test_the_augmentation_is_measured(quick: Quick) -> None:
    printed = quick("aug.py")
    rows = rf"^  PIL / edgekd {RATIO}, null {RATIO}$"
    assert len(re.findall(rows, printed, re.MULTILINE)) == 2, printed
    for name in ("edgekd", "PIL"):
        row = rf"^  {name} +[\d,]+ draws, 16[012] views seen, chi-square [\d.]+ for 161 degrees"
        assert re.search(row, printed, re.MULTILINE), printed


def test_a_view_is_read_back_from_its_pixels(tool: Callable[[str], dict[str, Any]]) -> None:
    import numpy as np
    import torch

    aug = tool("aug.py")
    padded = np.pad(aug["telltale"](), ((4, 4), (4, 4), (0, 0)))
    seen = []
    for down in range(9):
        for right in range(9):
            cut = padded[down : down + 32, right : right + 32]
            seen += [cut, cut[:, ::-1]]
    mean, std = (torch.tensor(aug[name])[:, None, None] for name in ("MEAN", "STD"))
    images = (torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2) / 255 - mean) / std
    assert aug["views"](images).tolist() == list(range(162))
    with pytest.raises(ValueError, match="moved by more than 4 pixels"):
        aug["views"](images.roll(9, 3))


def test_unequal_chances_are_found_out(tool: Callable[[str], dict[str, Any]]) -> None:
    import numpy as np
    from scipy import stats  # comes with scikit-learn

    chi_square, draw = tool("aug.py")["chi_square"], np.random.default_rng(0)
    even = draw.integers(0, 162, 20_000)
    assert chi_square(even) == pytest.approx(stats.chisquare(np.bincount(even)))
    assert chi_square(even)[1] > 0.01
    never = even[even != 7]
    twice = np.append(even, np.full(100, 7))
    assert max(chi_square(never)[1], chi_square(twice)[1]) < 0.001


def test_the_memory_of_a_training_is_measured(quick: Quick) -> None:
    printed = quick("memory.py")
    for name in ("training", "loader", "step"):
        assert re.search(rf"^{name}: [\d,]+ images/s$", printed, re.MULTILINE), printed
    found = re.search(r"^held at most: ([\d.]+) GiB .*, ([\d.]+) in .*: ([\d.]+) GB$", printed, 8)
    assert found, printed
    everywhere, trainer, told = map(float, found.groups())
    assert 0.1 < trainer <= everywhere < 4
    assert told > 0.1
    assert printed.endswith("within the bound of 4 GiB\n")


def test_latency_is_measured(quick: Quick) -> None:
    printed = quick("latency.py", "--networks", "resnet8")
    for what in ("file / eager", "null"):
        row = rf"^  {what} +{RATIO}  (?:{RATIO}|n/a)$"
        assert re.search(row, printed, re.MULTILINE), printed
    error = re.search(r"largest difference ([\d.e-]+) of the largest logit, .*: met$", printed, 8)
    assert error, printed
    assert float(error[1]) <= 1e-5


@pytest.mark.slow
def test_every_method_is_compared(tmp_path: Path) -> None:
    printed = bench("accuracy.py", str(tmp_path), "--quick")
    assert bench("accuracy.py", str(tmp_path), "--quick").endswith(printed[printed.index("| m") :])
    seeds = [json.loads((tmp_path / f"seed-{seed}.json").read_text())["results"] for seed in (0, 1)]
    used = " ".join(result["text"] for result in seeds[0].values())
    assert set(re.findall(r"[a-z]\w*", used)) == set(plugins.summaries("method"))
    for seed in seeds:
        assert all(0 <= result["test"] <= 1 for result in seed.values())
        assert all(f"| {name} | `{result['text']}` |" in printed for name, result in seed.items())


@pytest.mark.slow
def test_the_scouts_ranking_is_held_against_the_measured_one(tmp_path: Path) -> None:
    printed = bench("ranking.py", str(tmp_path), "--quick")
    rows = re.findall(r"^\| (\w+) \| 2 \| [\d.]+ \[", printed, re.MULTILINE)
    assert set(rows) == {"resnet8", "resnet20", "vgg8"}
    assert re.search(r"^Spearman -?[\d.]+ \[.*\] over 3 students$", printed, re.MULTILINE)


def test_ranks_and_their_correlation_are_scipys() -> None:
    import numpy as np
    from scipy import stats  # comes with scikit-learn

    ranking = runpy.run_path(str(ROOT / "tools/bench/ranking.py"))
    generator = np.random.default_rng(0)
    for size in (8, 20):
        a, b = generator.normal(size=size), generator.integers(4, size=size).astype(float)
        assert ranking["ranks_of"](b).tolist() == stats.rankdata(b).tolist()
        assert ranking["spearman"](a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_the_interval_of_a_rank_correlation_holds_what_it_should() -> None:
    """Students drawn with replacement tie with themselves in both columns, and look alike."""
    import numpy as np

    ranking = runpy.run_path(str(ROOT / "tools/bench/ranking.py"))
    generator, truth, size = np.random.default_rng(0), 0.9, 15
    rho = 6 / np.pi * np.arcsin(truth / 2)  # Spearman's of normals with that correlation
    held = []
    for _ in range(400):
        a, noise = generator.normal(size=(2, size))
        b = truth * a + np.sqrt(1 - truth**2) * noise
        low, high = ranking["interval"](ranking["spearman"](a, b), size)
        held.append(low <= rho <= high)
    assert 0.92 < np.mean(held) < 0.98
    low, high = ranking["interval"](1.0, size)
    assert 0.97 < low < high == 1
    assert ranking["interval"](1.0, 3) is None
    assert ranking["interval"](float("nan"), size) is None
