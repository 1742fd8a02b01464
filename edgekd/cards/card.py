"""Put the sections of a card together, and write it into the artifact."""

from __future__ import annotations

from pathlib import Path

from edgekd.cards import findings, origins, using
from edgekd.cards.head import head
from edgekd.cards.reading import read
from edgekd.cards.text import safe
from edgekd.files import write_text

NAME = "MODEL_CARD.md"
SECTIONS = (
    ("What it is", origins.what),
    ("Data", origins.data),
    ("Teacher and licences", origins.teacher),
    ("Method", origins.method),
    ("Accuracy", findings.accuracy),
    ("Latency", findings.latency),
    ("The file", using.the_file),
    ("Limits", using.limits),
    ("How to repeat it", using.repeat),
)


def card_of(path: Path) -> str:
    """The model card of an artifact, as Markdown with a head of YAML.

    All of it is read from the manifest and the proofs in the folder, so the same folder has the
    same card. Paths, hosts and logins are left out; names that users gave are shown as they are,
    letter by letter.

    Args:
        path: the artifact's folder; its files are not opened, so that their hashes are not checked.

    Raises:
        ArtifactError: there is no manifest, or it is not one of edgekd's.
    """
    known = read(path)
    parts = [head(known), f"# {safe(origins.title(known))}"]
    parts += [f"## {name}\n\n{section(known)}" for name, section in SECTIONS]
    return "\n\n".join(parts) + "\n"


def write_card(path: Path) -> Path:
    """Write the card into the artifact's folder, unless this very card is there.

    It is not among the files that the manifest vouches for: a measurement that is added later
    changes the card and neither the artifact's hash nor its children's parent.

    Returns:
        The file.

    Raises:
        UsageError: the folder cannot be written.
    """
    file, text = path / NAME, card_of(path)
    try:
        same = file.read_text("utf-8") == text
    except (OSError, ValueError):
        same = False
    if not same:
        write_text(file, text)
    return file
