"""Numbers as people read them."""

from __future__ import annotations

import pytest

from edgekd.report import text, verdict
from edgekd.report.view import Estimate, Percentile, RunView


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.21234, "0.212 ms"),
        (12.345, "12.3 ms"),
        (1234.5, "1,234 ms"),
        (0.000123, "0.000123 ms"),
        (0.0, "0 ms"),
        (None, text.NONE),
    ],
)
def test_milliseconds(value: float | None, expected: str) -> None:
    assert text.milliseconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999_600, "1.00 MB"),
        (78_042, "78.0 kB"),
        (11_200_000, "11.2 MB"),
        (2_500_000_000, "2.50 GB"),
        (None, text.NONE),
    ],
)
def test_scaled(value: float | None, expected: str) -> None:
    assert text.scaled(value, "B") == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(5.23, "5.2 s"), (59, "59 s"), (96, "1 min 36 s"), (7260, "2 h 01 min")]
)
def test_seconds(value: float, expected: str) -> None:
    assert text.seconds(value) == expected


def test_an_interval_shows_that_its_ends_differ() -> None:
    assert text.latency(Percentile(1.9134, 1.9131, 1.9139), True) == "1.9134 ms [1.9131, 1.9139]"
    assert text.latency(Percentile(1.9134, 1.8, 2.0), True) == "1.91 ms [1.80, 2.00]"
    assert text.latency(Percentile(1.9134), True) == "1.91 ms"
    assert text.latency(Percentile(None, reason="3 runs, need 7")) == "n/a (3 runs, need 7)"


def test_percent_has_as_many_digits_as_the_images_can_tell() -> None:
    assert text.percent(0.93344, 360) == "93.3%"
    assert text.percent(0.93344, 10_000) == "93.34%"
    assert text.percent_interval(Estimate(0.9, 0.85, 0.94, 100)) == "[85.0, 94.0]"
    assert text.points(-0.0123) == "\u22121.2"


def test_a_difference_has_the_interval_that_is_known() -> None:
    assert text.difference(-0.003, [-0.0089, 0.0024], 2000) == "\u22120.3 [\u22120.9, +0.2]"
    assert text.difference(-0.003, [-0.0089, 0.0024], 9000) == "\u22120.30 [\u22120.89, +0.24]"
    for unknown in (None, [], [0.1], [0.1, None], [0.1, 0.2, 0.3], "ab", {"lo": 0.1}):
        assert text.difference(0.012, unknown) == "+1.2"
    assert text.difference(None, [0.1, 0.2]) == text.NONE


def test_names_cannot_turn_or_break_a_line() -> None:
    assert text.plain("a\u202eb\nc\x00d\ud800") == "ab c\ufffdd\ufffd"
    assert text.plain("שלום") == "שלום"
    assert text.plain("x" * 50, 10) == "x" * 9 + "…"


def test_facts_of_any_kind() -> None:
    assert text.anything([1, 2.5, "x", None, True]) == f"1, 2.50, x, {text.NONE}, yes"
    assert text.anything({"a": {"b": 1}}) == "a b 1"
    assert text.anything(list(range(20))) == "0 to 19 (20 values)"
    assert text.moment("2025-01-02T03:04:05+02:00") == "2025-01-02 01:04 UTC"
    assert text.moment("yesterday") == "yesterday"


def gained(delta: float, interval: object) -> verdict.Statement:
    found = {"metric": "top1", "delta": delta, "interval": interval, "n": 500}
    statement = verdict.gain(RunView((), (), (), (), {"gain": found}, "", ()))
    assert statement
    return statement


def test_a_gain_is_claimed_only_where_the_interval_leaves_out_zero() -> None:
    helped = gained(0.03, [0.01, 0.05])
    assert (helped.figure, helped.facts[0]) == ("+3.0 points", "distillation helped")
    hurt = gained(-0.03, [-0.05, -0.01])
    assert (hurt.figure, hurt.facts[0]) == ("\u22123.0 points", "distillation hurt")
    for interval in ([-0.004, 0.028], [0.0, 0.02], [-0.02, 0.0]):
        nothing = gained(0.012, interval)
        assert (nothing.figure, nothing.facts[0]) == ("no difference seen", "+1.2 points")
    assert gained(0.01, None).facts[0] == "no interval, hence no claim"
