"""The three clocks: what is inside a timed run."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.agent.bench import measure
from edgekd.agent.clocks import entrant, plain
from edgekd.agent.failures import AgentError
from edgekd.agent.job import Job
from edgekd.agent.race import Rules

POLICY = {
    "batch_size": 1, "threads": 1, "spinning": False, "provider": "CPUExecutionProvider",
    "input": "photos", "image_size": None, "seed": 0,
}  # fmt: skip
RULES = Rules(
    warmup_runs=1, warmup_seconds=0, block_runs=4, block_seconds=0, min_seconds=0, tolerance=1e9
)


def zipped(path: Path, colours: list[tuple[int, int, int]]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for n, colour in enumerate(colours):
            data = io.BytesIO()
            Image.new("RGB", (20 + n, 30), colour).save(data, "PNG")
            file.writestr(f"{n}.png", data.getvalue())


def job(folder: Path, runtime: str = "ort", **more: Any) -> Job:
    policy = {**POLICY, **more.pop("policy", {})}
    table = {"runtime": runtime, "policy": policy, "models": [{"name": "a", "path": "a.onnx"}]}
    (folder / "job.json").write_text(json.dumps({**table, **more}))
    return Job.read(folder / "job.json")


COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (200, 200, 10), (0, 0, 0)]


@pytest.mark.parametrize("baked", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_end_to_end_is_from_an_encoded_image_to_its_class(
    tiny: Mapping[str, Any], tmp_path: Path, baked: bool, batch: int
) -> None:
    tiny["classifier"](tmp_path / "a.onnx", baked=baked)
    zipped(tmp_path / "images.zip", COLOURS)
    preprocess = {"mean": tiny["MEAN"], "std": tiny["STD"], "size": [8, 8]}
    more: dict[str, Any] = {
        "encoded": "images.zip",
        "preprocess": {**preprocess, "interpolation": "bicubic"},
    }
    found = job(tmp_path, policy={"clock": "end_to_end", "batch_size": batch}, **more)
    assert found.input_words() == "encoded images"
    one = entrant(found, found.models[0])
    session = one.open()
    feeds = one.feeds(session)
    assert len(feeds) == {1: 5, 2: 3}[batch]
    assert feeds[0]["0"].tobytes().startswith(b"\x89PNG")
    classes = [int(value) for feed in feeds for value in session.run(feed)["class"]]
    colours = np.array(COLOURS, np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    pixels = colours if baked else _normal(colours, tiny)
    logits = plain(session).run({"x": np.ascontiguousarray(pixels)})["logits"]
    assert classes[: len(COLOURS)] == logits.argmax(axis=1).tolist()
    assert len(set(classes)) > 1
    assert session.info == plain(session).info
    session.close()


def _normal(images: Any, tiny: Mapping[str, Any]) -> Any:
    values = (images / np.float32(255) - np.float32(tiny["MEAN"])) / np.float32(tiny["STD"])
    return values.astype(np.float32).transpose(0, 3, 1, 2)


def test_sessions_behind_a_clock_are_opened_anew_for_each_block(
    tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    zipped(tmp_path / "images.zip", COLOURS)
    found = job(tmp_path, policy={"clock": "end_to_end"}, encoded="images.zip")
    race = measure([entrant(found, found.models[0], interleaved=True)] * 2, RULES)
    assert race.reopened
    assert race.blocks == RULES.blocks
    assert all(run.wall_ns > 0 for runs in race.samples for run in runs)


def test_images_of_another_size_than_the_models_are_a_sentence(
    tiny: Mapping[str, Any], tmp_path: Path
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    zipped(tmp_path / "images.zip", COLOURS)
    preprocess = {"mean": [0, 0, 0], "std": [1, 1, 1], "size": [9, 9]}
    more: dict[str, Any] = {"encoded": "images.zip", "preprocess": preprocess}
    found = job(tmp_path, policy={"clock": "end_to_end"}, **more)
    one = entrant(found, found.models[0])
    session = one.open()
    with pytest.raises(AgentError, match=r"a takes uint8 \(N, 8, 8, 3\)"):
        one.feeds(session)


def test_end_to_end_without_images_is_a_sentence(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    found = job(tmp_path, policy={"clock": "end_to_end"})
    one = entrant(found, found.models[0])
    session = one.open()
    with pytest.raises(AgentError, match="begins at image files, and the job has none") as caught:
        one.feeds(session)
    assert caught.value.kind == "job"


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_compute_is_refused_where_nothing_tells_it(
    tiny: Mapping[str, Any], tmp_path: Path, runtime: str
) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    found = job(tmp_path, runtime, policy={"clock": "compute"})
    with pytest.raises(AgentError, match=f"which {runtime} does not tell; TensorRT does"):
        entrant(found, found.models[0])


def test_a_clock_that_is_none(tiny: Mapping[str, Any], tmp_path: Path) -> None:
    tiny["classifier"](tmp_path / "a.onnx")
    found = job(tmp_path, policy={"clock": "wall"})
    with pytest.raises(AgentError, match="the clock is 'wall'; expected one of inference"):
        entrant(found, found.models[0])
