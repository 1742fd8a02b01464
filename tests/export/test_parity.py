"""Parity: each number against its formula, and the verdict."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekd.export._parity import Logits, compare


def logits(images: int = 100, classes: int = 5) -> Logits:
    return np.random.default_rng(0).normal(0, 3, (images, classes))


def noise(of: Logits, size: float) -> Logits:
    drawn: Logits = np.random.default_rng(1).normal(0, size, of.shape)
    return drawn


# The numbers


def test_equal_logits_pass_with_finite_numbers() -> None:
    parity = compare(logits(), logits(), (1, 7))
    assert parity.passed
    assert (parity.top1_agreement, parity.flips, parity.kl, parity.max_abs) == (1.0, 0, 0.0, 0.0)
    assert parity.cosine == pytest.approx(1.0)
    assert parity.snr_db == 200.0
    assert json.loads(json.dumps(parity.to_dict(), allow_nan=False))["batches"] == [1, 7]


def test_numbers_follow_their_formulas() -> None:
    p, q = logits(), logits() + noise(logits(), 0.5)
    parity = compare(p, q, least_db=0)
    softmax = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (p, q)]
    kl = [sum(a * np.log(a / b)) for a, b in zip(*softmax, strict=True)]
    cosines = [a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(p, q, strict=True)]
    signal = sum(((row - row.mean()) ** 2).sum() for row in p)
    assert parity.kl == pytest.approx(np.mean(kl))
    assert parity.cosine == pytest.approx(np.mean(cosines))
    assert parity.snr_db == pytest.approx(10 * np.log10(signal / ((q - p) ** 2).sum()))
    assert parity.max_abs == pytest.approx(np.abs(q - p).max())
    assert parity.max_relative == pytest.approx(np.abs(q - p).max() / np.abs(p).max())
    assert parity.flips == sum(a.argmax() != b.argmax() for a, b in zip(p, q, strict=True))


# The verdict


def test_rounding_passes() -> None:
    assert compare(logits(), logits().astype(np.float32)).passed


def test_flip_of_a_near_tie_is_excused() -> None:
    expected = logits()
    expected[0] = [1.0, 1.0 + 1e-7, 0, 0, 0]
    found = expected + noise(expected, 1e-7)
    found[0] = [1.0 + 1e-7, 1.0, 0, 0, 0]
    parity = compare(expected, found)
    assert (parity.flips, parity.excused, parity.passed) == (1, 1, True)


def test_flip_of_a_sure_answer_fails_though_the_noise_is_small() -> None:
    expected = 1e3 * logits(images=2000)
    found = expected + noise(expected, 1e-4)
    expected[0, :2] = found[0, 1] = expected[0].max() + 1
    expected[0, 0] += 0.01
    found[0, 0] = expected[0, 0] - 0.02
    parity = compare(expected, found)
    assert parity.snr_db > 90
    assert (parity.flips, parity.excused) == (1, 0)
    assert parity.reasons[0].startswith("1 of 2000 images change class where the network is sure")


def test_images_gone_wrong_do_not_excuse_themselves() -> None:
    expected = logits()
    found = expected + noise(expected, 1e-6)
    found[:10] = found[:10, ::-1]
    parity = compare(expected, found, least_db=0)
    assert parity.flips > parity.excused == 0


def test_error_without_any_flip_fails() -> None:
    parity = compare(logits(), logits() * 1.01)
    assert parity.flips == 0
    assert parity.reasons == ("its logits are only 39.1 dB above their error; expected 90 dB",)


def test_constant_added_to_all_logits_fails() -> None:
    assert not compare(logits(), logits() + 0.1).passed


def test_one_class_has_no_flips() -> None:
    assert compare(logits(classes=1) * 0, logits(classes=1) * 0).passed


@pytest.mark.parametrize("whose", ["network", "file"])
def test_logits_that_are_not_finite_fail(whose: str) -> None:
    broken = logits()
    broken[3, 0] = np.nan
    pair = (broken, logits()) if whose == "network" else (logits(), broken)
    parity = compare(*pair)
    assert "not finite on 1 images" in parity.reasons[0]
    assert json.loads(json.dumps(parity.to_dict(), allow_nan=False))["kl"] is None


def test_other_number_of_classes_fails() -> None:
    parity = compare(logits(), logits()[:, :4])
    assert parity.reasons == ("its logits are (100, 4), expected (100, 5)",)
