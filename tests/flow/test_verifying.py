"""Verifying: what is the same, slower, other or not to be told; and one real measurement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd import intervals
from edgekd.errors import ArtifactError, DataError, UsageError
from edgekd.files import sha256
from edgekd.flow import verifying
from edgekd.flow.differences import answers, conditions, memory
from edgekd.flow.judging import judge
from edgekd.flow.measuring import Truth, measure
from edgekd.flow.proving import Proof, keep, read
from edgekd.flow.verifying import Verification, verify
from edgekd.loading import open_splits
from edgekd.profiling import Policy
from edgekd.recipe import Data
from tests.flow.conftest import Heard
from tests.flow.kept import DIGITS, artifact, record

TARGETS = [int(t) for t in open_splits(Data(source="digits", size=8, limit=300)).test.targets]
SHA = "ab" * 32


def proof(**more: Any) -> Proof:
    given: dict[str, Any] = {
        "predictions": (3, 1, 4),
        "answers": ((0.5, -1.0), (3.0, 2.0)),
        "record": {},
        **more,
    }
    record_of = record(SHA, **given.pop("record"))
    return Proof("local", SHA, record_of, DIGITS, "cd" * 32, **given)


# ---- the decision ----

SPEEDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "same"),
    ({}, {"median": 2.09}, "same"),  # within 5 %, intervals apart
    ({"half": 0.2}, {"median": 2.3, "half": 0.2}, "same"),  # beyond, and they overlap
    ({}, {"median": 2.2}, "slower"),
    ({}, {"median": 1.8}, "faster"),
    ({}, {"median": 2.2, "state": "noisy"}, "cannot tell"),
    ({}, {"median": 1.0, "state": "throttled"}, "cannot tell"),
    ({}, {"state": "unstable"}, "cannot tell"),
    ({}, {"state": "drifting"}, "cannot tell"),
    ({"state": "noisy"}, {}, "cannot tell"),
    # the median of undisturbed runs decides, where both have one
    ({"undisturbed": 2.0}, {"undisturbed": 2.0, "median": 3.0}, "same"),
    ({"undisturbed": 2.0}, {"undisturbed": 2.2, "median": 2.0}, "slower"),
    ({}, {"undisturbed": 2.0, "median": 3.0}, "slower"),
    ({}, {"p95": 5.0}, "same"),  # shown, but it decides nothing
    ({}, {"p95": 0.5}, "same"),
    ({}, {"p95": None}, "same"),
    ({}, {"peak": 100_000_000}, "same"),
]


@pytest.mark.parametrize(("old", "now", "verdict"), SPEEDS)
def test_speed(old: dict[str, Any], now: dict[str, Any], verdict: str) -> None:
    found = judge(proof(record=old), proof(record=now), TARGETS[:3])
    assert found.verdict == verdict
    assert found.sentence.startswith(f"{verdict}: ")
    assert found.answers.differ is False


def test_what_the_sentence_says() -> None:
    (old, now) = proof(), proof(record={"median": 2.2})
    assert judge(old, old).sentence == (
        "same: median 2 ms then, 2 ms now (+0.0%); 3 predictions and the answers to 2 timed inputs "
        "are those of the proof."
    )
    assert judge(old, now).sentence.endswith(
        "(+10.0%); 3 predictions and the answers to 2 timed inputs are those of the proof. "
        "Software, system and settings are those of the proof."
    )
    wide = judge(proof(record={"half": 0.3}), now)
    assert "(+10.0%), and the two intervals overlap; " in wide.sentence
    noisy = judge(old, proof(record={"state": "noisy"}))
    assert noisy.why == (
        "this measurement is noisy (it is noisy); close other programs there and try again"
    )
    assert "the proof is unstable" in judge(proof(record={"state": "unstable"}), now).why
    silent = proof(predictions=None, answers=None)
    assert judge(silent, silent).why.endswith("the proof holds no answers, so none were compared")
    newer = {"runtime": {"version": "1.23.1"}, "device": {"governor": "powersave"}}
    caused = judge(old, proof(record={"median": 2.2, **newer})).sentence
    assert caused.endswith(
        " Changed since the proof: runtime version 1.22.0 -> 1.23.1, governor not known -> "
        "powersave."
    )


@pytest.mark.parametrize("lost", ["answers", "predictions"])
def test_answers_that_are_not_there_any_more_are_not_the_same(lost: str) -> None:
    found = judge(proof(), proof(**{lost: None}))
    assert found.verdict == "cannot tell"
    assert found.why == f"the proof holds {lost}, this measurement does not"


@pytest.mark.parametrize(
    ("precision", "moved", "differs"),
    [
        ("fp32", 0.0005, False),
        ("fp32", 0.002, True),
        ("fp16", 0.005, False),
        ("fp16", 0.02, True),
        ("int8", 0.02, False),
        (None, 0.02, False),
    ],
)
def test_how_far_logits_may_move(precision: str, moved: float, differs: bool) -> None:
    old = proof(record={"precision": precision}, answers=((4.0, -8.0),))
    found = answers(old, replace(old, answers=((4.0 + 8 * moved, -8.0),)))
    assert found.furthest == pytest.approx(moved)
    assert found.moved is found.differ is differs
    assert found.other_classes == 0


OTHERS: list[tuple[tuple[tuple[float | None, ...], ...], int, str]] = [
    (((0.5, 0.6), (3.0, 2.0)), 1, "another class for 1 of 2 timed inputs"),
    (((0.5, -1.0, 0.0), (3.0, 2.0)), 0, "logits of another shape or not finite"),
    (((0.5, None), (3.0, 2.0)), 0, "logits of another shape or not finite"),
    (((None, None), (3.0, 2.0)), 0, "logits of another shape or not finite"),
    (((0.5, -1.0),), 1, "logits of another shape or not finite"),
]


@pytest.mark.parametrize(("now", "classes", "text"), OTHERS)
def test_other_answers(now: tuple[tuple[float | None, ...], ...], classes: int, text: str) -> None:
    found = judge(proof(), proof(answers=now, record={"state": "noisy"}))  # noise excuses nothing
    assert found.verdict == "different answers"
    assert found.answers.other_classes == classes
    assert text in found.why


def test_a_logit_that_never_was_a_number_is_the_same() -> None:
    old = proof(answers=((None, 1.0),))
    assert not answers(old, old).differ
    assert answers(old, old).furthest == 0.0


def test_other_predictions_come_with_what_they_cost() -> None:
    truth, old = [0, 1] * 500, [0, 1] * 500
    now = [1, 0, 1, *old[3:]]
    found = judge(proof(predictions=tuple(old)), proof(predictions=tuple(now)), truth)
    assert found.verdict == "different answers"
    expected = intervals.paired_difference(0, 3, 1000)
    assert found.accuracy is not None
    assert found.accuracy["delta"] == pytest.approx(-0.003)
    assert found.accuracy["delta_interval"] == [expected.lo, expected.hi]
    assert found.why == (
        f"3 of 1,000 images, top-1 -0.30 points [{100 * expected.lo:+.2f}, "
        f"{100 * expected.hi:+.2f}]"
    )
    same = judge(proof(predictions=tuple(old)), proof(predictions=tuple(old)), truth)
    assert same.accuracy is None


def test_of_a_tail_only_the_figures_are_shown() -> None:
    for now, word in ((5.0, ""), (0.5, ""), (None, "n/a")):
        figure = judge(proof(), proof(record={"p95": now})).figures[1]
        assert (figure.name, figure.old, figure.now, figure.word) == ("p95", 2.5, now, word)


def test_memory_is_only_shown() -> None:
    before = record(SHA, peak=60_000_000)
    words = {67: "same", 69: "more", 51: "less", 60: "same"}
    for megabytes, word in words.items():
        assert memory(before, record(SHA, peak=megabytes * 1_000_000)).word == word
    large = record(SHA, peak=500_000_000)
    assert memory(large, record(SHA, peak=520_000_000)).word == "same"  # 20 MB, but 4 %
    assert memory(before, record(SHA, memory={"peak_rss_bytes": None})).word == "n/a"


def test_conditions_are_named() -> None:
    before = record(SHA)
    assert conditions(before, before) == []
    after = record(SHA, device={"kernel": "6.6"}, policy={"threads": 4}) | {"edgekd_version": "2"}
    found = [(each.name, each.old, each.now) for each in conditions(before, after)]
    assert found == [("kernel", None, "6.6"), ("threads", 1, 4), ("edgekd", "1.0", "2")]


# ---- measuring again ----

Script = Callable[..., list[Any]]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return artifact(tmp_path / "student-onnx")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Measurements as they are told, each kept as a real one is; returns what was asked for."""

    def prepare(*tries: dict[str, Any]) -> list[Any]:
        asked, left = [], list(tries)

        def fake(
            models: Sequence[Path], policy: Policy, device: str, truth: Truth | None, *_: object
        ) -> None:
            asked.append((models, policy, device, truth))
            given = left.pop(0)
            for path in models:
                prove(path, **given)

        monkeypatch.setattr(verifying, "measure", fake)
        return asked

    return prepare


