"""Simulated int8: the very numbers of ONNX Runtime's Q/DQ, and gradients that pass through."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp
from timm.layers import StdConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.models import zoo
from edgekd.models.quantised import (
    SCHEMES,
    Scheme,
    Simulation,
    activation_grid,
    snap,
    weight_grid,
)
from edgekd.sections import QUANTISED

FEW = Scheme(low=0, high=15, weights=7)
ALL = {**SCHEMES, "four bits": FEW}
Floats = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def grid(scheme: Scheme, lowest: float, highest: float) -> tuple[Tensor, Tensor]:
    return activation_grid(torch.tensor(lowest), torch.tensor(highest), scheme)


def by_formula(x: Floats, scale: float, zero: int, low: int, high: int) -> Floats:
    """Q/DQ as the ONNX standard writes it: rint rounds halves to even."""
    step = np.float32(scale)
    level = np.clip(np.rint(x / step).astype(np.int64) + zero, low, high)
    found: Floats = (level - zero).astype(np.float32) * step
    return found


def by_onnx_runtime(x: Floats, scale: Floats, zero: NDArray[Any], axis: int = 1) -> Floats:
    """A graph of two nodes."""
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph(nodes, "qdq", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Floats = session.run(None, {"x": x})[0]
    return found


# ---- the numbers ----


def test_the_schemes_are_those_of_the_recipe() -> None:
    assert tuple(SCHEMES) == QUANTISED


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("lowest", "highest"), [(-1.7, 3.1), (0.0, 6.0), (0.5, 2.0), (-3.0, -1.0)])
def test_activations_are_rounded_as_the_formula_says(
    name: str, lowest: float, highest: float
) -> None:
    scheme = ALL[name]
    scale, zero = grid(scheme, lowest, highest)
    x = torch.randn(300_000) * 3  # a good part of it is out of the range
    found = snap(x, scale, zero, scheme.low, scheme.high)
    wanted = by_formula(x.numpy(), float(scale), int(zero), scheme.low, scheme.high)
    assert np.array_equal(found.numpy(), wanted)
    assert len(np.unique(wanted)) <= scheme.high - scheme.low + 1
    assert x.min() < found.min()  # it was clamped


def test_halves_go_to_the_even_number() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 255.5, 300.0])
    found = snap(x, torch.tensor(1.0), torch.tensor(0.0), -128, 255)
    assert found.tolist() == [0, 2, 2, 0, -2, 254, 255, 255]


@pytest.mark.parametrize("name", SCHEMES)
def test_activations_are_rounded_as_onnx_runtime_does(name: str) -> None:
    scheme = SCHEMES[name]
    scale, zero = grid(scheme, -1.234, 2.345)
    x = torch.randn(64, 1000) * 2
    kind = np.int8 if scheme.symmetric else np.uint8
    wanted = by_onnx_runtime(x.numpy(), scale.numpy(), np.asarray(int(zero), kind))
    found = snap(x, scale, zero, scheme.low, scheme.high)
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (10, 64), (16, 1, 3, 3)])
def test_weights_are_rounded_as_onnx_runtime_does(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape) * torch.logspace(-3, 2, shape[0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    scale, zero = weight_grid(weight, 127)
    found = snap(weight, scale, zero, -127, 127)
    zeros = np.zeros(shape[0], np.int8)
    wanted = by_onnx_runtime(weight.numpy(), scale.flatten().numpy(), zeros, axis=0)
    assert np.array_equal(found.numpy(), wanted)
    # each channel uses its integers whatever the size of the others
    level = (found / scale).round()
    assert level.abs().amax(dim=tuple(range(1, len(shape)))).tolist() == [127.0] * shape[0]


RANGES = [(-1.7, 3.1), (0.0, 6.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-3, 1e3)]


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(("lowest", "highest"), RANGES)
def test_grids_are_those_of_onnx_runtimes_quantiser(
    name: str, lowest: float, highest: float
) -> None:
    scheme = SCHEMES[name]
    kind = np.int8 if scheme.symmetric else np.uint8
    low = -127 if scheme.symmetric else 0  # the range it is spread over; it saturates at -128
    ends = np.array(lowest, np.float32), np.array(highest, np.float32)
    wanted_zero, wanted_scale = compute_scale_zp(
        *ends, np.array(low, kind), np.array(scheme.high, kind), symmetric=scheme.symmetric
    )
    scale, zero = grid(scheme, lowest, highest)
    assert float(scale) == pytest.approx(float(wanted_scale), rel=3e-7)
    assert int(zero) == int(wanted_zero)
    # zero is a grid point: padding stays what it is
    nothing = snap(torch.zeros(3), scale, zero, scheme.low, scheme.high)
    assert nothing.tolist() == [0.0, 0.0, 0.0]


def test_a_channel_of_zeros_stays_one() -> None:
    weight = torch.randn(3, 4)
    weight[1] = 0
    found = snap(weight, *weight_grid(weight, 127), -127, 127)
    assert found.isfinite().all()
    assert found[1].tolist() == [0.0] * 4


def test_folding_batch_normalisation_keeps_the_integers() -> None:
    weight = torch.randn(32, 8, 3, 3)
    # what folding multiplies with: any size, also negative
    factor = (torch.randn(32) * torch.logspace(-2, 2, 32)).reshape(-1, 1, 1, 1)
    before = snap(weight, *weight_grid(weight, 127), -127, 127)
    after = snap(weight * factor, *weight_grid(weight * factor, 127), -127, 127)
    assert torch.allclose(after, before * factor, rtol=1e-5, atol=0)
    # one step per tensor would not bear it
    one = (weight * factor).abs().max() / 127
    lost = snap(weight * factor, one, torch.zeros(()), -127, 127)
    assert not torch.allclose(lost, before * factor, rtol=0.1, atol=0)


# ---- the gradient ----


def test_the_gradient_passes_inside_and_not_outside() -> None:
    scale, zero = grid(SCHEMES["int8"], -1.0, 3.0)
    x = torch.linspace(-4, 6, 2001, requires_grad=True)
    slope = torch.randn(2001)
    snap(x, scale, zero, 0, 255).backward(slope)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    inside = (x >= -1.0) & (x <= 3.0)
    outside = (x < -1.0 - scale) | (x > 3.0 + scale)
    assert torch.equal(x.grad[inside], slope[inside])
    assert x.grad[outside].count_nonzero() == 0
    assert inside.sum() + outside.sum() >= 1990


def test_the_gradient_is_that_of_pytorchs_own() -> None:
    scale, zero = grid(SCHEMES["int8"], -1.0, 3.0)
    x, y = (torch.linspace(-4, 6, 2001, requires_grad=True) for _ in range(2))
    snap(x, scale, zero, 0, 255).sum().backward()  # type: ignore[no-untyped-call]
    torch.fake_quantize_per_tensor_affine(y, scale, zero.int(), 0, 255).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(x.grad, y.grad)


def test_the_largest_weight_of_a_channel_learns() -> None:
    weight = torch.randn(500, 20, requires_grad=True)
    snap(weight, *weight_grid(weight, 127), -127, 127).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(500, 20))


# ---- the network ----


def small() -> nn.Sequential:
    """Convolution, normalisation, a linear layer: 5 classes of 8x8 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)
    )


