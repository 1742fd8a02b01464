"""Exports that go wrong: the next exporter, a file that is rejected, or one clear sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

import edgekd.export._writing as plugin
from edgekd.artifact import Artifact, is_artifact
from edgekd.data import Images
from edgekd.errors import GateError, UsageError
from edgekd.export import Order, export, export_backbone
from edgekd.export._exporters import Exporter, dynamo, torchscript
from edgekd.export._network import Baked
from edgekd.models import Backbone
from edgekd.recipe import Export
from edgekd.targets import Target

Make = Callable[[str | nn.Module, int], Backbone]
Draw = Callable[[int, int], Images]
WHOLE = ["MODEL_CARD.md", "manifest.json", "model.onnx"]
"""What an exported folder holds."""


def spoilt(change: Callable[[nn.Module], nn.Module], honest: Exporter = torchscript) -> Exporter:
    """An exporter that writes another network than it was given."""

    def write(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
        honest(change(network), example, name, file, opset)

    return write


def failing(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
    raise RuntimeError("no such operator\nand a page of advice")


def test_fallback_is_recorded_and_printed(
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plugin, "EXPORTERS", {"dynamo": failing, "torchscript": torchscript})
    with caplog.at_level(logging.WARNING, "edgekd"):
        made = export(trained, tmp_path / "o", "onnx", Order(Export(), images(60, 32)))
    reason = "RuntimeError: no such operator"
    section = made.manifest["export"]
    assert section["exporter"] == "torchscript"
    assert section["fallbacks"] == [{"exporter": "dynamo", "reason": reason}]
    assert section["batch_norms"] == {"left": 0, "foldable": 0}
    message = f"written by the torchscript exporter, because dynamo failed: {reason}"
    assert [record.getMessage() for record in caplog.records] == [f"resnet8: {message}"]
    assert capfd.readouterr() == ("", "")


def test_file_that_fails_parity_falls_back_too(
    trained: Artifact, images: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = spoilt(lambda network: nn.Sequential(network, nn.Softmax(1)))
    monkeypatch.setattr(plugin, "EXPORTERS", {"dynamo": wrong, "torchscript": torchscript})
    made = export(trained, tmp_path / "o", "onnx", Order(Export(), images(60, 32)))
    (fallback,) = made.manifest["export"]["fallbacks"]
    assert "dB above their error" in fallback["reason"]
    assert [file.name for file in sorted(made.path.iterdir())] == WHOLE


def grey_mean(network: nn.Module) -> nn.Module:
    assert isinstance(network, Baked)
    network.scale.fill_(1 / (255 * 0.226))
    network.shift.fill_(-0.449 / 0.226)
    return network


def flipped(network: nn.Module) -> nn.Module:
    class Flipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(images.flip(3))
            return logits

    return Flipped()


@pytest.mark.parametrize(
    ("change", "says"),
    [(grey_mean, "dB above their error"), (flipped, "with red and blue swapped")],
)
def test_wrong_file_is_rejected(
    change: Callable[[nn.Module], nn.Module],
    says: str,
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugin, "EXPORTERS", {"dynamo": failing, "torchscript": spoilt(change)})
    out = tmp_path / "o"
    with pytest.raises(GateError, match=says) as caught:
        export(trained, out, "onnx", Order(Export(), images(60, 32)))
    assert "dynamo: RuntimeError: no such operator" in str(caught.value)
    assert f"kept as {out / 'model.onnx.rejected'}" in str(caught.value)
    assert [file.name for file in out.iterdir()] == ["model.onnx.rejected"]
    assert not is_artifact(out)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_older_artifact_survives_a_rejection_and_not_a_success(
    trained: Artifact, images: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, out = images(60, 32), tmp_path / "o"
    with monkeypatch.context() as patch:
        patch.setattr(plugin, "EXPORTERS", {"torchscript": torchscript})
        older = export(trained, out, "onnx", Order(Export(), pictures))
        patch.setattr(plugin, "EXPORTERS", {"torchscript": spoilt(flipped)})
        with pytest.raises(GateError, match="older artifact in that folder was not touched"):
            export(trained, out, "onnx", Order(Export(), pictures))
        assert Artifact.open(out).sha256 == older.sha256
        patch.setattr(plugin, "EXPORTERS", {"torchscript": torchscript})
        export(trained, out, "onnx", Order(Export(), pictures))
    assert [file.name for file in sorted(out.iterdir())] == WHOLE


def test_opset_that_is_not_written_is_refused(
    trained: Artifact, images: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stubborn(network: nn.Module, example: Tensor, name: str, file: Path, opset: int) -> None:
        torchscript(network, example, name, file, 18)

    monkeypatch.setattr(plugin, "EXPORTERS", {"dynamo": stubborn})
    with pytest.raises(UsageError, match=r"opset 20\. dynamo: it wrote opset 18, asked was 20\."):
        export(trained, tmp_path / "o", "onnx", Order(Export(opset=20), images(60, 32)))
    assert list(tmp_path.iterdir()) == []


def test_opset_beyond_what_the_target_reads_is_refused_in_a_sentence(
    trained: Artifact, images: Draw, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"opset 99.*local"):
        export(trained, tmp_path / "o", "onnx", Order(Export(opset=99), images(60, 32)))
    order = Order(Export(opset=99), images(60, 32), target=Target(opsets=(1, 99)))
    with pytest.raises(UsageError, match=r"torchscript: .* --opset 18\."):
        export(trained, tmp_path / "o", "onnx", order)
    assert capfd.readouterr() == ("", "")


def test_trained_network_is_not_written_over(trained: Artifact, images: Draw) -> None:
    with pytest.raises(UsageError, match="holds a trained network"):
        export(trained, trained.path, "onnx", Order(Export(), images(60, 32)))
    assert Artifact.open(trained.path).sha256 == trained.sha256


def test_place_that_cannot_be_written_is_named(
    trained: Artifact, images: Draw, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file/o"):
        export(trained, tmp_path / "file" / "o", "onnx", Order(Export(), images(1, 32)))


def test_dynamo_refuses_in_one_line(
    backbone: Make,
    trained: Artifact,
    images: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A network that looks at its data: the exporter prints pages, the user reads a sentence."""

    class Choosy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = images.mean((2, 3))
            return logits if float(logits.sum()) > 0 else -logits

    monkeypatch.setattr(plugin, "EXPORTERS", {"dynamo": dynamo})
    network = replace(backbone(Choosy(), 16), labels=("a", "b", "c"))
    with pytest.raises(UsageError, match=r"dynamo: \w+: Could not guard on data-dependent"):
        export_backbone(network, trained, tmp_path / "o", "onnx", Order(Export(), images(60, 16)))
    assert capfd.readouterr() == ("", "")