def prove(path: Path, *, images: bool = True, sha: str = SHA, **given: Any) -> None:
    predictions = given.pop("predictions", TARGETS)
    logits = given.pop("answers", [[1.0, 2.0]])
    made = record(sha256(path / "model.onnx"), **given)
    if images:
        keep(path, "local", made, DIGITS, sha, predictions, logits)
    else:
        keep(path, "local", made, None, None, None, logits)


ASKED = {"batch_size": 4, "spinning": True, "affinity": "0", "layers": True, "energy": True}
ASKED |= {"sweep": True, "sustained_s": 60.0, "image_size": [8, 8], "input": "random"}


def test_it_is_measured_as_the_proof_was(made: Path, scripted: Script) -> None:
    prove(made, asked=ASKED, policy={"threads": 3})
    before = (made / "proof" / "local.json").read_bytes()
    asked = scripted({})
    found = verify(made)
    assert (found.judgement.verdict, found.tries, found.regression) == ("same", 1, False)
    ((models, policy, device, truth),) = asked
    assert [path.name for path in models] == ["student-onnx"]
    assert policy == Policy(
        threads=3, batch_size=4, spinning=True, affinity="0", image_size=(8, 8), input="random"
    )
    assert device == "local"
    assert truth == Truth(Data(**DIGITS), tuple(TARGETS))  # paired with what the proof says
    assert (made / "proof" / "local.json").read_bytes() == before  # the proof stays
    verify_again = scripted({})
    verify(made, max_seconds=2.5, data={"limit": 200})
    assert verify_again[0][1].max_seconds == 2.5
    assert verify_again[0][3].data.limit == 200