def test_a_layer_computes_with_rounded_weights_and_inputs() -> None:
    layer, image = nn.Conv2d(3, 8, 3, padding=1, stride=2), torch.randn(4, 3, 8, 8)
    Simulation(SCHEMES["int8"]).attach(layer)
    found = layer(image)
    rounded = snap(image, *activation_grid(*torch.aminmax(image), SCHEMES["int8"]), 0, 255)
    weight = snap(layer.weight, *weight_grid(layer.weight, 127), -127, 127)
    assert torch.equal(found, F.conv2d(rounded, weight, layer.bias, stride=2, padding=1))


@pytest.mark.parametrize("way", ["weight", "both", "none"])
def test_operands_may_be_given_by_name(way: str) -> None:
    class Named(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:  # PyTorch's own name for it
            if way == "weight":
                return F.conv2d(input, weight=self.weight, bias=self.bias, stride=2)
            if way == "both":
                return F.conv2d(bias=self.bias, weight=self.weight, input=input, stride=2)
            return F.conv2d(input, self.weight, self.bias, 2)

    layer, image = Named(3, 8, 3), torch.randn(4, 3, 8, 8)
    plain = nn.Conv2d(3, 8, 3, stride=2)
    plain.load_state_dict(layer.state_dict())
    for each in (layer, plain):
        Simulation(FEW).attach(each)
    assert torch.equal(layer(image), plain(image))


def test_names_and_the_network_are_left_alone() -> None:
    model = small()
    names, image = list(model.state_dict()), torch.randn(2, 3, 8, 8)
    parameters = [n for n, _ in model.named_parameters()]
    plain = model.eval()(image)
    simulation = Simulation(FEW)
    detach = simulation.attach(model)
    assert list(model.state_dict()) == names
    assert [n for n, _ in model.named_parameters()] == parameters
    assert not torch.allclose(model(image), plain, rtol=1e-3)
    with simulation.paused():
        assert torch.equal(model(image), plain)
    assert not torch.equal(model(image), plain)
    detach()
    assert torch.equal(model(image), plain)
    assert not any("forward" in vars(module) for module in model.modules())


def test_ranges_are_averaged_and_only_while_training() -> None:
    layer, simulation = nn.Linear(4, 2), Simulation(SCHEMES["int8"])
    simulation.attach(layer)
    batches = [torch.randn(16, 4) * size for size in (1.0, 2.0, 6.0)]
    for batch in batches:
        layer(batch)
    layer.eval()(torch.randn(4, 4) * 100)
    layer.train()
    simulation.observing = False
    layer(torch.randn(4, 4) * 100)
    found = simulation.state_dict()[""]
    wanted = torch.stack([torch.stack(torch.aminmax(batch)) for batch in batches]).mean(0)
    assert torch.allclose(found[:2], wanted)
    assert found[2] == 3


def test_old_batches_are_forgotten_after_a_hundred() -> None:
    layer, simulation = nn.Linear(1, 1), Simulation(SCHEMES["int8"])
    simulation.attach(layer)
    for value in [1.0] * 100 + [2.0] * 100:
        layer(torch.tensor([[value], [0.0]]))
    assert float(simulation.state_dict()[""][1]) == pytest.approx(2 - 0.99**100, abs=1e-3)


def test_inputs_nobody_has_seen_are_not_rounded() -> None:
    layer, image = nn.Linear(4, 2).eval(), torch.randn(8, 4)
    Simulation(FEW).attach(layer)
    weight = snap(layer.weight, *weight_grid(layer.weight, 7), -7, 7)
    assert torch.equal(layer(image), F.linear(image, weight, layer.bias))


def test_the_state_brings_the_same_answers() -> None:
    model, image = small(), torch.randn(16, 3, 8, 8)
    simulation = Simulation(FEW)
    simulation.attach(model)
    model(image)
    wanted = model.eval()(image)
    again = small()
    again.load_state_dict(model.state_dict())
    restored = Simulation(FEW)
    restored.attach(again)
    assert not torch.equal(again.eval()(image), wanted)
    restored.load_state_dict(simulation.state_dict())
    assert torch.equal(again(image), wanted)


def test_a_copy_has_ranges_of_its_own() -> None:
    model, image = small(), torch.randn(16, 3, 8, 8)
    simulation = Simulation(FEW)
    simulation.attach(model)
    model(image)
    twin = copy.deepcopy(model)
    assert torch.equal(twin.eval()(image), model.eval()(image))
    before = simulation.state_dict()
    with torch.no_grad():
        next(twin.parameters()).zero_()
    twin.train()(image * 50)
    assert simulation.state_dict() == before
    assert not torch.equal(twin.eval()(image), model(image))


def test_two_networks_may_share_the_ranges_of_one() -> None:
    model, image = small(), torch.randn(16, 3, 8, 8)
    average = copy.deepcopy(model).eval()
    simulation = Simulation(FEW)
    for network in (model, average):
        simulation.attach(network)
    model(image)
    seen = simulation.state_dict()
    average.load_state_dict(model.state_dict())
    assert torch.equal(average(image), model.eval()(image))
    assert simulation.state_dict() == seen


def test_a_weight_that_a_layer_makes_itself_is_the_one_that_is_rounded() -> None:
    layer, image = StdConv2d(3, 8, 3), torch.randn(4, 3, 8, 8)
    asked: list[Any] = []
    original = F.conv2d
    detach = Simulation(SCHEMES["int8"]).attach(layer)
    made = layer(image)
    detach()

    def spy(image: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        asked.extend((weight, rest))
        return original(image, weight, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "conv2d", spy)
        layer(image)
    weight, rest = asked
    assert not torch.equal(weight, layer.weight)
    rounded = snap(weight, *weight_grid(weight, 127), -127, 127)
    given = snap(image, *activation_grid(*torch.aminmax(image), SCHEMES["int8"]), 0, 255)
    assert torch.equal(made, original(given, rounded, *rest))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: zoo.create("resnet8", 5, 32),
    "mobilenetv3_small_050": lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),
    "vit": lambda: timm.create_model(
        "vit_tiny_patch16_224", num_classes=5, img_size=32, patch_size=8, depth=2
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_networks_are_rounded_throughout(name: str) -> None:
    model, image = MAKERS[name]().train(), torch.randn(8, 3, 32, 32)
    names = list(model.state_dict())
    simulation = Simulation(SCHEMES["int8"])
    detach = simulation.attach(model)
    model(image).square().sum().backward()
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(simulation.state_dict()) == sorted(layers)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert list(model.state_dict()) == names
    ranges = simulation.state_dict()
    detach()
    # normalised by the batch: random weights under the running statistics shrink to nothing
    model.requires_grad_(False)
    wanted, errors = model(image), []
    for bits in (12, 8, 4):
        scheme = Scheme(low=0, high=2**bits - 1, weights=2 ** (bits - 1) - 1)
        rounding = Simulation(scheme)
        rounding.load_state_dict(ranges)
        rounding.observing = False
        detach = rounding.attach(model)
        errors.append(float((model(image) - wanted).norm() / wanted.norm()))
        detach()
    assert 0 < errors[0] < errors[1] < errors[2], errors
