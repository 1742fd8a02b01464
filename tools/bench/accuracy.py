"""What each method gains at one small budget: the same images, epochs and seeds for all.

All students of a seed learn side by side from the same batches; the frozen teacher is asked once a
batch for all of them. Each begins with the same weights and draws its own random numbers, so a
student ends as it would alone. The weights are the ones the methods' files call usual; nothing is
tuned here, the test images are looked at once, at the end, and the gain is paired by seed with
the student that learned alone.

    python tools/bench/accuracy.py FOLDER --data cifar10-jpeg --teacher runs/r20
    python tools/bench/accuracy.py FOLDER --quick      digits and tiny numbers, to see that it works

One file a seed is left in FOLDER. Methods that are in it, trained as they are asked for here, are
not trained again (--again NAME,NAME does); two processes may work on different seeds (--seeds 0,1
and --seeds 2), and the last one prints the table of all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgekd.artifact import Artifact
from edgekd.files import write_json
from edgekd.loading import Loaders, Splits, loaders, open_splits
from edgekd.methods import Method
from edgekd.models import Backbone, Tap, build, freeze, from_artifact
from edgekd.models.reframe import Reframe
from edgekd.recipe import Data, Network, Train
from edgekd.trainer import Task, Trainer, evaluate

ALONE = "student alone"
TEXTS: dict[str, str] = {
    ALONE: "ce",
    "kd": "0.1*ce + 0.9*kd",
    "kd, standardised": "0.1*ce + 9*kd",
    "kd, label temperature": "0.5*ce + 0.5*kd",
    "dml (a peer)": "ce + kd",
    "dkd": "ce + 0..1*dkd",
    "dist": "ce + 2*dist",
    "fitnet": "ce + fitnet",
    "at": "ce + at",
    "afd": "ce + 0.9*kd + 200*afd",
    "ft": "ce + ft",
    "ofd": "ce + 4*ofd",
    "sp": "ce + 47*sp",
    "rkd": "ce + rkd",
    "vid": "ce + vid",
    "crd": "ce + 0.8*crd",
    "reviewkd": "ce + 0..0.6*reviewkd",
    "vkd": "ce + kd + vkd",
    "diffkd": "ce + diffkd",
    "iekd": "ce + iekd",
    "mgd": "mgd(0.2*ce + 0.8*kd)",
    "rtk (reconstruction)": "ce + 0.9*kd + 10*rtk",
    "kr (reconstruction)": "ce + 3*kr",
    "rtk + kr": "ce + 0.9*kd + 10*rtk + 3*kr",
}
"""What each is trained as: the weights that its file calls its authors' or usual ones."""
OPTIONS: dict[str, dict[str, Any]] = {
    "kd, standardised": {"kd": {"standardise": True, "temperature": 2.0}},
    "kd, label temperature": {"kd": {"label_temperature": 4.0, "temperature": 2.0}},
    "vkd": {"kd": {"temperature": 1.0}},
    "dml (a peer)": {"kd": {"temperature": 1.0}},
    "dkd": {"dkd": {"ramp": [0.0, 0.083]}},
    "reviewkd": {"reviewkd": {"ramp": [0.0, 0.083]}},
}
PEERS = {"dml (a peer)"}


@dataclass(frozen=True)
class Plan:
    """One comparison."""

    folder: Path
    data: Data
    teacher: Backbone
    student: str
    train: Train


def main() -> None:
    """Train every method with the seeds asked for, then print the table of all seeds there are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--teacher", type=Path, help="an artifact; without one it is random")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--again", default="")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    plan = _plan(asked)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for seed in [0, 1] if asked.quick else [int(part) for part in asked.seeds.split(",")]:
        file = asked.folder / f"seed-{seed}.json"
        found = _earlier(file, _facts(plan))
        todo = [n for n in TEXTS if not _is_done(n, found) or n in asked.again.split(",")]
        if todo:
            results = found | _train_all(plan, seed, todo)
            write_json(file, {"plan": _facts(plan), "results": results})
    print(_facts(plan))
    every = [_earlier(file, _facts(plan)) for file in sorted(asked.folder.glob("seed-*.json"))]
    print(table([seed for seed in every if seed.keys() >= TEXTS.keys()]))  # others are on their way


def _earlier(file: Path, facts: str) -> dict[str, Any]:
    """What was found before; another comparison's figures are not mixed in."""
    if not file.is_file():
        return {}
    held = json.loads(file.read_text())
    if held["plan"] != facts:
        raise SystemExit(f"{file} is of another comparison: {held['plan']}. Take another folder.")
    results: dict[str, Any] = held["results"]
    return results


def _plan(asked: argparse.Namespace) -> Plan:
    images, epochs = (200, 1) if asked.quick else (asked.images, asked.epochs)
    data = Data(asked.data, size=8 if asked.quick else 0, limit=images)
    if asked.teacher is None:
        teacher = build(Network("resnet14"), open_splits(data).labels, data.size)
    else:
        teacher = from_artifact(Artifact.open(asked.teacher))
    train = Train(epochs=epochs, batch_size=32 if asked.quick else 64, precision=asked.precision)
    return Plan(asked.folder, data, teacher, asked.student, train)