def test_what_was_timed_in_turn_is_timed_in_turn(made: Path, scripted: Script) -> None:
    prove(made, policy={"order": "interleaved"})
    asked = scripted({})
    assert verify(made).judgement.verdict == "same"
    first, second = asked[0][0]
    assert first != second


SLOW, FAST, FINE, NOISY = {"median": 2.4}, {"median": 1.5}, {"median": 2.02}, {"state": "noisy"}
TRIES: list[tuple[list[dict[str, Any]], str, int, bool, bool]] = [
    ([FINE], "same", 1, True, True),
    ([FAST, FAST], "faster", 2, True, True),
    ([FAST, FINE], "same", 2, True, True),
    ([FAST, NOISY], "cannot tell", 2, True, False),
    ([FAST, SLOW], "cannot tell", 2, True, False),
    ([NOISY], "cannot tell", 1, True, False),
    ([SLOW, SLOW], "slower", 2, False, False),
    ([SLOW, FINE], "same", 2, True, True),
    ([SLOW, NOISY], "cannot tell", 2, False, False),  # for safety
    ([SLOW, FAST], "cannot tell", 2, True, False),
    ([SLOW, {"answers": [[2.0, 1.0]]}], "different answers", 2, False, False),
    ([{"predictions": TARGETS[::-1]}], "different answers", 1, False, False),
]


@pytest.mark.parametrize(("tries", "verdict", "count", "passed", "gated"), TRIES)
def test_a_change_of_speed_has_to_show_twice(
    tries: list[dict[str, Any]],
    verdict: str,
    count: int,
    passed: bool,
    gated: bool,
    made: Path,
    scripted: Script,
) -> None:
    prove(made)
    asked, heard = scripted(*tries), Heard()
    found = verify(made, watch=heard)
    assert (found.judgement.verdict, found.tries, len(asked)) == (verdict, count, count)
    assert (found.passed(gate=False), found.passed(gate=True)) == (passed, gated)
    assert len(heard.said) == count - 1
    why, unconfirmed = found.judgement.why, tries == [SLOW, NOISY]
    assert why.startswith("slower once (+20.0%), then too noisy to confirm") is unconfirmed
    doubted = count == 2 and not unconfirmed and verdict in ("same", "cannot tell")
    first = f"{tries[0].get('median', 2) / 2 - 1:+.1%}"
    assert why.endswith(f"; a first try was {first}") is doubted
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (told["verdict"], told["tries"]) == (verdict, count)
    assert (told["regression"] or told["unconfirmed"]) is not passed
    assert told["figures"][0]["change"] == found.judgement.figures[0].change


