"""A network is built from words: its name, and where its weights come from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import save_for_hf
from timm.models._hub import load_state_dict_from_path
from torch import Tensor, nn

from edgekd.artifact import MANIFEST, Artifact, create
from edgekd.errors import (
    ArtifactError,
    ShortageError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from edgekd.files import sha256
from edgekd.models import Backbone, build, freeze, from_artifact, weights, zoo
from edgekd.preprocess import Preprocess
from edgekd.recipe import Network
from edgekd.structure import mismatch, schema_of

LABELS = ("ant", "bee", "cat", "dog", "emu")
OWN = Preprocess((24, 24), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic", 0.9)


def image(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def answers(model: nn.Module, side: int = 32) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(image(side))
    return logits


@pytest.fixture
def teacher() -> nn.Module:
    """A ``resnet8`` with weights of its own."""
    torch.manual_seed(7)
    return zoo.create("resnet8", len(LABELS)).eval()


@pytest.fixture
def kept(tmp_path: Path, teacher: nn.Module) -> Path:
    """The teacher as ``edgekd teach`` leaves it."""
    manifest = {
        "kind": "network",
        "role": "teacher",
        "model": {"name": "resnet8"},
        "input": OWN.to_dict(),
        "labels": list(LABELS),
    }
    with create(tmp_path / "kept", manifest) as folder:
        weights.write(teacher, folder / "model.safetensors")
    return tmp_path / "kept"


@pytest.fixture
def published(tmp_path: Path) -> tuple[str, nn.Module]:
    """A network in timm's own folder format, with its five classes."""
    torch.manual_seed(3)
    model = timm.create_model("resnet18", num_classes=5)
    save_for_hf(model, str(tmp_path / "hub"), safe_serialization=True)
    return f"local-dir:{tmp_path / 'hub'}", model


def test_a_name_alone_starts_at_random_from_the_seed() -> None:
    torch.manual_seed(1)
    first = build(Network("resnet8"), LABELS)
    torch.manual_seed(1)
    second = build(Network("resnet8"), LABELS)
    assert torch.equal(answers(first.model), answers(second.model))
    assert answers(first.model).shape == (2, 5)
    assert (first.name, first.labels, first.parent) == ("resnet8", LABELS, "")


def test_the_preprocess_is_the_network_s_and_the_size_the_recipe_s() -> None:
    own = build(Network("resnet8"), LABELS).preprocess
    assert own.size == (32, 32)
    assert own.mean == (0.4914, 0.4822, 0.4465)
    assert build(Network("resnet8"), LABELS, size=16).preprocess.size == (16, 16)
    mobile = build(Network("mobilenetv3_small_050"), LABELS).preprocess
    assert (mobile.size, mobile.crop_pct, mobile.interpolation) == ((224, 224), 0.875, "bicubic")


def test_a_network_of_fixed_size_is_made_for_the_size() -> None:
    made = build(Network("vit_tiny_patch16_224"), LABELS, size=32)
    assert answers(made.model, 32).shape == (2, 5)
    assert made.preprocess.size == (32, 32)


def test_a_size_the_network_cannot_have_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="cannot make gcvit_xxtiny: "):
        build(Network("gcvit_xxtiny"), LABELS, size=3)
    small = build(Network("torchvision/vit_b_16"), LABELS, size=32)
    with pytest.raises(UsageError, match=r"vit_b_16 cannot take images of 32x32 pixels: Wrong im"):
        small.macs()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_torchvision_s_networks_get_a_head_for_the_classes(name: str) -> None:
    made = build(Network(f"torchvision/{name}"), LABELS)
    assert answers(made.model, 64).shape == (2, 5)
    assert zoo.head_classes(made.model) == 5
    assert (made.preprocess.size, made.preprocess.crop_pct) == ((224, 224), 0.875)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet9", r"no model 'resnet9'. Did you mean .*resnet8"),
        ("torchvision/resnet17", r"no model 'torchvision/resnet17'. Did you mean torchvision/res"),
        ("torchvision/fasterrcnn_resnet50_fpn", "no model 'torchvision/fasterrcnn"),
    ],
)
def test_an_unknown_network_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build(Network(name), LABELS)


