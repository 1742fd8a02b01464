"""``auto``: who is kept, and what is said about the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifact import Artifact, create, is_artifact
from edgekd.errors import AccuracyError
from edgekd.files import sha256
from edgekd.flow import fastest
from edgekd.flow.ordering import Exporting
from edgekd.recipe import Data, Export
from edgekd.targets import Target
from tests.flow.conftest import Heard

TYPES = {"Conv": {"int8": 5}, "HardSwish": {"fp32": 34}}
NULL = {"value": 1.001, "lo": 0.999, "hi": 1.003, "method": ""}


@pytest.fixture
def contest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run ``auto`` on files that are not built and times that are not measured."""

    def built(job: Exporting, out: Path, options: Export, tuned: Path) -> Artifact:
        assert tuned == tmp_path / "out-tuned"
        if options.precision in refused:
            raise AccuracyError(f"{options.precision} loses 9 points.")
        export = {
            "precision_asked": options.precision,
            "bytes": 10,
            "verdict": {"delta": 0.0},
            "types": TYPES,
        }
        with create(out, {"kind": "onnx", "export": export}) as folder:
            (folder / "model.onnx").write_text(options.precision)
        return Artifact.open(out)

    def measure(models: list[Path], *_: Any, **__: Any) -> list[dict[str, Any]]:
        found = times.pop(0)
        names = [path.name for path in models]
        head = [
            {"timing": {}, "artifact": {"sha256": sha256(p / "model.onnx")}, "layers": None}
            for p in models
        ]
        return head + [
            {
                "comparison": {
                    "null": NULL,
                    "ratio": {"value": found[n][0], "lo": found[n][0], "hi": found[n][0]},
                    "sentence": found[n][1],
                }
            }
            for n in names[1:]
        ]

    refused: set[str] = set()
    times: list[dict[str, tuple[float, str]]] = []
    monkeypatch.setattr(fastest, "export_repaired", built)
    monkeypatch.setattr(fastest, "measure", measure)

    def run(
        *measured: dict[str, tuple[float, str]],
        precisions: tuple[str, ...] = ("fp32", "int8"),
        without: set[str] = frozenset(),  # type: ignore[assignment]
    ) -> tuple[Artifact, list[str]]:
        times[:], heard = measured, Heard()
        refused.update(without)
        target = Target(precisions=precisions)
        job = Exporting(None, Export(), Data(), None, target, watch=heard)  # type: ignore[arg-type]
        made = fastest.export_fastest(job, tmp_path / "out", Export(precision="auto"))
        assert not times, "measured less often than expected"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        return made, made.manifest["export"]["auto"]["reasons"]

    return run


def kept(made: Artifact) -> str:
    return made.model_file.read_text()


def test_the_faster_one_is_kept_after_a_second_measurement(contest: Any) -> None:
    fast = {"int8": (0.30, "int8 is 69-71 % faster (95 %)")}
    made, reasons = contest(fast, {"int8": (0.31, "int8 is 68-70 % faster (95 %)")})
    assert kept(made) == "int8"
    assert reasons == ["int8 it is: 0.30x of the time of fp32, measured again 0.31x."]
    section = made.manifest["export"]
    assert section["asked"]["precision"] == "auto"
    assert section["auto"]["chosen"] == "int8"
    assert section["auto"]["null"] == NULL
    assert [c["precision"] for c in section["auto"]["candidates"]] == ["fp32", "int8"]


def test_a_slower_one_is_refused_with_the_reason(contest: Any) -> None:
    made, reasons = contest({"int8": (1.2, "int8 is 19-21 % slower (95 %)")})
    assert kept(made) == "fp32"
    assert reasons == [
        "int8 is out: 1.20x slower than fp32 here: 34 HardSwish nodes stay float.",
        "fp32 stays.",
    ]


def test_what_noise_could_be_is_no_gain(contest: Any) -> None:
    made, reasons = contest({"int8": (0.97, "no difference seen")})
    assert kept(made) == "fp32"
    assert reasons[0].startswith("int8 is out: no faster than fp32 here (0.97x, no difference")


def test_a_gain_that_does_not_come_back_is_none(contest: Any) -> None:
    first = {"int8": (0.80, "int8 is 19-21 % faster (95 %)")}
    made, reasons = contest(first, {"int8": (1.01, "no difference seen")})
    assert kept(made) == "fp32"
    assert "not repeatable here, so fp32 stays" in reasons[0]


def test_a_small_gain_has_to_come_back_too(contest: Any) -> None:
    """1.01 is within 5 % of 0.97, and no gain."""
    first = {"int8": (0.97, "int8 is 2-4 % faster (95 %)")}
    made, reasons = contest(first, {"int8": (1.01, "no difference seen")})
    assert kept(made) == "fp32"
    assert "not repeatable here, so fp32 stays" in reasons[0]


def test_a_gain_that_comes_back_smaller_is_kept_and_said(contest: Any) -> None:
    first = {"int8": (0.50, "int8 is 49-51 % faster (95 %)")}
    made, reasons = contest(first, {"int8": (0.60, "int8 is 39-41 % faster (95 %)")})
    assert kept(made) == "int8"
    assert "not within 5 % but faster all the same" in reasons[0]


def test_what_loses_too_much_is_not_timed(contest: Any) -> None:
    made, reasons = contest(without={"int8"})
    assert kept(made) == "fp32"
    assert reasons == [
        "int8 is out: int8 loses 9 points.",
        "fp32 stays: there is nothing to time it against.",
    ]
    refused = made.manifest["export"]["auto"]["candidates"][1]
    assert refused["refused"] == "int8 loses 9 points."


def test_the_fastest_of_three_is_kept(contest: Any) -> None:
    first = {"fp16": (0.6, "fp16 is 40 % faster"), "int8": (0.5, "int8 is 50 % faster")}
    made, _ = contest(
        first, {"int8": (0.5, "int8 is 50 % faster")}, precisions=("fp32", "fp16", "int8")
    )
    assert kept(made) == "int8"


def test_a_network_that_float_does_not_hold_is_no_contest(contest: Any, tmp_path: Path) -> None:
    with pytest.raises(AccuracyError, match="fp32 loses"):
        contest(without={"fp32"})
    assert not is_artifact(tmp_path / "out")