def test_other_images_are_not_the_models_fault(made: Path, scripted: Script) -> None:
    prove(made)
    scripted({"sha": "12" * 32})
    with pytest.raises(
        DataError, match=r"the data changed: .* sha256 1212.*, those of the .* abab"
    ):
        verify(made)
    prove(made, predictions=TARGETS[:7])
    asked = scripted({})
    with pytest.raises(DataError, match=r"digits has \d+ test images, and the proof is of 7"):
        verify(made)
    assert asked == []  # found before anything was measured


def test_other_inputs_are_not_the_models_fault(made: Path, scripted: Script) -> None:
    prove(made, images=False, policy={"input": "photos (scikit-learn)"})
    scripted({"images": False, "policy": {"input": "random (no photos)"}})
    with pytest.raises(UsageError, match=r"was timed on 'photos \(scikit-learn\)', and .*'random"):
        verify(made)


def test_what_cannot_be_repeated(made: Path, scripted: Script) -> None:
    asked = scripted()
    with pytest.raises(UsageError, match="holds no proof for local"):
        verify(made)
    prove(made, images=False)
    with pytest.raises(UsageError, match="the proof was made without images"):
        verify(made, data={"source": "digits"})
    prove(made, asked={"warp": 9})
    with pytest.raises(UsageError, match=r"measured by edgekd 1\.0 with warp, which this edgekd"):
        verify(made)
    (made / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="was changed after it was made"):
        verify(made)
    assert asked == []


def test_without_links_it_is_copied(
    made: Path, scripted: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    prove(made)
    scripted({})
    assert verify(made).judgement.verdict == "same"


def test_what_was_measured_and_could_not_be_kept(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person has never heard of the double that it was measured of."""
    prove(made)
    monkeypatch.setattr(verifying, "measure", lambda *_: None)  # which says why by itself
    with pytest.raises(UsageError, match=r"student-onnx was measured.*set TMPDIR") as caught:
        verify(made)
    assert "/0/student-onnx" not in str(caught.value)


# ---- for real ----

QUICK = Policy(
    threads=1, max_seconds=0.5, min_seconds=0, warmup_seconds=0.01, blocks=3, block_seconds=0.02
)


def rewritten(path: Path, change: Callable[[Any], None]) -> None:
    """Plant something into the proof."""
    file = path / "proof" / "local.json"
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))


def test_a_proof_of_this_machine_is_repeated(made: Path) -> None:
    """How fast it is here is not looked at: the machine may be busy."""
    measure([made], QUICK, truth=Truth(Data(**DIGITS)))
    kept = read(made, "local")
    assert len(kept.predictions or ()) == len(TARGETS)
    assert {len(logits) for logits in kept.answers or ()} == {10}
    found: Verification = verify(made, max_seconds=0.3)
    assert found.judgement.verdict != "different answers", found.judgement.sentence
    assert found.judgement.answers.images == len(TARGETS)
    assert found.judgement.answers.feeds == len(kept.answers or ())
    assert found.judgement.answers.furthest == 0.0
    assert found.judgement.conditions == ()
    assert found.now["evidence"]["asked"]["max_seconds"] == 0.3
    assert read(made, "local") == kept

    def faster(table: Any) -> None:  # so the artifact is ten times as slow as its proof
        for each in table["record"]["timing"].values():
            if isinstance(each, dict) and each.get("value") is not None:
                each |= {name: each[name] and each[name] / 10 for name in ("value", "lo", "hi")}
        table["record"]["verdict"]["state"] = "stable"

    rewritten(made, faster)
    slow = verify(made)
    assert slow.judgement.verdict in ("slower", "cannot tell")  # the latter on a busy machine
    assert not slow.passed(gate=True)

    def other_class(table: Any) -> None:
        table["predictions"][5] = (table["predictions"][5] + 1) % 10

    rewritten(made, other_class)
    other = verify(made)
    assert other.judgement.why.startswith(f"1 of {len(TARGETS)} images, top-1 ")
    assert not other.passed(gate=False)
