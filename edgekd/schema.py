"""Schema: the version that a file carries, checked in one way, and the readers of older ones.

A file of a newer edgekd is refused, as nobody can tell what it means. One of an older edgekd is
brought up to date by a chain of readers, each from one version to the next. Within a version keys
are only added, and who reads takes a missing one for what was the only way then. Whatever else
changes raises the version, and brings a reader and a golden file of the version before.

What is read back, and what says how to read it::

    manifest.json          MANIFEST; also of answers.json and the other files that it lists
    proof/DEVICE.json      PROOF, and RECORD for the record in it
    profile.json           RECORD, one for each entry; so other files of edgekd profile --output
    run.json               RUN; the first ones say no version
    scout.json             SCOUT
    compare.json           COMPARE
    PLAN/outcome-*.json    OUTCOME
    training/checkpoint.pt CHECKPOINT
    recipe.toml, profiles  no version: every key is checked, and one that is missing has a default
    metrics.jsonl          no version: a curve is drawn of the keys that are known
    teacher/answers-*.json no version: used if it names this very teacher and these very images
    the user's cache       a version in the name or in its hash: of others nothing is seen
    job.json, events       "agent", AGENT of edgekd.agent: both ends are of one edgekd, as the agent
                           is sent with each job; a job of another one is refused
    model.plan.json        "builder" in its key: an engine of another one is built again
    config.json            of a deployed folder: its programs lie beside it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd.errors import ArtifactError, EdgeKDError, UsageError, reason
from edgekd.files import contents, read_json

Table = dict[str, Any]
Reader = Callable[[Table], Table]
"""From a table of one version to one of the next; it does not change what it is given."""
AWAY = "Move it away, or choose another --output."
LONGEST = 40
"""Letters of a version that is nonsense, in a message."""


@dataclass(frozen=True)
class Schema:
    """A kind of file, the version that is written today, and the way there from older ones."""

    kind: str
    version: int
    remedy: str
    """What to do where a file cannot be read."""
    error: type[EdgeKDError] = UsageError
    key: str = "schema_version"
    unsaid: int | None = None
    """The version of files that say none."""
    readers: Mapping[int, Reader] = field(default_factory=dict)
    """By the version that each begins with."""

    @property
    def head(self) -> dict[str, int]:
        """What a file that is written today says."""
        return {self.key: self.version}

    def read(self, table: Any, file: Path) -> Table:
        """A table of any version there was, as it would be written today.

        Args:
            table: what was read.
            file: where from, for messages.

        Raises:
            EdgeKDError: of the kind of this schema: it is of a newer edgekd, or not a table of
                this kind at all.
        """
        found = self._version_of(table)
        if type(found) is not int or not 1 <= found <= self.version:
            raise self.error(self._refused(file, found))
        try:
            for version in range(found, self.version):
                table = {**self.readers[version](table), self.key: version + 1}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise self.error(
                f"{file} is not a whole {self.kind} of schema {found}: {error!s}. "
                f"{self._capital(self.remedy)}."
            ) from error
        checked: Table = table
        return checked

    def load(self, file: Path) -> Table:
        """The same of a JSON file.

        Raises:
            EdgeKDError: of the kind of this schema: it cannot be read either.
        """
        try:
            table = read_json(file)
        except (OSError, ValueError) as error:
            raise self.error(
                f"{file} cannot be read: {reason(error)}. {self._capital(self.remedy)}."
            ) from error
        return self.read(table, file)

    def found(self, file: Path) -> Table:
        """The same of a JSON file that may be written anew: empty if it is damaged, or not there.

        Raises:
            EdgeKDError: of the kind of this schema: it is of a newer edgekd, and would be lost.
        """
        try:
            table = read_json(file)
        except (OSError, ValueError):
            return {}
        made: Table = self.shown(table, file)
        found = self._version_of(made)
        return made if type(found) is int and found == self.version else {}

    def check_place(self, file: Path) -> None:
        """Refuse to write one in the place of what is none, and is not empty either.

        Raises:
            UsageError: something else is there.
        """
        try:
            foreign = self.is_foreign(file)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} is no {self.kind}: {reason(error)}. {AWAY}") from error
        if foreign:
            raise UsageError(f"{file} is no {self.kind} of edgekd's, and would be lost. {AWAY}")

    def is_foreign(self, file: Path) -> bool:
        """Whether a file is somebody else's: it is not empty, and no damaged one either.

        Those are known by their key; the first runs, that had none, by who had made them.

        Raises:
            OSError: there is none, or it cannot be read.
            ValueError: it is too large.
        """
        marks = [f'"{self.key}"'.encode(), *([b'"edgekd '] if self.unsaid else [])]
        there = contents(file)
        return bool(there) and not any(mark in there for mark in marks)

    def shown(self, table: Any, file: Path) -> Any:
        """The same for who shows what he understands: what is no such table is left as it is.

        Raises:
            EdgeKDError: of the kind of this schema: it is of a newer edgekd.
        """
        if self._is_newer(self._version_of(table)):
            return self.read(table, file)
        with suppress(self.error):
            return self.read(table, file)
        return table

    def _version_of(self, table: Any) -> Any:
        return table.get(self.key, self.unsaid) if isinstance(table, dict) else None

    def _refused(self, file: Path, found: Any) -> str:
        said = repr(found) if type(found) is not int or abs(found) < 10**9 else "a huge number"
        said = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
        known = "1" if self.version == 1 else f"1 to {self.version}"
        advice = self._capital(self.remedy)
        if self._is_newer(found):
            advice = f"Update edgekd, or {self.remedy}"
        return f"{file} has schema {said}; this edgekd reads {known}. {advice}."

    def _is_newer(self, found: Any) -> bool:
        return type(found) is int and found > self.version

    @staticmethod
    def _capital(text: str) -> str:
        return text[:1].upper() + text[1:]


def _outcome_asked_apart(old: Table) -> Table:
    """Version 1 asked anew under each budget, which also decided how long was measured."""
    asked = dict(old["asked"])
    question = {"budget": asked.pop("budget"), "number": asked.pop("number")}
    lasting = {"min_seconds", "max_seconds", "energy"}
    policy = {name: value for name, value in asked["policy"].items() if name not in lasting}
    return {**old, "asked": {**asked, "policy": policy}, "question": question, "long": False}


ELSEWHERE = "choose another --output"
MANIFEST = Schema("manifest", 1, "make the artifact again", ArtifactError)
PROOF = Schema("proof", 1, "remove it, and run edgekd profile on that device again", ArtifactError)
RECORD = Schema("record", 1, "run edgekd profile again")
RUN = Schema("run", 1, ELSEWHERE, unsaid=1)
SCOUT = Schema("scout", 1, ELSEWHERE)
COMPARE = Schema("comparison", 1, ELSEWHERE)
OUTCOME = Schema("outcome", 2, ELSEWHERE, readers={1: _outcome_asked_apart})
CHECKPOINT = Schema("checkpoint", 1, "start again with --restart", key="version")
ALL = (MANIFEST, PROOF, RECORD, RUN, SCOUT, COMPARE, OUTCOME, CHECKPOINT)
