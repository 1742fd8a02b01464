"""int8 as a whole: held-out images choose, validation images accept, and what fails is repaired."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data import Images
from edgekd.errors import AccuracyError, UsageError
from edgekd.export._graph import facts
from edgekd.export._made import Made
from edgekd.export._order import Calibration, Order
from edgekd.export._quantising import int8
from edgekd.export._quantising.calibrators import CALIBRATORS
from edgekd.export._quantising.int8 import quantised
from edgekd.export._running import run_file
from edgekd.preprocess import Preprocess
from edgekd.recipe import Export
from edgekd.targets import Target

PLAIN = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ALLOWED = 0.03
Spoil = Callable[[nn.Sequential], None]


@pytest.fixture
def run(
    digit_net: nn.Sequential,
    digits: Callable[[int, int], Images],
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    tmp_path: Path,
) -> Callable[..., tuple[Made, list[str]]]:
    """Quantise the digit net after something was done to it; what was made, and what was said."""

    def make(
        spoil: Spoil = lambda net: None, planted: bool = False, **options: Any
    ) -> tuple[Made, list[str]]:
        net, said = copy.deepcopy(digit_net), list[str]()
        spoil(net)
        source = as_onnx(net, PLAIN, tmp_path / "float.onnx")
        images, held = digits(0, 128), digits(128, 256)
        if planted:
            images.pixels[0, 3, 3] = 255  # one pixel of 8192; no digit has more than 240
        calibration = Calibration(images, tuple(map(str, range(128))), "5" * 64, held)
        validation = digits(1000, 1400)
        chosen: dict[str, Any] = {"max_drop": ALLOWED, "repair": "post"} | options
        settings = Export(precision="int8", **chosen)
        order = Order(settings, validation, calibration, Target(), say=said.append)
        expected = run_file(source, PLAIN, validation.pixels)
        out = tmp_path / "out"
        out.mkdir()
        return quantised(source, out, order, PLAIN, expected), said

    return make


def rare_outlier(net: nn.Sequential) -> None:
    """A channel that nothing reads, and that one bright pixel drives to 6000; else it is 0."""
    first, second = cast("nn.Conv2d", net[0]), cast("nn.Conv2d", net[2])
    assert first.bias is not None
    with torch.no_grad():
        first.weight[3], first.bias[3] = 0.0, -0.96 * 150_000
        first.weight[3, 0, 1, 1] = 150_000
        second.weight[:, 3] = 0.0


def spoilt_weight(net: nn.Sequential) -> None:
    """One huge weight per filter of convolution 6, on a channel that is always 0."""
    made, read = cast("nn.Conv2d", net[4]), cast("nn.Conv2d", net[6])
    assert made.bias is not None
    with torch.no_grad():
        made.weight[3], made.bias[3], read.weight[:, 3] = 0.0, -1.0, 3000.0


def spoilt_everywhere(net: nn.Sequential) -> None:
    """The same in four layers; two of eight at most are left in float."""
    for made, read in ((0, 2), (4, 6), (6, 8), (8, 10)):
        maker, reader = cast("nn.Conv2d", net[made]), cast("nn.Conv2d", net[read])
        assert maker.bias is not None
        with torch.no_grad():
            maker.weight[3], maker.bias[3], reader.weight[:, 3] = 0.0, -1.0, 3000.0


def test_a_sound_network_is_quantised_at_once(
    run: Callable[..., tuple[Made, list[str]]], tmp_path: Path
) -> None:
    made, said = run()
    assert made.file == tmp_path / "out" / "model.onnx"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert facts(made.file)["precision"] == "int8"
    record, verdict = made.record["int8"], made.record["verdict"]
    assert verdict["passed"]
    assert verdict["n"] == 400
    assert verdict["reference"] > 0.85
    assert record["rung"] == "calibrated"
    assert (record["flavour"], record["per_channel"]) == ("vnni", True)
    assert (record["layers"], record["float_layers"], record["sensitivities"]) == (8, [], [])
    assert [rung["verdict"] for rung in record["rungs"]] == [verdict]
    assert record["rungs"][0]["bytes"] == made.file.stat().st_size
    calibration = record["calibration"]
    assert (calibration["n"], calibration["held_out"]) == (128, 128)
    assert calibration["sha256"] == "5" * 64
    assert calibration["names"] == [str(i) for i in range(128)]
    assert record["calibrator"] in said[0]


def test_the_calibrator_that_agrees_best_on_images_held_out_is_taken(
    run: Callable[..., tuple[Made, list[str]]],
) -> None:
    made, _ = run(rare_outlier, planted=True)
    table = {c["name"]: c for c in made.record["int8"]["calibrators"]}
    assert set(table) == set(CALIBRATORS)
    scores = [(c["agreement"], c["snr_db"]) for c in made.record["int8"]["calibrators"]]
    assert scores == sorted(scores, reverse=True)
    assert made.record["int8"]["calibrator"] == made.record["int8"]["calibrators"][0]["name"]
    assert table["percentile"]["agreement"] > table["minmax"]["agreement"] + 0.1
    assert table["percentile"]["snr_db"] > table["minmax"]["snr_db"] + 10
    assert made.record["int8"]["rung"] == "calibrated"


def test_validation_images_choose_no_calibrator(
    run: Callable[..., tuple[Made, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the candidates is settled before the first validation image is run."""
    sizes: list[int] = []

    def watched(file: Path, preprocess: Preprocess, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return run_file(file, preprocess, pixels)

    monkeypatch.setattr(int8, "run_file", watched)
    run()
    assert sizes == [128] * (1 + len(CALIBRATORS)) + [400]


def test_only_the_calibrator_that_was_asked_for_is_tried(
    run: Callable[..., tuple[Made, list[str]]], tmp_path: Path
) -> None:
    with pytest.raises(AccuracyError) as error:
        run(rare_outlier, planted=True, calibrator="minmax", repair="none")
    text = str(error.value)
    assert "tiny in int8 is refused after 1 attempt. The best, calibrated by minmax" in text
    assert "--repair post or all" in text
    assert "--max-drop" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx.rejected"]
    assert facts(tmp_path / "out" / "model.onnx.rejected")["precision"] == "int8"


def test_another_calibrator_is_the_first_repair(
    run: Callable[..., tuple[Made, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out images may all look alike; here they are made to prefer the wrong calibrator."""
    order = int8._candidates

    def misled(bench: int8.Bench) -> list[int8.Candidate]:
        return sorted(order(bench), key=lambda c: c.calibrator != "minmax")

    monkeypatch.setattr(int8, "_candidates", misled)
    made, said = run(rare_outlier, planted=True)
    record = made.record["int8"]
    assert [rung["rung"] for rung in record["rungs"]] == ["calibrated", "other calibrator"]
    assert [rung["verdict"]["passed"] for rung in record["rungs"]] == [False, True]
    assert record["rungs"][0]["calibrator"] == "minmax"
    assert record["calibrator"] == record["rungs"][1]["calibrator"] != "minmax"
    assert record["rung"] == "other calibrator"
    assert any("calibrated by minmax, is refused" in line for line in said)


def test_a_spoilt_layer_is_left_in_float_and_named(
    run: Callable[..., tuple[Made, list[str]]],
) -> None:
    made, said = run(spoilt_weight)
    record = made.record["int8"]
    assert record["float_layers"] == ["6"]
    assert record["rung"] == "layers in float"
    passed = [rung["verdict"]["passed"] for rung in record["rungs"]]
    assert passed == [False] * 2 + [True]  # no calibrator mends a weight
    assert record["sensitivities"][0]["layers"] == ["6"]
    assert len(record["sensitivities"]) == 8
    assert facts(made.file)["weighted"] == {"int8": 7, "fp32": 1}
    assert record["rungs"][-1]["bytes"] > record["rungs"][0]["bytes"] + 3 * 16 * 16 * 9 - 500
    assert "1 layer in float (6)" in said[-1]


def test_a_spoilt_tensor_takes_its_maker_and_its_reader(
    run: Callable[..., tuple[Made, list[str]]],
) -> None:
    made, _ = run(rare_outlier, planted=True, calibrator="minmax")
    record = made.record["int8"]
    assert set(record["float_layers"]) == {"0", "2"}
    assert [len(rung["float_layers"]) for rung in record["rungs"]] == [0, 2]


def test_nothing_that_holds_is_an_error_with_numbers(
    run: Callable[..., tuple[Made, list[str]]], tmp_path: Path
) -> None:
    with pytest.raises(AccuracyError) as error:
        run(spoilt_everywhere)
    assert "refused after 2 attempts" in str(error.value)
    assert "points of top-1" in str(error.value)
    assert "--repair all" in str(error.value)
    assert "--precision fp16 or fp32" in str(error.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx.rejected"]


def test_without_images_to_calibrate_on_there_is_no_int8(
    digits: Callable[[int, int], Images], float_resnet: Path, tmp_path: Path
) -> None:
    order = Order(Export(precision="int8"), digits(0, 10))
    with pytest.raises(UsageError, match=r"training images.*--data.*--precision fp32"):
        quantised(float_resnet, tmp_path, order, PLAIN, np.zeros((10, 10), np.float32))
    assert not list(tmp_path.iterdir())


def test_answers_of_the_student_before_tuning_are_what_counts(
    digits: Callable[[int, int], Images],
    digit_net: nn.Sequential,
    as_onnx: Callable[[nn.Module, Preprocess, Path], Path],
    tmp_path: Path,
) -> None:
    """``expected`` may come from another network than the file; held-out agreement may not."""
    source = as_onnx(digit_net, PLAIN, tmp_path / "float.onnx")
    validation = digits(1000, 1400)
    calibration = Calibration(digits(0, 64), ("",) * 64, "5" * 64, digits(64, 128))
    settings = Export(precision="int8", max_drop=ALLOWED, repair="none")
    order = Order(settings, validation, calibration)
    perfect = np.eye(10, dtype=np.float32)[validation.targets]
    wrong = np.roll(perfect, 1, axis=1)
    with pytest.raises(AccuracyError):  # it beats those answers, but it is another network
        quantised(source, tmp_path, order, PLAIN, wrong)
    own = run_file(source, PLAIN, validation.pixels)
    made = quantised(source, tmp_path, replace(order, answers=own), PLAIN, own)
    assert made.record["verdict"]["passed"]
