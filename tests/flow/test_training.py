"""Training: what is gone on with, what is refused, and what the teacher is shown."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.artifact import Artifact
from edgekd.errors import ArtifactError, DivergedError, GateError, UsageError
from edgekd.files import sha256
from edgekd.flow.baseline import answers, compare_alone
from edgekd.flow.identity import fingerprint, hash_of, teachings
from edgekd.flow.job import STATE, Job
from edgekd.flow.training import LABELS, distill, teach, train_alone
from edgekd.loading import Splits, loaders, open_splits
from edgekd.loading.decode import decode
from edgekd.loading.memory import Normalise
from edgekd.models import Backbone, build, from_artifact
from edgekd.recipe import Data, Network, Recipe, Train, recipe_from
from edgekd.trainer import Trainer
from tests.flow.conftest import TABLE, Heard

Make = Callable[..., Recipe]


@pytest.fixture
def recipe(taught: Path) -> Make:
    """A short distillation from a trained teacher."""

    def make(*overrides: str) -> Recipe:
        table = {**TABLE, "teacher": {"name": "", "weights": str(taught)}}
        return recipe_from(table, ["train.epochs=1", "method=ce + kd", *overrides])

    return make


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_finished_training_is_not_done_again(recipe: Make, tmp_path: Path) -> None:
    first = distill(recipe(), tmp_path / "s")
    heard = Heard()
    second = distill(recipe(), tmp_path / "s", heard)
    assert heard.stages == [("distill", 1, 1, f"already trained, in {tmp_path / 's'}")]
    assert second.sha256 == first.sha256


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=2"], "Then train.epochs was 1, now it is 2. Choose"),
        (["method=ce + 0.5*kd"], "Then method.kd.weight was 1.0, now it is 0.5. Choose"),
        (["method=ce"], "Then method.kd was {"),
        (
            ["train.lr=1", "train.seed=3", "train.epochs=2", "data.limit=200"],
            "Then data.limit was 300, now it is 200; train.epochs was 1, now it is 2; "
            "train.lr was 0.05, now it is 1.0; 1 more.",
        ),
    ],
)
def test_another_training_is_told_by_what_differs(
    overrides: list[str], said: str, recipe: Make, tmp_path: Path
) -> None:
    distill(recipe(), tmp_path / "s")
    with pytest.raises(UsageError, match="holds a finished student of another recipe") as caught:
        distill(recipe(*overrides, "data.workers=0"), tmp_path / "s")
    assert said in str(caught.value)
    assert "workers" not in str(caught.value)


def test_files_of_others_are_not_replaced(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("# my own")
    for restart in (False, True):
        with pytest.raises(UsageError, match=r"holds recipe\.toml, but no manifest.json"):
            distill(recipe(), tmp_path, restart=restart)
    assert (tmp_path / "recipe.toml").read_text() == "# my own"
    assert list(tmp_path.iterdir()) == [tmp_path / "recipe.toml"]


CARELESS = ["data.workers=0", "train.log_steps=1", "train.checkpoint_minutes=0"]


@pytest.mark.parametrize("override", CARELESS)
def test_how_often_it_is_told_does_not_make_another_training(
    override: str, recipe: Make, tmp_path: Path
) -> None:
    distill(recipe(), tmp_path / "s")
    heard = Heard()
    distill(recipe(override), tmp_path / "s", heard)
    assert heard.taken() == ["distill"]


OTHERS = [
    "train.lr=0.01",
    "train.seed=1",
    "method.kd.temperature=2",
    "data.limit=200",
    "student.name=resnet14",
]


@pytest.mark.parametrize("override", OTHERS)
@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused_and_restart_takes_its_place(
    override: str, finished: bool, recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    if finished:
        distill(recipe(), out)
    else:
        _cut_off(recipe("train.checkpoint_minutes=0", "train.log_steps=2"), out, monkeypatch)
    with pytest.raises(UsageError, match=r"of another recipe or other data.*--restart"):
        distill(recipe(override), out)
    begun_anew = distill(recipe(override), out, restart=True)
    elsewhere = distill(recipe(override), tmp_path / "elsewhere")
    assert weights(begun_anew.path) == weights(elsewhere.path)


def _cut_off(made: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutError(Exception):
        pass

    class Cut(Heard):
        def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "distill" and done >= 4:
                raise CutError

    with pytest.raises(CutError):
        distill(made, out, Cut())
    assert (out / "training" / "checkpoint.pt").is_file()
    assert not (out / "manifest.json").exists()


def test_restart_leaves_alone_what_is_not_its_own(recipe: Make, tmp_path: Path) -> None:
    """``training`` is also what people call the folder of their images."""
    picture = tmp_path / "s" / "training" / "cat" / "1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"mine")
    distill(recipe(), tmp_path / "s", restart=True)
    distill(recipe("train.seed=1"), tmp_path / "s", restart=True)
    assert picture.read_bytes() == b"mine"


@pytest.mark.parametrize("copied", [False, True])
def test_a_restart_that_was_cut_off_is_given_again(
    copied: bool, recipe: Make, tmp_path: Path
) -> None:
    """What it had thrown away says no more whose the network is."""
    made, out = recipe(), tmp_path / "s"
    distill(made, out)
    if copied:  # as the artifact alone is
        shutil.rmtree(out / "training")
    job = Job("student", made.student, made.train, made.method, made, out, Heard(), restart=True)
    job.clear()
    assert (out / "model.safetensors").exists()
    assert not (out / "manifest.json").exists()
    job.check_room()


@pytest.mark.parametrize(
    ("curve", "own"),
    [
        (b"", True),
        (b"\0" * 60, True),
        (b'{"step": 4, "ep', True),
        (b'{"ste', True),
        (b'{"step": 4, "epoch": 1, "losses": {}}\n', True),
        (b'{"step": 4, "epoch": 1, "loss": 3}\n', False),
        (b'{"mine": 1', False),
        (b"step,loss\n", False),
    ],
)
def test_whose_curve_it_is(curve: bytes, own: bool, recipe: Make, tmp_path: Path) -> None:
    made, file = recipe(), tmp_path / "training" / "metrics.jsonl"
    file.parent.mkdir()
    file.write_bytes(curve)
    job = Job("student", made.student, made.train, made.method, made, tmp_path, Heard(), True)
    with nullcontext() if own else pytest.raises(UsageError, match="none of edgekd's left"):
        job.check_room()


def test_a_checkpoint_without_its_curve_is_gone_on_with(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = recipe("train.checkpoint_minutes=0", "train.log_steps=2"), tmp_path / "s"
    whole = distill(made, tmp_path / "whole")
    _cut_off(made, out, monkeypatch)
    (out / "training" / "metrics.jsonl").unlink()
    assert distill(made, out).manifest["metrics"] == whole.manifest["metrics"]


def test_another_artifact_stays_where_a_peer_would_go(recipe: Make, tmp_path: Path) -> None:
    distill(recipe(), tmp_path / "s" / "peer")
    made = recipe("peer.name=resnet8")
    with pytest.raises(UsageError, match="holds a student, and the peer goes there"):
        Job("student", made.student, made.train, made.method, made, tmp_path / "s", Heard(), True)


def test_a_refused_restart_destroys_nothing(recipe: Make, tmp_path: Path) -> None:
    before = distill(recipe(), tmp_path / "s").sha256
    with pytest.raises(UsageError, match="there is no method"):
        distill(recipe("method=kdd"), tmp_path / "s", restart=True)
    with pytest.raises(UsageError, match="swapped"):
        distill(recipe("student.name=resnet8x4"), tmp_path / "s", restart=True)
    assert Artifact.open(tmp_path / "s").sha256 == before


@pytest.mark.parametrize(
    ("weights", "is_lost"),
    [
        ("s", True),
        ("s/peer", True),
        ("s/peer/model.safetensors", True),
        ("s/model.safetensors", True),
        ("s/training/result.safetensors", True),
        ("s/ckpt/w.pt", False),
        ("a1_in1k", False),  # published ones
        ("x" * 999, False),
    ],
)
def test_restart_spares_what_it_is_to_read(
    weights: str, is_lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("peer/model.safetensors", "model.safetensors", STATE[1], "ckpt/w.pt"):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_bytes(b"")
    out = Path("s") if "/" in weights or weights == "s" else Path()
    given = weights.replace("s/training/result.safetensors", f"s/{STATE[1]}")
    network, made = Network("resnet8", given), recipe_from(TABLE)
    job = partial(Job, "student", network, made.train, made.method, made, out, Heard())
    if is_lost:
        with pytest.raises(UsageError, match="which --restart would clear"):
            job(restart=True)
    else:
        job(restart=True)
    job(restart=False)


def test_what_an_artifact_hides_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, out = recipe_from(TABLE), Path("place:0123456789ab/student")
    with pytest.raises(UsageError, match="not known on this machine"):
        Job("student", made.student, made.train, made.method, made, out, Heard(), restart=False)
    assert not list(tmp_path.iterdir())


def test_other_weights_of_the_same_teacher_are_another_teacher(
    recipe: Make, teacher: Path, tmp_path: Path
) -> None:
    given = replace(recipe(), teacher=Network("", str(teacher)))
    distill(given, tmp_path / "s")
    # the very same weights in another place, made at another time, are the same teacher
    shutil.copytree(teacher, tmp_path / "moved")
    _describe(tmp_path / "moved", created="2001-01-01T00:00:00+00:00")
    moved = replace(given, teacher=Network("", str(tmp_path / "moved")))
    heard = Heard()
    distill(moved, tmp_path / "s", heard)
    assert heard.taken() == ["distill"]
    file = teacher / "model.safetensors"
    tensors = load_file(file)
    tensors["head.fc.bias"][0] += 0.01
    save_file(tensors, file)
    _describe(teacher)
    with pytest.raises(UsageError, match="another recipe or other data"):
        distill(given, tmp_path / "s")


def _describe(folder: Path, **changes: str) -> None:
    """Write the manifest anew for files that were changed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_network_of_ones_own_teaches(recipe: Make, taught: Path, tmp_path: Path) -> None:
    own = from_artifact(Artifact.open(taught))
    alike = distill(recipe(), tmp_path / "one")
    given = distill(replace(recipe(), teacher=Network()), tmp_path / "two", teacher=own)
    assert weights(alike.path) == weights(given.path)
    assert given.manifest["parent"]["name"] == "resnet14"