def test_the_names_are_the_families_timm_s_and_torchvision_s() -> None:
    names = zoo.names()
    assert names[0] == "resnet8"
    assert {"wrn_16_2", "vgg8", "mobilenetv3_small_050", "torchvision/resnet18"} <= set(names)
    assert len(names) == len(set(names)) > 1000
    assert not [name for name in names if "rcnn" in name or "deeplab" in name]


def test_an_artifact_gives_back_its_network(kept: Path, teacher: nn.Module) -> None:
    found = from_artifact(Artifact.open(kept))
    assert torch.equal(answers(found.model), answers(teacher))
    assert not found.model.training
    assert (found.name, found.labels, found.preprocess) == ("resnet8", LABELS, OWN)
    assert found.parent == sha256(kept / MANIFEST)


@pytest.mark.parametrize("name", ["hf-hub:theirs/net", "hf_hub:theirs/net", "local-dir:/srv/net"])
def test_an_artifact_that_names_another_place_is_not_followed(
    kept: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it was asked for"))
    found = Artifact.open(kept)
    said = {**found.manifest, "model": {**found.manifest["model"], "name": name}}
    with pytest.raises(WeightsError, match=f"its network is {name}, which would be fetched"):
        from_artifact(replace(found, manifest=said))


@pytest.mark.parametrize("name", ["", "resnet8"])
def test_weights_may_be_an_artifact_with_or_without_its_name(
    kept: Path, teacher: nn.Module, name: str
) -> None:
    found = build(Network(name, str(kept)), LABELS)
    assert torch.equal(answers(found.model), answers(teacher))
    assert found.preprocess == OWN


def test_an_artifact_of_another_network_is_refused(kept: Path) -> None:
    with pytest.raises(WeightsError, match="holds a resnet8; expected a resnet14, as named"):
        build(Network("resnet14", str(kept)), LABELS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("bee", "ant", "cat", "dog", "emu"), r'was trained on the classes \["ant", .*in this'),
        (("ant", "bee", "cat", "dog", "eel"), "Expected the same names in the same order"),
        (("ant", "bee"), "tells 5 classes, the data has 2. Fine-tune it on this data first"),
    ],
)
def test_an_artifact_of_other_classes_is_refused(
    kept: Path, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        build(Network("", str(kept)), labels)


@pytest.mark.parametrize("labels", [("x", "y"), LABELS])
def test_an_artifact_may_be_given_a_new_head(
    kept: Path, teacher: nn.Module, labels: tuple[str, ...]
) -> None:
    made = build(Network("", str(kept)), labels, size=16, new_head=True)
    assert made.labels == labels
    assert made.preprocess.size == (16, 16)
    assert answers(made.model).shape == (2, len(labels))
    for key, value in teacher.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(made.model.state_dict()[key], value)


def test_a_changed_artifact_is_not_loaded(kept: Path) -> None:
    file = kept / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match=r"model.safetensors was changed"):
        build(Network("", str(kept)), LABELS)


def test_an_exported_file_is_not_a_network(tmp_path: Path) -> None:
    with create(tmp_path / "onnx", {"kind": "onnx"}) as folder:
        (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match="is an exported onnx file; expected a network"):
        build(Network("", str(tmp_path / "onnx")), LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {}}, "does not describe a network"),
        ({"input": {}}, "does not describe a network"),
        ({"model": None}, "model is None; expected object"),
        ({"labels": 3}, "labels is 3; expected array"),
        ({"input": {"size": [32]}}, r"input.size is \[32\]; expected so many entries: 2"),
    ],
)
def test_a_manifest_that_describes_no_network_is_refused(
    kept: Path, changes: dict[str, Any], message: str
) -> None:
    manifest = json.loads((kept / MANIFEST).read_text())
    (kept / MANIFEST).write_text(json.dumps(manifest | changes))
    with pytest.raises((ArtifactError, WeightsError), match=message):
        build(Network("", str(kept)), LABELS)


