"""Writing: candidates' files with random weights, each once, and ahead of time where that is free.

On another machine the next files are written while it times the present ones. On this one they
would be what disturbs the timing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from edgekd.errors import EdgeKDError
from edgekd.scouting.keeping import Store
from edgekd.scouting.ranking import Entry
from edgekd.shortage import check_shortage, room_for_threads

Sketcher = Callable[[Entry, Path], Path]
"""Writes an entry's file with random weights into a folder."""


class UnwrittenError(Exception):
    """A file that could not be written, and why in a sentence."""


@dataclass
class Files:
    """The files of entries.

    Args:
        sketcher: writes them.
        store: keeps why one could not be written.
        folder: for the files; private.
        apart: whether they are timed on another machine than this one.
    """

    sketcher: Sketcher
    store: Store
    folder: Path
    apart: bool = False
    _written: dict[str, Path] = field(default_factory=dict)
    _begun: dict[str, Future[Path]] = field(default_factory=dict)
    _scribe: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="sketch")
    )
    """One thread: an exporter changes what all of PyTorch sees."""

    def has(self, entry: Entry) -> bool:
        """Whether a file was written, or is said not to be possible."""
        return entry.key in self._written or self.store.refused(entry) is not None

    def file(self, entry: Entry) -> Path:
        """An entry's file; it is written where it is not there.

        Raises:
            UnwrittenError: it cannot be, or could not be before.
            OSError, UsageError: a full disk, which is nobody's network.
        """
        if entry.key not in self._written:
            refused = self.store.refused(entry)
            if refused is not None:
                raise UnwrittenError(refused)
            self._written[entry.key] = self._sketched(entry)
        return self._written[entry.key]

    def begin(self, entries: Sequence[Entry]) -> None:
        """Write these meanwhile, in turn; nothing where that would disturb what is timed."""
        for each in entries if self.apart else ():
            if not self.has(each) and each.key not in self._begun:
                place = self.folder / each.key
                room_for_threads(1)
                self._begun[each.key] = self._scribe.submit(self.sketcher, each, place)

    def lying(self, keys: Sequence[str]) -> list[Path]:
        """Those of some entries that were written and not removed."""
        return [self._written[key] for key in keys if key in self._written]

    def remove(self, keys: Sequence[str]) -> None:
        """Delete the files of some entries."""
        for key in keys:
            if self._written.pop(key, None):
                shutil.rmtree(self.folder / key, ignore_errors=True)

    def end(self) -> list[str]:
        """Wait for what is being written, write nothing more, and say whose files there are."""
        self._scribe.shutdown(cancel_futures=True)
        return list(self._written)

    def _sketched(self, entry: Entry) -> Path:
        self.begin([entry])
        begun = self._begun.pop(entry.key, None)
        try:
            return begun.result() if begun else self.sketcher(entry, self.folder / entry.key)
        except OSError:
            raise
        except Exception as error:  # whatever an exporter raises: the others are measured
            check_shortage(error)
            if isinstance(error.__cause__, OSError):
                raise
            said = _sentence(error)
            self.store.refuse(entry, said)
            raise UnwrittenError(said) from error


def _sentence(error: Exception) -> str:
    """The first line of what went wrong; of other people's errors with their kind."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, EdgeKDError):
        return str(error)
    return f"it could not be exported: {type(error).__name__}: {lines[0]}"[:300]
