"""The scan for half floats: what it sees, and to which layer it puts it down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.export._halving.overflow import Scan, first_break, scan


class Attention(nn.Module):
    """Scores of ``gain`` times the squared images, in code without a module of its own."""

    def __init__(self, gain: float, mask: float = 0.0) -> None:
        super().__init__()
        self.gain, self.mask = gain, mask

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2)  # (B, 3, H * W)
        mask = torch.full((3, 3), self.mask, dtype=tokens.dtype).triu(1) if self.mask else None
        return functional.scaled_dot_product_attention(
            tokens, tokens, tokens, attn_mask=mask, scale=self.gain
        )


class Network(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity(), middle])
        self.head = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = block(images)
        logits: Tensor = self.head(images.flatten(1).mean(1, keepdim=True))
        return logits


class Scaled(nn.Module):
    def __init__(self, gain: float, inplace: bool = False) -> None:
        super().__init__()
        self.gain, self.inplace = gain, inplace

    def forward(self, images: Tensor) -> Tensor:
        return images.clone().mul_(self.gain) if self.inplace else images * self.gain


def network(middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return Network(middle).eval()


@pytest.fixture
def pictures() -> Tensor:
    """In -1 ... 1, with both ends."""
    source = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 8, 8, generator=source) * 2 - 1
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 1, -1
    return images


def scanned(middle: nn.Module, images: Tensor) -> Scan:
    return scan(network(middle), [images])


@pytest.mark.parametrize("inplace", [False, True])
def test_largest_value_is_found_where_it_is(pictures: Tensor, inplace: bool) -> None:
    found = scanned(Scaled(4e4, inplace), pictures)
    assert (found.peak.layer, found.peak.operation) == ("blocks.1", "mul")
    assert found.peak.value == pytest.approx(4e4)
    assert set(found.origins) == {"blocks.1"}
    assert found.inputs["blocks.1"] == pytest.approx(1)
    assert found.outputs["blocks.1"] == pytest.approx(4e4)


def test_values_within_a_half_of_the_range_are_left_alone(pictures: Tensor) -> None:
    found = scanned(Scaled(3.2e4), pictures)
    assert (found.origins, found.beyond) == ({}, {})


def test_scores_inside_the_fused_attention_are_seen(pictures: Tensor) -> None:
    quiet, loud = scanned(Attention(1.0), pictures), scanned(Attention(1e4), pictures)
    assert not quiet.origins
    assert set(loud.origins) == {"blocks.1"}
    assert loud.outputs["blocks.1"] <= 1  # nothing of it is seen outside


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.GroupNorm(1, 3)])
def test_squares_inside_a_norm_count(norm: nn.Module, pictures: Tensor) -> None:
    """A variance of values near 300 is made of squares near 90,000."""
    found = scanned(nn.Sequential(Scaled(300.0), norm), pictures)
    assert set(found.origins) == {"blocks.1.1"}
    assert found.origins["blocks.1.1"].operation.startswith("a square inside native_")
    assert 3e4 < found.peak.value < 4 * 300**2
    assert not scanned(nn.Sequential(Scaled(30.0), norm), pictures).origins


class Normalised(nn.Module):
    """Each of the ways in which an exported graph gets a ReduceL2, or squares of a variance."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, images: Tensor) -> Tensor:
        if self.way == "normalize":
            found: Tensor = functional.normalize(images, dim=1)
        elif self.way == "norm":
            found = images / images.norm(p=2, dim=(2, 3), keepdim=True)
        elif self.way == "whole":
            found = images / images.norm()
        else:
            found = images / images.std((2, 3), keepdim=True)
        return found


@pytest.mark.parametrize(
    ("way", "says", "most"),
    [
        ("normalize", "a sum of squares inside linalg_vector_norm", 3),
        ("norm", "a sum of squares inside linalg_vector_norm", 64),
        ("whole", "a sum of squares inside linalg_vector_norm", 2 * 3 * 64),
        ("std", "a square inside std", 4),
    ],
)
def test_squares_of_a_vector_norm_count(way: str, says: str, most: float, pictures: Tensor) -> None:
    """Values near 500 have squares near 250,000, and a norm that half floats hold."""
    loud = scanned(nn.Sequential(Scaled(500.0), Normalised(way)), pictures)
    assert set(loud.origins) == {"blocks.1.1"}
    assert loud.origins["blocks.1.1"].operation == says
    assert 500**2 / 2 < loud.peak.value <= most * 500**2
    assert not scanned(nn.Sequential(Scaled(5.0), Normalised(way)), pictures).origins


def test_the_largest_of_a_vector_is_no_sum(pictures: Tensor) -> None:
    class Largest(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            most: Tensor = torch.linalg.vector_norm(images, torch.inf, dim=1, keepdim=True)
            return images / most

    assert not scanned(nn.Sequential(Scaled(500.0), Largest()), pictures).origins


def test_what_follows_an_overflow_is_no_origin_of_it(pictures: Tensor) -> None:
    found = scanned(nn.Sequential(Scaled(1e6), nn.ReLU(), Scaled(1e-6)), pictures)
    assert set(found.origins) == {"blocks.1.0"}
    assert set(found.beyond) == {"blocks.1.0", "blocks.1.1"}
    assert found.inputs["blocks.1.2"] == pytest.approx(1e6)


def test_each_batch_has_its_own_peak(pictures: Tensor) -> None:
    found = scan(network(Scaled(1.0)), [pictures, pictures * 5, pictures * 2])
    assert found.batches == pytest.approx([1, 5, 2])
    assert [tuple(logits.shape) for logits in found.logits] == [(2, 2)] * 3


def half(middle: nn.Module) -> nn.Module:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(middle).half()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images.half())
            return logits.float()

    return Half()


def test_first_break_names_layer_and_operation(pictures: Tensor) -> None:
    chain = nn.Sequential(Scaled(3e4), Scaled(100.0), Scaled(0.0))
    found, _ = first_break(half(chain), pictures)
    assert found is not None
    assert (found.layer, found.operation) == ("network.blocks.1.1", "mul")
    assert "not finite" in found.reason


def test_network_that_holds_gives_its_logits(pictures: Tensor) -> None:
    found, logits = first_break(half(nn.ReLU()), pictures)
    assert found is None
    assert torch.allclose(logits, network(nn.ReLU())(pictures), atol=1e-2)


def test_mask_of_infinities_is_no_break(pictures: Tensor) -> None:
    masked = Attention(1.0, mask=float("-inf"))
    seen = scanned(masked, pictures)
    assert (seen.infinite, seen.origins) == ({"blocks.1"}, {})
    found, logits = first_break(half(masked), pictures, {"network.blocks.1"})
    assert found is None
    assert logits.isfinite().all()


def test_refusal_of_pytorch_is_a_break_of_its_layer(pictures: Tensor) -> None:
    class Stubborn(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return functional.conv2d(images, torch.ones(3, 3, 1, 1))

    found, _ = first_break(half(Stubborn()), pictures)
    assert found is not None
    assert found.layer == "network.blocks.1"
    assert found.reason.startswith("PyTorch refuses it: expected scalar type")


def test_hooks_are_gone_afterwards(pictures: Tensor) -> None:
    watched = network(nn.ReLU())
    scan(watched, [pictures])
    left = [h for m in watched.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
    assert not any(left)