# ---- gates inside ----


def test_a_teacher_near_chance(recipe: Make, tmp_path: Path) -> None:
    splits = open_splits(recipe().data)
    clueless = build(Network("resnet14"), splits.labels, 8)
    with pytest.raises(GateError, match="a teacher at chance teaches noise"):
        distill(recipe(), tmp_path / "s", teacher=clueless)
    assert not (tmp_path / "s").exists()


def test_swapped(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"student resnet8x4 .* Are they swapped"):
        distill(recipe("student.name=resnet8x4"), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_diverged(recipe: Make, tmp_path: Path) -> None:
    wild = recipe("train.lr=1e9", "train.warmup_epochs=0", "train.checkpoint_minutes=0")
    with pytest.raises(DivergedError) as stopped:
        distill(wild, tmp_path / "s")
    assert stopped.value.exit_code == 1
    assert not (tmp_path / "s" / "manifest.json").exists()
    tamed = distill(recipe(), tmp_path / "s", restart=True)
    assert tamed.manifest["training"]["epochs"] == 1


# ---- what the teacher is shown ----


def test_a_teacher_with_a_preprocessing_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch, made for the student, reaches the teacher as its weights expect it."""
    table = {**TABLE, "teacher": {"name": "test_byobnet"}}
    table["teach"] = {**TABLE["teach"], "optimizer": "adamw", "lr": 0.01, "epochs": 8}
    made = recipe_from(table, ["train.epochs=1", "method=ce + kd", "data.size=16"])
    taught = teach(made, tmp_path / "teacher")
    assert taught.manifest["input"]["mean"] == [0.485, 0.456, 0.406]
    assert taught.manifest["metrics"]["validation"]["top1"] > 0.5

    seen: list[torch.Tensor] = []
    heard = Heard()
    _spy_on_teachers(monkeypatch, seen)
    made = replace(made, teacher=Network("", str(taught.path)))
    student = distill(made, tmp_path / "student", heard)
    assert student.manifest["input"]["mean"] == [0.4914, 0.4822, 0.4465]

    theirs = from_artifact(taught).preprocess
    ours = from_artifact(student).preprocess
    assert theirs.mean != ours.mean
    splits = open_splits(made.data)
    wanted = Normalise(theirs)(decode(splits.validation, ours).pixels)
    judged = [len(batch) for batch in seen].index(len(wanted))  # before, the method is rehearsed
    assert torch.allclose(seen[judged], wanted, atol=1e-5)
    # and every training batch: no pixel outside what 0 and 255 become
    black = Normalise(theirs)(torch.zeros(1, *ours.size, 3, dtype=torch.uint8))
    white = Normalise(theirs)(torch.full((1, *ours.size, 3), 255, dtype=torch.uint8))
    for batch in seen[judged:]:
        assert (batch >= black - 1e-4).all()
        assert (batch <= white + 1e-4).all()
    assert any(line.startswith("teacher test_byobnet: ") for line in heard.said)


def _spy_on_teachers(monkeypatch: pytest.MonkeyPatch, seen: list[torch.Tensor]) -> None:
    import edgekd.flow.training as module

    original = module.teacher_of

    def watched(*arguments: Any) -> Backbone:
        found = original(*arguments)
        found.model.register_forward_pre_hook(see)
        return found

    def see(model: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].device.type != "meta":  # there its computing is only counted
            seen.append(given[0].clone())

    monkeypatch.setattr(module, "teacher_of", watched)


# ---- the baseline ----


def test_the_baseline_keeps_what_needs_no_teacher(recipe: Make, tmp_path: Path) -> None:
    made = recipe("method=0.3*ce + kd", "method.ce.smoothing=0.1")
    alone = train_alone(made, tmp_path / "a", 1)
    assert alone.manifest["method"] == "1*ce"
    # the options are part of what it is
    with pytest.raises(UsageError, match="another recipe"):
        train_alone(recipe("method=0.3*ce + kd"), tmp_path / "a", 1)
    without = train_alone(recipe("method=kd"), tmp_path / "b", 1)
    assert without.manifest["method"] == "1*ce"


def test_the_baseline_for_as_many_epochs(recipe: Make, tmp_path: Path) -> None:
    made = recipe()
    student = distill(made, tmp_path / "s")
    alone, gain = compare_alone(made, student, tmp_path / "b", "epochs", Heard())
    assert gain["baseline_epochs"] == alone.manifest["training"]["epochs"] == 1
    assert gain["basis"] == "epochs"
    ours, theirs = answers(student), answers(alone)
    assert ours["targets"] == theirs["targets"]
    assert ours["split"] == "test"
    kept = json.loads((student.path / "answers.json").read_text())
    (student.path / "answers.json").write_text(json.dumps(kept | {"predictions": [1, 2]}))
    words = rf"answers\.json is not whole: 2 predictions of {len(ours['targets'])} targets\. Make "
    with pytest.raises(ArtifactError, match=words):
        answers(student)


# ---- the fingerprint ----


@pytest.fixture(scope="module")
def splits() -> Splits:
    return open_splits(Data("digits", size=8, limit=200))


def test_the_fingerprint_changes_with_what_decides(splits: Splits, tmp_path: Path) -> None:
    teacher = build(Network("resnet14"), splits.labels, 8)
    file = tmp_path / "w.safetensors"
    save_file(teacher.model.state_dict(), file)
    base: dict[str, Any] = {
        "role": "student",
        "network": Network("resnet8"),
        "train": Train(),
        "method": LABELS,
        "data": Data("digits", size=8),
        "splits": splits,
        "teacher": teacher,
        "peer": Network(""),
    }
    known = fingerprint(**base)
    assert fingerprint(**base) == known
    fewer = open_splits(Data("digits", size=8, limit=190))
    other = replace(teacher, model=build(Network("resnet14"), splits.labels, 8).model)
    changes: dict[str, list[Any]] = {
        "role": ["baseline"],
        "network": [Network("resnet14"), Network("resnet8", str(file)), Network("resnet8", "tag")],
        "train": [Train(lr=0.1), Train(ema=0.5), Train(seed=3)],
        "method": [{"ce": {"weight": 0.5}}, {"ce": {"weight": 1.0, "smoothing": 0.1}}],
        "data": [Data("digits", size=16), Data("digits", size=8, augment="none")],
        "splits": [fewer, replace(splits, labels=splits.labels[::-1])],
        "teacher": [None, other, replace(teacher, name="other")],
        "peer": [Network("resnet8"), Network("resnet8", str(file))],
    }
    found = [
        fingerprint(**{**base, key: value}) for key, values in changes.items() for value in values
    ]
    assert len({known, *found}) == 1 + len(found)


def test_what_a_teacher_shows_changes_with_the_pixels_and_with_nothing_of_the_student_s(
    splits: Splits,
) -> None:
    data, train = Data("digits", size=8), Train(batch_size=32)
    teacher, student, other = (
        build(Network(name), splits.labels, 8) for name in ("resnet14", "resnet8", "resnet14")
    )
    loader = loaders(splits, student.preprocess, data, train).train
    known = teachings(teacher, student, train, data, loader)
    assert teachings(teacher, other, replace(train, lr=1.0, epochs=7), data, loader) == known
    darker = copy.copy(loader)
    darker._stored = loader._stored // 2  # type: ignore[attr-defined]
    found = {
        teachings(teacher, student, train, data, darker),
        teachings(other, student, train, data, loader),
        teachings(teacher, student, replace(train, seed=1), data, loader),
        teachings(teacher, student, replace(train, batch_size=16), data, loader),
        teachings(teacher, student, train, replace(data, augment="none"), loader),
        teachings(teacher, network_of_another_size(splits), train, data, loader),
    }
    assert len({known, *found}) == 7


def network_of_another_size(splits: Splits) -> Backbone:
    return build(Network("resnet8"), splits.labels, 16)


def test_what_is_learned_from_a_teacher_is_used_by_its_next_student(
    recipe: Make, tmp_path: Path
) -> None:
    first, second, third = Heard(), Heard(), Heard()
    distill(recipe("method=ce + mgd"), tmp_path / "a", first)
    distill(recipe("method=ce + mgd", "train.lr=0.01"), tmp_path / "b", second)
    distill(recipe("method=ce + mgd", "data.limit=200"), tmp_path / "c", third)
    told = [" ".join(heard.said) for heard in (first, second, third)]
    assert ["mgd studies the teacher" in text for text in told] == [True, False, True]
    assert ["is taken from" in text for text in told] == [False, True, False]


def test_the_hash_of_a_network_sees_buffers_and_any_type(splits: Splits) -> None:
    model = build(Network("resnet8"), splits.labels, 8).model
    known = hash_of(model)
    dict(model.named_buffers())[_first_mean(model)].add_(1e-3)
    assert hash_of(model) != known
    assert hash_of(model.to(torch.bfloat16)) != hash_of(model.to(torch.float16))


def _first_mean(model: torch.nn.Module) -> str:
    return next(name for name, _ in model.named_buffers() if name.endswith("running_mean"))


def test_nothing_is_kept_of_a_training_that_breaks(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no artifact may begin again: there is no manifest before the last byte."""

    def broken(self: Trainer) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Trainer, "run", broken)
    with pytest.raises(RuntimeError):
        distill(recipe(), tmp_path / "s")
    files = [file.name for file in (tmp_path / "s").rglob("*") if file.is_file()]
    assert files == ["metrics.jsonl"]
    assert json.dumps(files)
