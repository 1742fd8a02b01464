"""The head of a card: YAML that hubs and catalogues read."""

from __future__ import annotations

import json
import re
from typing import Any

from edgekd.cards.origins import title
from edgekd.cards.places import named
from edgekd.cards.reading import Known, at, number
from edgekd.cards.text import plain

OTHER = re.compile("[^a-z0-9.-]+")
"""What hubs do not have in the names of licences."""
WORDS = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")
"""Licences whose names hubs know; of another one the name is given beside ``other``."""
LIBRARIES = {"network": "edgekd", "onnx": "onnx", "tensorrt": "tensorrt"}


def head(known: Known) -> str:
    """The YAML, between its two lines of dashes.

    A licence is written there only where one is stated for all weights that it comes from.
    """
    lines = [
        "---",
        *_licence(known),
        f"library_name: {LIBRARIES[known.manifest['kind']]}",
        "pipeline_tag: image-classification",
        "tags:",
        *(f"- {_quoted(tag)}" for tag in _tags(known)),
        "metrics:",
        "- accuracy",
        *_results(known),
        "---",
    ]
    return "\n".join(lines)


def licence_of(known: Known) -> str | None:
    """The one licence of all weights that this one comes from, if it is known and there is one."""
    lists = [known.at("licence")]
    if known.teacher is not None:
        lists.append(known.teacher.get("licence"))
    elif not known.says_who_taught:
        return None
    if not all(isinstance(entries, list) for entries in lists):
        return None
    names = [at(entry, "name") for entries in lists for entry in entries]
    found = [name for name in names if isinstance(name, str) and name]
    same = len(found) == len(names) and len({name.casefold() for name in found}) == 1
    return found[0] if same else None


def _licence(known: Known) -> list[str]:
    found = licence_of(known)
    if found is None:
        return []
    word = found.casefold()
    if word in WORDS:
        return [f"license: {word}"]
    if word.startswith(("http://", "https://")):
        return ["license: other", f"license_link: {_quoted(found)}"]
    name = OTHER.sub("-", word).strip("-.")
    return ["license: other", *([f"license_name: {_quoted(name)}"] if name else [])]


def _tags(known: Known) -> list[str]:
    tags = ["image-classification", "edgekd"]
    if known.at("role") in ("student", "peer"):
        tags.append("knowledge-distillation")
    if not known.is_network:
        tags += [known.manifest["kind"], str(known.at("export", "precision") or "fp32")]
    return list(dict.fromkeys(tags))


def _results(known: Known) -> list[str]:
    """The accuracy on the test images, as hubs list it; of a file what a device answered."""
    found = [number(at(record, "accuracy", "value")) for record in known.records]
    if known.is_network:
        found = [number(known.at("metrics", "test", "top1"))]
    top1 = next((value for value in found if value is not None), None)
    source = known.at("recipe", "data", "source")
    if top1 is None or not source:
        return []
    name = _quoted(named(str(source)))
    return [
        "model-index:",
        f"- name: {_quoted(title(known))}",
        "  results:",
        "  - task:",
        "      type: image-classification",
        "    dataset:",
        f"      name: {name}",
        f"      type: {name}",
        "    metrics:",
        "    - type: accuracy",
        f"      value: {top1!r}",
    ]


def _quoted(text: Any) -> str:
    """A text as YAML holds it: JSON's quotes are YAML's."""
    return json.dumps(plain(text), ensure_ascii=False)