def _facts(plan: Plan) -> str:
    return (
        f"{plan.teacher.name} -> {plan.student}, {plan.data.source}, {plan.data.limit} images, "
        f"{plan.train.epochs} epochs, batch {plan.train.batch_size}, {plan.train.precision}, "
        f"torch {torch.__version__}"
    )


def _is_done(name: str, found: Mapping[str, Any]) -> bool:
    done, wanted = found.get(name, {}), OPTIONS.get(name, {})
    return bool(done.get("text") == TEXTS[name] and done.get("options", wanted) == wanted)


def _train_all(plan: Plan, seed: int, names: list[str]) -> dict[str, Any]:
    """Top-1 on validation and test images, and seconds, of every method."""
    plan = replace(plan, train=replace(plan.train, seed=seed))
    splits = open_splits(plan.data)
    first = _student(plan, splits)
    loaded = loaders(splits, first.preprocess, plan.data, plan.train)
    trainers, seconds = {}, {}
    for name in names:  # studying a teacher is part of the price
        begin = time.process_time()
        trainers[name] = _trainer(plan, name, splits, loaded)
        seconds[name] = time.process_time() - begin
    ask = _teacher(plan, trainers, first)
    states = {name: torch.get_rng_state() for name in trainers}
    for epoch in range(plan.train.epochs):
        for batch in loaded.train.epoch(epoch):
            shown = ask(batch.image)
            for name, trainer in trainers.items():
                begin = time.process_time()
                torch.set_rng_state(states[name])
                trainer.advance(batch, None if name in PEERS or name == ALONE else shown)
                states[name] = torch.get_rng_state()
                seconds[name] += time.process_time() - begin
        print(f"seed {seed}: epoch {epoch + 1} of {plan.train.epochs}", flush=True)
    cpu, found = torch.device("cpu"), {}
    for name, trainer in trainers.items():
        scores = [evaluate(trainer.result, s, cpu) for s in (loaded.validation, loaded.test)]
        found[name] = {
            "text": TEXTS[name],
            "options": OPTIONS.get(name, {}),
            "validation": scores[0].top1,
            "test": scores[1].top1,
            "n": scores[1].n,
            "seconds": round(seconds[name], 1),
        }
    return found


def _student(plan: Plan, splits: Splits) -> Backbone:
    """The student with the seed's first weights, the same for every method."""
    torch.manual_seed(plan.train.seed)
    return build(Network(plan.student), splits.labels, plan.data.size)


def _trainer(plan: Plan, name: str, splits: Splits, loaded: Loaders) -> Trainer:
    student = _student(plan, splits)
    peer = build(Network(plan.student), splits.labels, plan.data.size) if name in PEERS else None
    method = Method.parse(TEXTS[name], OPTIONS.get(name))
    folder = plan.folder / "states" / f"{plan.train.seed} {name}"
    folder.mkdir(parents=True, exist_ok=True)
    teacher = None if peer is not None else plan.teacher
    return Trainer(
        Task(student, teacher, method, loaded, plan.train, folder, "comparison", peer=peer)
    )


def _teacher(
    plan: Plan, trainers: Mapping[str, Trainer], student: Backbone
) -> Callable[[torch.Tensor], Any]:
    """Ask the teacher for all that any of the methods looks at, as the trainer would."""
    needs = frozenset().union(*(trainer.needs for trainer in trainers.values()))
    tap = Tap(freeze(plan.teacher.model), needs, plan.teacher.example)
    reframe = Reframe(student.preprocess, plan.teacher.preprocess)
    autocast = next(iter(trainers.values())).autocast

    @torch.no_grad()
    def ask(image: torch.Tensor) -> Any:
        with autocast():
            return tap(reframe(image)).float()

    return ask


def table(seeds: list[dict[str, Any]]) -> str:
    """Mean and range over the seeds, and the gain over the student alone of the same seed."""
    lines = ["| method | as | test top-1 | gain over the student alone | seconds |"]
    lines.append("|---|---|---|---|---|")
    for name, text in TEXTS.items():
        top1 = [100 * seed[name]["test"] for seed in seeds]
        gains = [100 * (seed[name]["test"] - seed[ALONE]["test"]) for seed in seeds]
        took = statistics.mean(seed[name]["seconds"] for seed in seeds)
        gain = "" if name == ALONE else _spread(gains, "+.1f")
        lines.append(f"| {name} | `{text}` | {_spread(top1, '.1f')} | {gain} | {took:.0f} |")
    return "\n".join([*lines, f"\n{len(seeds)} seeds; in brackets the lowest and the highest."])


def _spread(values: list[float], form: str) -> str:
    mean = format(statistics.mean(values), form)
    return f"{mean} [{min(values):{form}}, {max(values):{form}}]"


if __name__ == "__main__":
    main()
