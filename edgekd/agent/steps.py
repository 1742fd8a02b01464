"""What a child process does: look at one model, time several against each other, or test one."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from edgekd.agent import energy as metering
from edgekd.agent import facts, layering, pinning, summary, trials
from edgekd.agent.accuracy import answer, read_array
from edgekd.agent.bench import measure
from edgekd.agent.clocks import entrant, plain
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise, check_images
from edgekd.agent.job import Job, Model
from edgekd.agent.patience import LEAST_S, within
from edgekd.agent.race import Race
from edgekd.agent.runtimes import Arrays, DeviceMemory, Session
from edgekd.agent.sustained import Span, look, sustain

Emit = Callable[[Dict[str, Any]], None]
Logits = List[Optional[float]]
"""None where a logit is not a finite number: JSON has none for it."""
EARLY_RUNS = 5  # before the peak of the memory is read
PROGRESS_SECONDS = 1.0


def pin(job: Job, emit: Emit) -> Dict[str, Any]:
    """Keep to the CPUs that were asked for: the first step, before a runtime starts threads."""
    cpus = pinning.pin(str(job.policy.get("affinity") or ""))
    return {"cpus": cpus, "cores": facts.physical_cores()}


def prepare(job: Job, index: int, emit: Emit) -> str:
    """Make of a model what its runtime opens; later steps find it made."""
    model = job.models[index]
    emit({"event": "progress", "step": "preparing", "model": model.name})
    return job.loaded_runtime().prepare(model.path, job.options()).name


def inspect(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Load a model, run it for the first time, and see what it is and how much memory it takes.

    Loading and the first run are timed by the host's clock, whatever the clock of the timing is:
    from the file to a model that is ready, and from input to answer. The memory is that of a
    process which has one input at hand, as an application has.
    """
    model = job.models[index]
    emit({"event": "progress", "step": "opening", "model": model.name})
    one = entrant(job, model, feeds=1)  # more of them would be counted as the model's memory
    with within(max(LEAST_S, 20 * float(job.policy["max_seconds"])), model.name, emit):
        started = time.perf_counter_ns()
        session = one.open()
        load_ms = (time.perf_counter_ns() - started) / 1e6
        (feed,) = one.feeds(session)
        started = time.perf_counter_ns()
        session.run(feed)
        first_ms = (time.perf_counter_ns() - started) / 1e6
    for _ in range(EARLY_RUNS):
        session.run(feed)
    peak, memory = facts.peak_rss_bytes(), _device_memory(plain(session))
    pixels = job.feeds(plain(session), model)
    answers = _answers(plain(session), pixels)
    session.close()
    layers = layering.layers_of(job, model, pixels[0])
    shares = layering.shares(layers, session.info["provider"])
    return {
        "runtime": {**session.info, **shares},
        "engine": job.loaded_runtime().made(model.path, job.options()),
        "inputs": [str(spec) for spec in session.inputs],
        "metadata": dict(session.metadata),
        "threads": job.threads,
        "input": job.input_words(),
        "clock": job.clock,
        "load_ms": load_ms,
        "first_ms": first_ms,
        "peak_rss_bytes": peak,
        "peak_device_bytes": None if memory is None else memory.bytes,
        "unified_memory": memory is not None and memory.unified,
        "layers": layering.table(layers) if job.policy.get("layers") else None,
        "answers": answers,
    }


