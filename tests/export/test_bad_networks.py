"""Networks no file should be made of: one clear sentence, early, and nothing that looks good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from edgekd.errors import UsageError, WeightsError
from edgekd.export._branches import first_read
from edgekd.export._exporters import EXPORTERS, check_opset, reason_of, torchscript
from edgekd.export._network import check_weights

# Weights


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    check_weights(network, "net")
    network.get_parameter("0.weight").data[0, :, 0, 0] = value
    with pytest.raises(WeightsError, match=r"net .* 3 of the 108 values of 0\.weight are NaN or"):
        check_weights(network, "net")


def test_statistics_are_weights_and_masks_are_not() -> None:
    network = nn.BatchNorm2d(4)
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    check_weights(network, "net")
    network.get_buffer("running_var")[1] = torch.inf
    with pytest.raises(WeightsError, match="1 of the 4 values of running_var"):
        check_weights(network, "net")


# Ways through the code


class Choosy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        logits = images.mean((2, 3))
        return logits if images.sum() > 0 else -logits


class Counting(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * int(images.argmax())


class Itemised(nn.Module):
    """The image goes through a buffer of its own first."""

    def forward(self, images: Tensor) -> Tensor:
        kept = torch.zeros(2)
        kept[0] = images.mean()
        return images.mean((2, 3)) * kept.clone()[0].item()


class Outside(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * float(images.numpy().max())


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), Choosy())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits


class Harmless(nn.Module):
    """It looks at sizes and at a weight, which are the same for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        if torch.tensor(images.shape[2]) % 2 or images.shape[1] != 3:
            raise ValueError("odd")
        return images.mean((2, 3)) * self.get_buffer("gain").item()


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (Choosy(), "the code of forward asks if a tensor is true that depends on the images"),
        (Counting(), "the code of forward turns a tensor into a number"),
        (Itemised(), "the code of forward turns a tensor into a number"),
        (Outside(), "the code of forward turns a tensor into an array"),
        (Nested(), r"the code of inner\.1 asks if a tensor is true"),
    ],
)
def test_trace_of_a_network_that_looks_at_its_images_is_refused(
    network: nn.Module, says: str, tmp_path: Path
) -> None:
    """The tracer itself writes a file, of one branch, without a word."""
    with pytest.raises(UsageError, match=says):
        torchscript(network.eval(), torch.zeros(2, 3, 8, 8), "input", tmp_path / "a.onnx", 18)
    assert not list(tmp_path.iterdir())


def test_sizes_and_weights_may_be_looked_at(tmp_path: Path) -> None:
    torchscript(Harmless().eval(), torch.zeros(2, 3, 8, 8), "input", tmp_path / "a.onnx", 18)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "edgenext_xx_small", "mobilevit_xxs"])
def test_real_networks_do_not_look_at_their_images(name: str) -> None:
    """A tracer warns of each of these, because they look at sizes."""
    side = 224 if "224" in name else 64
    network = timm.create_model(name).eval()
    assert first_read(network, torch.zeros(1, 3, side, side)) == ""
    assert not any(module._forward_hooks for module in network.modules())


def test_newer_exporter_refuses_it_by_itself(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="data-dependent") as caught:
        EXPORTERS["dynamo"](
            Choosy().eval(), torch.zeros(2, 3, 8, 8), "input", tmp_path / "a.onnx", 18
        )
    assert "\n" not in reason_of(caught.value)
    assert not list(tmp_path.iterdir())


# Operators and opsets


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_operator_that_onnx_does_not_have_is_named(
    exporter: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Bessel(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = torch.special.bessel_j0(images).mean((2, 3))
            return found

    write: Callable[..., None] = EXPORTERS[exporter]
    with pytest.raises(Exception, match="bessel_j0") as caught:
        write(Bessel().eval(), torch.zeros(2, 3, 8, 8), "input", tmp_path / "a.onnx", 18)
    assert "bessel_j0" in reason_of(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("opset", "nearest"), [(12, 13), (23, 17)])
def test_opset_that_the_device_does_not_read_is_refused(opset: int, nearest: int) -> None:
    check_opset(17, (13, 17), "nano")
    check_opset(13, (13, 17), "nano")
    says = rf"opset {opset} .* nano reads 13 to 17\. Choose --opset {nearest}"
    with pytest.raises(UsageError, match=says):
        check_opset(opset, (13, 17), "nano")