def written(teacher: nn.Module, path: Path) -> Path:
    state = teacher.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin", "w.pth.tar", "odd"])
def test_weights_may_be_a_file(tmp_path: Path, teacher: nn.Module, name: str) -> None:
    made = build(Network("resnet8", str(written(teacher, tmp_path / name))), LABELS)
    assert torch.equal(answers(made.model), answers(teacher))
    assert made.preprocess.size == (32, 32)


def test_weights_may_be_a_folder_with_one_file(tmp_path: Path, teacher: nn.Module) -> None:
    written(teacher, tmp_path / "model.safetensors")
    (tmp_path / "README.md").touch()
    made = build(Network("resnet8", str(tmp_path)), LABELS)
    assert torch.equal(answers(made.model), answers(teacher))
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(WeightsError, match=r"holds 2 .safetensors files .* exactly one file"):
        build(Network("resnet8", str(tmp_path)), LABELS)


def test_a_file_of_weights_does_not_say_its_network(tmp_path: Path, teacher: nn.Module) -> None:
    path = written(teacher, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"does not say which network it is. Write NAME:{path}"):
        build(Network("", str(path)), LABELS)


def test_a_recipe_without_a_name_is_told_so() -> None:
    with pytest.raises(WeightsError, match=r"the recipe does not say which network it is. Write"):
        build(Network(""), LABELS)


@pytest.mark.parametrize("text", ["w.pth", "runs/teacher", "./w", "w.safetensors"])
def test_a_path_that_is_not_there_is_not_taken_for_a_published_name(text: str) -> None:
    with pytest.raises(WeightsError, match=r"there (are no weights at|is no file or folder) "):
        build(Network("resnet8", text), LABELS)


def test_weights_of_other_classes_need_a_new_head(tmp_path: Path, teacher: nn.Module) -> None:
    network = Network("resnet8", str(written(teacher, tmp_path / "w.pth")))
    with pytest.raises(WeightsError, match="tells 5 classes, the data has 2"):
        build(network, ("x", "y"))
    assert answers(build(network, ("x", "y"), new_head=True).model).shape == (2, 2)


def test_weights_of_another_network_are_refused(tmp_path: Path, teacher: nn.Module) -> None:
    network = Network("resnet14", str(written(teacher, tmp_path / "w.pth")))
    with pytest.raises(WeightsError, match="does not fit the network: missing: "):
        build(network, LABELS)


def test_a_published_network_comes_with_its_head(published: tuple[str, nn.Module]) -> None:
    name, model = published
    made = build(Network(name), LABELS)
    assert torch.equal(answers(made.model, 64), answers(model, 64))
    assert made.name == "resnet18"  # so that its artifact opens without the folder


def test_a_published_network_of_other_classes_is_refused(
    published: tuple[str, nn.Module],
) -> None:
    with pytest.raises(WeightsError, match=r"tells 5 classes, the data has 2. Fine-tune it on"):
        build(Network(published[0]), ("x", "y"))


