"""Where an artifact comes from: its network, data, teacher, licences, method and recipe."""

from __future__ import annotations

import json
from typing import Any

from edgekd.cards.places import named, without_places
from edgekd.cards.reading import Known, at, numbers, pair
from edgekd.cards.text import (
    NOT_STATED,
    bullets,
    counted,
    facts,
    fenced,
    folded,
    plain,
    points,
    safe,
    share,
    short,
)
from edgekd.errors import RecipeError
from edgekd.recipe import recipe_from

SHOWN = 20
"""Classes that are listed outright."""
ROLES = {
    "student": "a small image classifier that was distilled from a larger one",
    "teacher": "an image classifier that others learn from",
    "peer": "an image classifier that was trained beside another one, each the other's teacher",
    "baseline": "a small image classifier trained without a teacher, to compare a student with",
}
KINDS = {
    "network": "weights to train and to export (`model.safetensors`)",
    "onnx": "a file for ONNX Runtime and others (`model.onnx`)",
    "tensorrt": "a TensorRT engine (`model.plan`), for the GPU and the release it was built on",
}


def title(known: Known) -> str:
    """What the card is of, in a line: user's text, not yet safe."""
    precision = "" if known.is_network else f" in {known.at('export', 'precision') or 'float'}"
    return plain(f"{known.at('model', 'name') or 'network'}{precision}")


def what(known: Known) -> str:
    """What it is."""
    role, kind = str(known.at("role")), known.manifest["kind"]
    rows = [
        ("architecture", safe(known.at("model", "name") or NOT_STATED)),
        ("parameters", counted(known.at("model", "parameters"), "value")),
        ("cost of an image", counted(known.at("model", "macs"), "multiply-accumulate")),
        ("classes", f"{len(known.labels):,}" if known.labels else ""),
        ("made", safe(known.at("created") or NOT_STATED)),
        ("made with", f"edgekd {safe(known.at('versions', 'edgekd') or '(version not stated)')}"),
    ]
    parent = short(known.at("parent", "sha256") or "")
    if not known.is_network and parent:
        rows.append(("exported from the network", f"manifest sha256 {parent}…"))
    said = ROLES.get(role, "an image classifier")
    return f"This is {said}: {KINDS[kind]}.\n\n{facts(rows)}"


def data(known: Known) -> str:
    """The images, by the name of their source."""
    recipe = known.at("recipe", "data")
    source = at(recipe, "source")
    limit = at(recipe, "limit")
    augment = known.at("training", "augment") or at(recipe, "augment")
    rows = [
        ("source", safe(named(str(source))) if source else NOT_STATED),
        ("training images", counted(known.at("training", "images"), "image") or NOT_STATED),
        ("limit asked for", counted(limit, "training image") if limit else ""),
        ("validation images", counted(known.at("metrics", "validation", "n"), "image")),
        ("test images", counted(known.at("metrics", "test", "n"), "image")),
        ("augmentation", safe(augment) if augment else NOT_STATED),
    ]
    return (
        f"{facts(rows)}\n\nThe network was not trained on the validation images; the test images "
        "were kept for the final figure. The data's own licence is not known to edgekd.\n\n"
        f"{_classes(known.labels)}"
    )


def _classes(labels: list[str]) -> str:
    if not labels:
        return f"Classes: {NOT_STATED}."
    if len(labels) <= SHOWN:
        return f"Classes, in the order of the outputs: {', '.join(map(safe, labels))}."
    listed = ", ".join(map(safe, labels))
    return folded(f"The {len(labels):,} classes, in the order of the outputs", listed)


def teacher(known: Known) -> str:
    """Who taught it, how good the teacher was, and under what terms all weights came."""
    found, parts = known.teacher, []
    if found is not None:
        sha256 = short(found.get("sha256") or "")
        rows = [
            ("teacher", safe(found.get("name") or NOT_STATED)),
            ("its artifact", f"manifest sha256 {sha256}…" if sha256 else "none"),
            ("its accuracy", _taught(found) or NOT_STATED),
        ]
        parts.append(facts(rows))
        parts.append("Licence of the teacher's weights:\n\n" + _terms(found.get("licence")))
    elif known.says_who_taught:
        peer = known.at("recipe", "peer", "name") if known.at("role") in ("student", "peer") else ""
        beside = f": it was trained beside another network ({safe(peer)})" if peer else ""
        parts.append(f"It had no teacher{beside}.")
    else:
        parts.append("Its network's manifest says whether it had a teacher; this one does not.")
    parts.append("Licence of the weights it began with:\n\n" + _terms(known.at("licence")))
    parts.append(
        "Terms of weights may reach what is learned from them, and so may those of the images. "
        "edgekd repeats what their publishers say; whether this model may be used as you mean to "
        "is yours to check."
    )
    return "\n\n".join(parts)


def _taught(found: Any) -> str:
    """The teacher's accuracy, and the student's beside it."""
    beside = at(found, "validation")
    known = numbers(at(beside, "top1"), at(beside, "delta"), *pair(at(beside, "delta_interval")))
    if known is None:
        return ""
    top1, delta, low, high = known
    images = counted(at(beside, "n"), "validation image")
    return f"{share(top1)} top-1 on {images}; the student: {points(delta, low, high)}, paired"


def _terms(licences: Any) -> str:
    """Each origin with its licence, as its publisher says."""
    if not isinstance(licences, list):
        return bullets([f"{NOT_STATED}: nobody said where they come from"])
    if not licences:
        return bullets(["none of its own: they began at random, and were trained here"])
    return bullets(map(_term, licences))


def _term(entry: Any) -> str:
    name, source, url = (at(entry, key) for key in ("name", "source", "url"))
    where = f"; published at {safe(url)}" if url else ""
    return f"{safe(at(entry, 'of') or 'weights')}: {safe(name) if name else NOT_STATED} " + (
        f"({safe(source or NOT_STATED)}{where})"
    )


def method(known: Known) -> str:
    """How it was trained."""
    training = known.at("training")
    lengths = [counted(at(training, f"{thing}s"), thing) for thing in ("epoch", "step")]
    rows = [
        ("method", safe(known.at("method") or NOT_STATED)),
        ("training", ", ".join(filter(None, lengths))),
        ("computed in", safe(at(training, "precision") or NOT_STATED)),
    ]
    if at(training, "tuned_from"):
        rows.append(("tuned for int8", f"from the network {short(at(training, 'tuned_from'))}…"))
    said = facts(rows) if training else "It was not trained here: its weights came as they are."
    return f"{said}\n\n{_recipe(known)}"


def _recipe(known: Known) -> str:
    """The whole recipe, without places."""
    table = known.at("recipe")
    if not isinstance(table, dict):
        return f"Recipe: {NOT_STATED}."
    shared = without_places(table)
    try:
        body = fenced(recipe_from(shared).to_toml(), "toml")
    except RecipeError:  # of an edgekd that knew other keys
        body = fenced(json.dumps(shared, indent=1, ensure_ascii=False), "json")
    return folded("The recipe, whole; paths are cut down to names", body)
