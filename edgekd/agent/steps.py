"""What a child process does: look at one model, time several against each other, or test one."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List

from edgekd.agent import facts, summary
from edgekd.agent.accuracy import answer, read_array
from edgekd.agent.bench import Entrant, measure
from edgekd.agent.failures import AgentError
from edgekd.agent.feeds import Normalise, check_images
from edgekd.agent.job import Job, Model
from edgekd.agent.race import Race
from edgekd.agent.runtimes import Arrays, Layer, Session

Emit = Callable[[Dict[str, Any]], None]
EARLY_RUNS = 5  # before the peak of the memory is read
PROGRESS_SECONDS = 1.0


def prepare(job: Job, index: int, emit: Emit) -> str:
    """Make of a model what its runtime opens; later steps find it made."""
    model = job.models[index]
    emit({"event": "progress", "step": "preparing", "model": model.name})
    return job.loaded_runtime().prepare(model.path, job.options()).name


def inspect(job: Job, index: int, emit: Emit) -> Dict[str, Any]:
    """Load a model, run it for the first time, and see what it is and how much memory it takes."""
    model = job.models[index]
    emit({"event": "progress", "step": "opening", "model": model.name})
    load = job.opener(model)
    started = time.perf_counter_ns()
    session = load()
    load_ms = (time.perf_counter_ns() - started) / 1e6
    feeds = job.feeds(session, model)
    started = time.perf_counter_ns()
    session.run(feeds[0])
    first_ms = (time.perf_counter_ns() - started) / 1e6
    for _ in range(EARLY_RUNS):
        session.run(feeds[0])
    peak = facts.peak_rss_bytes()
    session.close()
    layers = _layers(job, model, feeds[0])
    return {
        "runtime": {**session.info, "node_share": _node_share(layers, session)},
        "engine": job.loaded_runtime().made(model.path, job.options()),
        "inputs": [str(spec) for spec in session.inputs],
        "metadata": dict(session.metadata),
        "threads": job.threads,
        "input": job.input_words(),
        "load_ms": load_ms,
        "first_ms": first_ms,
        "peak_rss_bytes": peak,
        "layers": _layer_table(layers) if job.policy.get("layers") else None,
    }


def bench(job: Job, emit: Emit) -> Dict[str, Any]:
    """Time all models in turn; the first one a second time, where there are several to compare."""
    entered = [*job.models, job.models[0]] if len(job.models) > 1 else list(job.models)
    names = [model.name for model in job.models]
    rules = job.rules(len(entered))
    moments = [facts.moment()]

    def on_block(race: Race) -> None:
        moments.append(facts.moment())
        emit({"event": "progress", **summary.progress(race, names)})

    race = measure([_entrant(job, model, len(entered)) for model in entered], rules, None, on_block)
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


def _entrant(job: Job, model: Model, count: int) -> Entrant:
    def feeds(session: Session) -> List[Arrays]:
        return job.feeds(session, model)

    return Entrant(job.opener(model, interleaved=count > 1), feeds)


def _ticker(model: Model, images: Any, emit: Emit) -> Callable[[int], None]:
    """Report progress about once a second."""
    last = [time.monotonic()]

    def tick(done: int) -> None:
        if time.monotonic() - last[0] >= PROGRESS_SECONDS or done == len(images):
            last[0] = time.monotonic()
            event = {"step": "accuracy", "model": model.name, "done": done, "of": len(images)}
            emit({"event": "progress", **event})

    return tick


def _layers(job: Job, model: Model, feed: Arrays) -> List[Layer]:
    """The nodes that ran; only looked for where asked, or where there may be two providers."""
    if job.on_cpu and not job.policy.get("layers"):
        return []
    runtime, options = job.loaded_runtime(), job.options()
    return runtime.layers(runtime.prepare(model.path, options), options, feed)


def _node_share(layers: List[Layer], session: Session) -> Dict[str, float]:
    """Share of the nodes on each provider; the CPU's own can have no other beside it."""
    if not layers:
        return {session.info["provider"]: 1.0}
    names = [layer.provider for layer in layers]
    return {name: names.count(name) / len(names) for name in sorted(set(names))}


def _layer_table(layers: List[Layer]) -> List[Dict[str, Any]]:
    total = sum(layer.ms for layer in layers) or 1.0
    return [
        {"name": layer.name, "type": layer.type, "ms": layer.ms, "pct": 100 * layer.ms / total}
        for layer in layers
    ]
