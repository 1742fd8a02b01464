"""A recipe is the same after writing and reading, and says where it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekd.errors import RecipeError, UnknownNameError
from edgekd.profiles import profile_folders
from edgekd.recipe import Data, Export, Network, Profile, Recipe, Train, recipe_from

PROFILES = sorted((Path(__file__).parents[1] / "profiles" / "recipes").rglob("*.toml"))

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.floats(-1e300, 1e300)
POSITIVE = st.floats(1e-300, 1e300)
COUNT = st.integers(1, 2**63 - 1)
SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
DECAY = st.floats(0, 1, exclude_max=True)
OPTION = st.recursive(
    st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3),
)
TERM = st.builds(
    lambda weight, options: {**options, "weight": weight},
    NUMBER | st.lists(NUMBER, min_size=2, max_size=2),
    st.dictionaries(TEXT, OPTION, max_size=2),
)
DATA = st.builds(
    Data,
    source=TEXT,
    size=st.just(0) | st.integers(8, 4096),
    limit=st.integers(0, 2**40),
    validation=SHARE,
    test=SHARE,
    augment=st.sampled_from(["auto", "none", "shift", "shift+flip", "timm"]),
    memory_gb=st.floats(0, 1e6, exclude_min=True),
    workers=st.integers(0, 99),
)
TRAIN = st.builds(
    Train,
    epochs=COUNT,
    batch_size=COUNT,
    lr=POSITIVE,
    optimizer=TEXT,
    momentum=DECAY,
    weight_decay=st.floats(0, 1e9),
    schedule=TEXT,
    warmup_epochs=st.floats(0, 1e9),
    ema=DECAY,
    clip=st.floats(0, 1e9),
    precision=st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
    seed=st.integers(0, 2**63 - 1),
    log_steps=COUNT,
    trackers=st.lists(st.sampled_from(["tensorboard", "wandb", "mlflow"])).map(tuple),
)
RECIPE = st.builds(
    Recipe,
    data=DATA,
    teacher=st.builds(Network, TEXT, TEXT),
    student=st.builds(Network, TEXT, TEXT),
    method=st.dictionaries(TEXT, TERM, min_size=1, max_size=3),
    teach=TRAIN,
    train=TRAIN,
    export=st.builds(
        Export,
        precision=st.sampled_from(["fp32", "fp16", "int8", "auto"]),
        opset=st.just(0) | st.integers(13, 30),
        float_input=st.booleans(),
        samples=COUNT,
        max_drop=st.floats(0.001, 0.999),
        batches=st.tuples(st.integers(1, 8), st.integers(8, 64)),
    ),
    profile=st.builds(Profile, TEXT, st.integers(0, 99), st.integers(1, 65536), POSITIVE),
)


@pytest.fixture(autouse=True)
def no_own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@given(RECIPE)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_recipe_is_the_same_after_writing_and_reading(recipe: Recipe) -> None:
    read = recipe_from(tomllib.loads(recipe.to_toml()))
    assert read == recipe
    assert read.sha256 == recipe.sha256
    assert recipe_from(recipe.to_dict()) == recipe  # as a manifest keeps it


def test_a_recipe_file_is_read_and_overrides_go_on_top(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('method = "ce + 0.5*kd"\n[train]\nepochs = 3\n[student]\nname = "resnet14"\n')
    made = Recipe.load(path, ["train.epochs=4", "data.source=./images"])
    assert made.method == {"ce": {"weight": 1.0}, "kd": {"weight": 0.5}}
    assert (made.train.epochs, made.teach.epochs) == (4, Train().epochs)
    assert made.student == Network("resnet14")
    assert made.data.source == "./images"


def test_equal_recipes_have_equal_hashes_however_they_were_written() -> None:
    written = recipe_from({"method": "ce + 0.9*kd"})
    assert recipe_from({"method": {"ce": 1, "kd": {"weight": 0.9}}}).sha256 == written.sha256
    assert recipe_from({"train": {"lr": 1}}).sha256 == recipe_from({}, ["train.lr=1.0"]).sha256
    assert recipe_from({}) == Recipe()


@pytest.mark.parametrize(
    "change",
    ["train.lr=0.06", "teach.seed=1", "method=ce", "method.kd.temperature=2", "data.limit=1"],
)
def test_another_recipe_has_another_hash(change: str) -> None:
    assert recipe_from({}, [change]).sha256 != Recipe().sha256


def test_an_override_of_one_term_keeps_the_method_of_the_defaults() -> None:
    made = recipe_from({}, ["method.kd.temperature=2"])
    assert made.method == {"ce": {"weight": 1.0}, "kd": {"weight": 0.9, "temperature": 2}}


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepochs = 0", "line 2: train.epochs is 0; expected at least 1"),
        ("[train]\n\nepohcs = 1", "line 3: unknown key 'train.epohcs'. Did you mean epochs?"),
        ("[trian]\nepochs = 1", "line 1: unknown key 'trian'. Did you mean train?"),
        ("[data]\nsize = 'big'", "line 2: data.size is 'big'; expected a whole number"),
        ("train = 3", "line 1: train is 3; expected a table"),
        ("method = 'ce + ce'", "line 1: method 'ce . ce': 'ce' stands there twice"),
        ("method = 3", "line 1: method is 3; expected a table"),
        ("[method]\nkd = { weight = '1' }", "line 2: method.kd.weight is '1'; expected a number"),
        ("[method]\nkd = { hot = 2000-01-01 }", "line 2: method.kd.hot is .*; expected a number"),
        ("[method.kd]\nhot = [1, inf]", r"line 2: method.kd.hot is inf; expected a number"),
        ("[train]\nepochs = x\n", r": not valid TOML: Invalid value .*line 2"),
        ("[train]\nlr = 1\nlr = 2", ": not valid TOML: Cannot overwrite"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"own\.toml(, )?{message}"):
        Recipe.load(path)


def test_an_error_in_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[train]\nepochs = 3\n")
    with pytest.raises(RecipeError, match=r"^train\.epochs is 0; expected at least 1\.$"):
        Recipe.load(path, ["train.epochs=0"])


def test_the_command_line_refuses_a_value_out_of_range_with_exit_code_2() -> None:
    command = [sys.executable, "-c", "from edgekd.cli import main; main()"]
    asked = [*command, "distill", "--set", "train.epochs=0", "--print-recipe"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "edgekd: train.epochs is 0; expected at least 1.\n"
    assert not done.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.toml", None, "No such file or directory"),
        ("latin.toml", b"name = '\xe9'", "it is not UTF-8 text"),
        (".", None, "it is a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=f"cannot read the recipe .*: {message}"):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("key", "good", "bad", "wanted"),
    [
        ("data.size", [0, 8, 8192], [-1, 1, 7, 8193], "0, or 8 to 8,192"),
        ("data.limit", [0, 1], [-1], "at least 0"),
        ("data.validation", [0.001, 0.999], [0, 1, -0.1, 1.5], "a share between 0 and 1"),
        ("data.test", [0.5], [0, 1], "a share between 0 and 1"),
        ("data.augment", ["none", "timm"], ["flip", ""], "one of auto, none, shift"),
        ("data.memory_gb", [1e-9, 1e6], [0, -1, 1e300], "more than 0, and at most 1,000,000"),
        ("data.teacher_views", [0, 16, 10_000], [-1, 10_001], "0 to 10,000"),
        ("train.cache_gb", [0, 1e-9, 1e6], [-1, 1e300], "0 to 1,000,000"),
        ("data.workers", [0, 8], [-1, 9999], "0 to 1,024"),
        ("train.epochs", [1], [0, -3], "at least 1"),
        ("train.batch_size", [1], [0], "at least 1"),
        ("teach.lr", [1e-9], [0, -0.1], "more than 0"),
        ("train.momentum", [0, 0.99], [1, -0.1], "at least 0 and less than 1"),
        ("train.weight_decay", [0], [-1e-4], "at least 0"),
        ("train.warmup_epochs", [0], [-1], "at least 0"),
        ("train.ema", [0, 0.999], [1, -0.5], "at least 0 and less than 1"),
        ("train.clip", [0, 1], [-1], "at least 0"),
        ("train.precision", ["fp16"], ["int8"], "one of auto, fp32, bf16, fp16"),
        ("train.seed", [0], [-1], "at least 0"),
        ("train.checkpoint_minutes", [0], [-1], "at least 0"),
        ("train.log_steps", [1], [0], "at least 1"),
        ("train.trackers", [["wandb"]], [["csv"]], "some of tensorboard, wandb, mlflow"),
        ("export.opset", [0, 13, 18], [12], "0, or at least 13"),
        ("export.precision", ["fp16", "auto"], ["int4"], "one of fp32, fp16, int8, auto"),
        ("export.max_drop", [0.01, 0.5], [0.0, 1.0], "a share between 0 and 1"),
        ("export.calibrator", ["auto", "minmax"], ["max"], "one of auto, minmax"),
        ("export.repair", ["none", "all"], ["some"], "one of none, post, all"),
        ("export.batches", [[1, 1], [4, 8]], [[0, 1], [8, 4]], "two, the smaller one first"),
        ("export.samples", [1], [0], "at least 1"),
        ("profile.threads", [0], [-1, 9999], "0 to 1,024"),
        ("profile.batch_size", [1], [0, 10**6], "1 to 65,536"),
        ("profile.max_seconds", [0.1], [0], "more than 0"),
    ],
)
def test_a_value_out_of_range_is_refused(
    key: str, good: list[Any], bad: list[Any], wanted: str
) -> None:
    section, _, name = key.partition(".")
    for value in good:
        made = recipe_from({section: {name: value}}).to_dict()
        assert made[section][name] == value
    for value in bad:
        with pytest.raises(RecipeError, match=rf"{key} is .*; expected {wanted}") as refused:
            recipe_from({section: {name: value}})
        assert refused.value.key == key


def test_python_cannot_make_what_a_file_may_not_say() -> None:
    with pytest.raises(RecipeError, match="epochs is 0; expected at least 1"):
        Train(epochs=0)
    with pytest.raises(RecipeError, match=r"validation is 1\.0; expected a share"):
        replace(Data(), validation=1.0)


@pytest.mark.parametrize(
    ("text", "name", "weights"),
    [
        ("resnet8", "resnet8", ""),
        ("resnet18:pretrained", "resnet18", "pretrained"),
        ("resnet18.a1_in1k:w.pth", "resnet18.a1_in1k", "w.pth"),
        ("torchvision/resnet18:a:b", "torchvision/resnet18", "a:b"),
        ("hf-hub:timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", ""),
        ("local-dir:/models/own", "local-dir:/models/own", ""),
    ],
)
def test_a_network_is_a_name_and_perhaps_weights(text: str, name: str, weights: str) -> None:
    assert Network.parse(text) == Network(name, weights)


def test_the_folder_of_an_artifact_is_a_network_that_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert Network.parse(str(tmp_path)) == Network("", str(tmp_path))


def test_every_shipped_recipe_loads() -> None:
    assert PROFILES
    for path in PROFILES:
        assert Recipe.load(path.stem) == Recipe.load(path)


@pytest.mark.parametrize("place", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_pipe_of_the_process_s_own_is_read(place: str) -> None:
    """As of ``--recipe <(...)``; of /dev/stdin it is the same."""
    for text, reason in (
        (b"[train]\nepochs = 77\n", ""),
        (b"#" * (2**20 + 1), "more than 1,048,576 bytes"),
    ):
        source, sink = os.pipe()
        with os.fdopen(source, "rb"):
            writing = threading.Thread(target=_pour, args=(sink, text))
            writing.start()
            path = Path(place.format(source))
            if reason:
                with pytest.raises(RecipeError, match=reason):
                    Recipe.load(path)
            else:
                assert Recipe.load(path).train.epochs == 77
            writing.join()


def _pour(sink: int, text: bytes) -> None:
    with os.fdopen(sink, "wb") as pipe:
        pipe.write(text)


def test_a_pipe_that_nobody_writes_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.toml")
    for path in (tmp_path / "mine.toml", Path("/dev/fd/999999")):
        with pytest.raises(RecipeError, match="cannot read the recipe"):
            Recipe.load(path)


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no recipe 'digitz'. Did you mean digits\?"):
        Recipe.load("digitz")


def test_the_user_s_own_recipe_wins_over_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "edgekd" / "recipes" / "digits.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[train]\nepochs = 77\n")
    assert Recipe.load("digits").train.epochs == 77
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert profile_folders("recipes")[0] == tmp_path / "home" / ".config" / "edgekd" / "recipes"
    assert Recipe.load("digits").train.epochs != 77