def bench(job: Job, emit: Emit) -> Dict[str, Any]:
    """Time all models in turn; the first one a second time, where there are several to compare."""
    entered = [*job.models, job.models[0]] if len(job.models) > 1 else list(job.models)
    names = [model.name for model in job.models]
    rules = job.rules(len(entered))
    seen = partial(facts.moment, with_gpus=not job.on_cpu)
    moments = [seen()]

    def on_block(race: Race) -> None:
        moments.append(seen())
        emit({"event": "progress", **summary.progress(race, names)})

    racing = [entrant(job, model, interleaved=len(entered) > 1) for model in entered]
    race = measure(racing, rules, None, on_block)
    throttling = facts.throttling(moments)
    for index in range(len(entered)):
        null = index == len(names)
        head = {"event": "samples", "model": None if null else index, "null_pair": null}
        emit({**head, **summary.samples(race, index)})
    return {
        "timings": [summary.timing(race, index) for index in range(len(names))],
        "verdicts": [summary.verdict(race, i, rules, throttling) for i in range(len(names))],
        "comparisons": summary.comparisons(race, names, rules) if rules.null_pair else [],
        "reopened": race.reopened,
        "during": moments[len(moments) // 2],
    }


def accuracy(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Run a model over all images."""
    model, path = job.models[index], job.images
    if path is None:
        raise AgentError("job", "the job has no images to measure the accuracy with.")
    images = read_array(path)
    targets = None if job.targets is None else read_array(job.targets)
    session = job.opener(model)()
    target = job.image_input(session, model)
    check_images(images, target, model.name)
    normalise = job.normalise(session)
    if normalise is None and target.dtype != "uint8":
        raise AgentError(
            "input",
            f"{model.name} takes {target.dtype} images and nothing says how to normalise them. "
            "Give mean and std, or export it with its preprocessing baked in (edgekd's default).",
        )
    answers = answer(
        session, images, targets, target, normalise or Normalise(), _ticker(model, images, emit)
    )
    return {"predictions": answers.predictions, "top5_hits": answers.top5_hits}


def trial(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Time one model with one number of threads: see :mod:`edgekd.agent.sweep`."""
    return trials.trial(job, index)


def sustained(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Run a model for minutes, a row for each."""
    model = job.models[index]

    span = Span(float(job.policy["sustained_s"]), float(job.policy["sustained_row_s"]))

    def on_row(row: Dict[str, Any]) -> None:
        event = {"model": model.name, "done": 60 * row["minute"], "of": span.seconds, "row": row}
        emit({"event": "progress", "step": "sustained", **event})

    seen = partial(look, with_gpus=not job.on_cpu)
    return sustain(entrant(job, model), span, job.rules(1), on_row, seen=seen)


def energy(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Read the board's meter while a model runs."""
    model = job.models[index]
    emit({"event": "progress", "step": "energy", "model": model.name})
    one = entrant(job, model)
    session = one.open()
    feeds = one.feeds(session)
    seconds, idle_s = float(job.policy["energy_s"]), float(job.policy["idle_s"])
    turns = itertools.cycle(feeds)
    found = metering.measure(
        lambda: session.run(next(turns)), seconds, idle_s, on_gpu=not job.on_cpu
    )
    session.close()
    return {"energy": found.energy, "reasons": list(found.reasons)}


def _ticker(model: Model, images: Any, emit: Emit) -> Callable[[int], None]:
    """Report progress about once a second."""
    last = [time.monotonic()]

    def tick(done: int) -> None:
        if time.monotonic() - last[0] >= PROGRESS_SECONDS or done == len(images):
            last[0] = time.monotonic()
            event = {"step": "accuracy", "model": model.name, "done": done, "of": len(images)}
            emit({"event": "progress", **event})

    return tick


def _device_memory(session: Session) -> Optional[DeviceMemory]:
    """What the runtime knows of the GPU's memory; nothing where it does not use one."""
    ask = getattr(session, "device_memory", None)
    return None if ask is None else ask()


def _answers(session: Session, inputs: Sequence[Arrays]) -> Optional[List[Logits]]:
    """Logits for the first image of each feed; None from what is no classifier."""
    found: List[Logits] = []
    for feed in inputs:
        logits = next(iter(session.run(feed).values()))
        if not isinstance(logits, np.ndarray) or logits.ndim != 2 or not len(logits):
            return None
        if not np.issubdtype(logits.dtype, np.number):
            return None
        first = logits[0].astype(np.float32)
        finite = np.isfinite(first).tolist()
        found.append(
            [
                float(f"{value:.9g}") if known else None  # nine digits are all a float32 holds
                for value, known in zip(first.tolist(), finite)
            ]
        )
    return found