def test_a_published_network_can_be_given_a_new_head(published: tuple[str, nn.Module]) -> None:
    name, model = published
    made = build(Network(name), ("x", "y"), new_head=True).model
    assert answers(made, 64).shape == (2, 2)
    assert torch.equal(made.state_dict()["conv1.weight"], model.state_dict()["conv1.weight"])


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloading does nothing but say which weights were asked for."""
    asked: list[str] = []

    def load(model: nn.Module, pretrained_cfg: Any, **options: Any) -> None:
        asked.append(f"{pretrained_cfg['architecture']}.{pretrained_cfg['tag']}")

    monkeypatch.setattr("timm.models._builder.load_pretrained", load)
    return asked


def test_a_pretrained_teacher_of_other_classes_is_refused(fetched: list[str]) -> None:
    for network in (Network("resnet18", "pretrained"), Network("resnet18", "a1_in1k")):
        with pytest.raises(WeightsError, match="resnet18 tells 1000 classes, the data has 5"):
            build(network, LABELS)
    assert fetched == ["resnet18.a1_in1k"] * 2


def test_a_pretrained_teacher_of_as_many_classes_is_taken(fetched: list[str]) -> None:
    labels = [str(number) for number in range(1000)]
    assert len(build(Network("resnet18", "fb_ssl_yfcc100m_ft_in1k"), labels).labels) == 1000
    assert fetched == ["resnet18.fb_ssl_yfcc100m_ft_in1k"]


def test_a_pretrained_network_can_be_fine_tuned(fetched: list[str]) -> None:
    made = build(Network("resnet18", "pretrained"), LABELS, new_head=True)
    assert zoo.head_classes(made.model) == 5
    assert fetched == ["resnet18.a1_in1k"]


@pytest.mark.parametrize(
    "network",
    [
        Network("resnet8", "pretrained"),
        Network("resnet18", "no_such_tag"),
        Network("torchvision/resnet18", "NO_SUCH_TAG"),
        Network("local-dir:/no/such/folder"),
    ],
)
def test_weights_nobody_published_are_refused_with_the_way_out(network: Network) -> None:
    with pytest.raises(WeightsError, match=r"cannot load the published weights of .* Give a file"):
        build(network, LABELS)


def hub_folder(path: Path, files: Mapping[str, Any], *, zipped: bool = True) -> str:
    """A folder as hubs have them, of files that PyTorch saved."""
    path.mkdir()
    (path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 5}')
    for name, value in files.items():
        if name.endswith(".safetensors"):
            save_file(value, path / name)
        else:
            torch.save(value, path / name, _use_new_zipfile_serialization=zipped)
    return f"local-dir:{path}"


def inflated(file: Path) -> None:
    """Pack a file of PyTorch's anew, so that it unpacks to more than it has."""
    with ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def claiming(file: Path) -> None:
    """Make the only number of an old file of PyTorch's a terabyte of them."""
    content = file.read_bytes()
    assert content.count(b"K\x01Nt") == 1
    file.write_bytes(content.replace(b"K\x01Nt", b"\x8a\x05\x00\x00\x00\x00\x01Nt"))


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """See that timm does not get to read a folder's weights."""
    monkeypatch.setattr("timm.models._hub.load_state_dict", lambda *_, **__: pytest.fail("read"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "any.pth.tar"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (inflated, r"it claims to unpack to [\d,]+ bytes, and it has "),
        (claiming, "storage has wrong byte size: expected 4 got 17179869184"),
    ],
)
def test_a_hub_s_folder_that_claims_more_than_it_has_is_not_read(
    name: str,
    harm: Callable[[Path], None],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = torch.zeros(1 if harm is claiming else 10**6)
    folder = hub_folder(tmp_path / "hub", {name: {"fc.bias": value}}, zipped=harm is inflated)
    harm(tmp_path / "hub" / name)
    unread(monkeypatch)
    where = f"weights of {folder}: {tmp_path / 'hub' / name}: "
    with pytest.raises(WeightsError, match=where + said):
        build(Network(folder), LABELS)


def test_a_hub_s_folder_that_could_run_code_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub_folder(tmp_path / "hub", {"model.pth": {"fc.bias": Path}})
    unread(monkeypatch)
    with pytest.raises(WeightsError, match=r"model\.pth holds more than tensors, and loading it c"):
        build(Network(folder), LABELS)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hub_s_folder_of_pytorch_s_files_is_read(zipped: bool, tmp_path: Path) -> None:
    """What else lies there, and timm does not read, is no matter."""
    model = timm.create_model("resnet18", num_classes=5)
    kept = {"state_dict": model.state_dict(), "epoch": 3}
    files = {"pytorch_model.bin": kept, "training_args.bin": {"all": Path}}
    folder = hub_folder(tmp_path / "hub", files, zipped=zipped)
    found = build(Network(folder), LABELS)
    assert torch.equal(answers(found.model), answers(model))


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors", "pytorch_model.bin"],
        ["open_clip_model.safetensors", "model.pth", "a.safetensors"],
        ["b.pth.tar", "a.bin"],
        ["c.pth", "b.pth", "a.bin", "0.pth.tar"],
        ["z.safetensors", "a.pth"],
        ["optimizer.pt"],
    ],
)
def test_the_file_that_is_looked_at_is_the_one_that_timm_reads(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        (tmp_path / name).touch()
    read: list[Path] = []
    monkeypatch.setattr("timm.models._hub.load_state_dict", lambda path, **_: read.append(path))
    with suppress(RuntimeError):  # there are none
        load_state_dict_from_path(tmp_path)
    found = zoo.weights_in(tmp_path)
    assert read == ([] if found is None else [found])


def test_an_unreachable_hub_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> None:
        raise ConnectionError("cannot reach the hub\nlong traceback")

    monkeypatch.setattr("timm.models._builder.load_pretrained", load)
    with pytest.raises(WeightsError, match=r"weights of resnet18: cannot reach the hub. Give a"):
        build(Network("resnet18", "pretrained"), LABELS)


@pytest.mark.parametrize("asked", ["", "FORCE_WEIGHTS_ONLY_LOAD", "FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_downloads_are_loaded_as_weights_alone_whatever_pytorch_was_told(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TORCH_{asked or 'HOME'}", "1")
    before = dict(os.environ)
    torch.save(torch.ones(2), tmp_path / "weights.pth")
    torch.save(Path, tmp_path / "more.pth")

    def load(*args: Any, **options: Any) -> None:
        assert torch.load(tmp_path / "weights.pth").sum() == 2
        torch.load(tmp_path / "more.pth", weights_only=False)

    monkeypatch.setattr("timm.models._builder.load_pretrained", load)
    with pytest.raises(WeightsError, match="resnet18: Weights only load failed"):
        build(Network("resnet18", "pretrained"), LABELS)
    assert dict(os.environ) == before


def test_how_any_network_takes_its_images_can_be_read_again(tmp_path: Path) -> None:
    """Nobody may train for hours and then be told that the manifest is none."""
    shape, widest = schema_of("manifest"), 0.0
    model: Any = nn.Identity()
    for name in {*timm.list_models(), *timm.list_models(pretrained=True)}:
        known: Any = timm.get_pretrained_cfg(name)
        model.pretrained_cfg = known.to_dict()
        found = zoo.preprocess_of(model)
        manifest: dict[str, Any] = {"kind": "network", "files": {}, "input": found.to_dict()}
        assert mismatch(manifest, shape) == "", name
        widest = max(widest, found.crop_pct)
    assert widest > 1  # VOLO's
    for name in torchvision.models.list_models(module=torchvision.models):
        for published in torchvision.models.get_model_weights(name):
            model.pretrained_cfg = zoo._torchvision_config(published)
            found = zoo.preprocess_of(model)
            manifest = {"kind": "network", "files": {}, "input": found.to_dict()}
            assert mismatch(manifest, shape) == "", name
    head = {"kind": "network", "role": None, "recipe": None}  # as an export of an old one has it
    with create(tmp_path / "a", {**head, "input": {**OWN.to_dict(), "crop_pct": 1.15}}) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
    assert Artifact.open(tmp_path / "a").manifest["input"]["crop_pct"] == 1.15


def test_the_cost_of_a_network_is_counted() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    backbone = Backbone("own", model, Preprocess((6, 4), (0,) * 3, (1,) * 3), LABELS)
    assert backbone.parameters == 3 * 8 * 9 + 8 + 8 * 5 + 5
    assert backbone.macs() == 6 * 4 * 3 * 8 * 9 + 8 * 5
    assert backbone.example.shape == (1, 3, 6, 4)


def test_counting_leaves_the_network_as_it_was(teacher: nn.Module) -> None:
    backbone = Backbone("resnet8", teacher.train(), OWN, LABELS)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    assert backbone.macs() > 0
    assert teacher.training
    assert all(torch.equal(value, before[k]) for k, value in teacher.state_dict().items())


def test_freezing_stops_learning_and_batch_statistics(teacher: nn.Module) -> None:
    frozen = freeze(teacher.train())
    assert frozen is teacher
    assert not any(module.training for module in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_memory_that_runs_out_is_no_fault_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 3 bytes")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ShortageError, match="memory ran out"):
        zoo.create("resnet8", 10)
