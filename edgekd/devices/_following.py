"""Following a run on a device: over one link after another where links are cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from edgekd.devices._answers import KNOWN, check, read_event
from edgekd.devices._device import Device, Event
from edgekd.devices._listening import LOOK_S
from edgekd.errors import DeviceError, LinkError
from edgekd.plain import one_line

FINAL = ("result", "error")
BEAT: Event = {"event": "beat"}
"""What whoever listens is told while the run says nothing, so that it can end it."""
OF_THE_LINK = ("attached", "beat")
"""Events that are not the run's: whoever listens there says that it is there."""
SILENCE_S = 60.0
"""After so long without a word a link is taken for cut; a live one answers every 5 s."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
STOPPING_S = 10.0
MOST_EMPTY = 3
"""Links in a row that are there, and end without a word of the run."""


@dataclass
class Following:
    """A run and how much of it was heard.

    Args:
        device: where it is.
        agent: the command of the agent there.
        job: the run's job there.
        limit: seconds for all of it.
        patience: seconds to go on for while the link is lost.
        on_event: told every event but the last, notes on the link, and a beat in every silence.
        task: of the job, which says what its events are made of; empty where that is not known.
    """

    device: Device
    agent: Sequence[str]
    job: str
    limit: float
    patience: float
    on_event: Callable[[Event], None] | None = None
    task: str = ""
    heard: int = 0
    """How many whole events of the run came."""
    last: Event | None = None
    said: str = ""
    _contact: float = field(default_factory=time.monotonic)
    _attached: bool = False
    _tries: int = 0
    _empty: int = 0

    def follow(self) -> Event:
        """Start the run, and listen to its last word.

        Raises:
            DeviceError: it was lost, or could not be started; it was stopped there unless the link
                is gone, in which case it ends by itself.
        """
        until = time.monotonic() + self.limit
        try:
            while self.last is None:
                try:
                    self._listen(until)
                except LinkError as error:
                    self._bear(error, until)
        except LinkError:
            raise
        except BaseException:
            self.stop()
            raise
        return self.last

    def stop(self) -> None:
        """End the run there, as well as that can be done."""
        with suppress(DeviceError):
            self.device.run([*self.agent, "stop", self.job], STOPPING_S)

    def _listen(self, until: float) -> None:
        """Over one link, until the last word or a reason to try another.

        Raises:
            LinkError: the link was lost, or whoever listens there was.
        """
        command = [*self.agent, "keep", self.job, str(self.heard)]
        try:
            left = max(0.0, until - time.monotonic())
            self.said = self.device.run(command, left, self._hear, SILENCE_S)
        except DeviceError as error:
            if self.last is None and time.monotonic() > until:
                raise DeviceError(
                    f"{self.device.name} was not done after {self.limit:g} s, and did not end by "
                    "itself as it should have: it hangs, or is short of memory. Restart it."
                ) from error
            if self.last is None:
                raise
        self._empty += 1
        if self.last is None and self._attached and self._empty <= MOST_EMPTY:
            raise LinkError(f"{self.device.name}: the link was closed before the run was over.")
        if self.last is None:
            raise DeviceError(
                f"the agent on {self.device.name} ended without a result; expected a last line "
                f"with one. It said: {one_line(self.said[-300:]) or 'nothing'}. Try again; edgekd "
                "device doctor looks closer."
            )

    def _hear(self, line: str) -> None:
        if not line:
            self._tell(BEAT)
            return
        event = self._read(line) if line.endswith("\n") else None  # a cut line comes again, whole
        if event is None:
            return
        self._contact, self._attached = time.monotonic(), True
        if event["event"] in OF_THE_LINK:
            if self._tries:
                self._note(f"the link to {self.device.name} is back")
            self._tries = 0
            return
        self.heard += 1
        if event["event"] in FINAL:
            self.last = event
        elif event["event"] in KNOWN:
            self._empty = 0
            self._tell(event)

    def _read(self, line: str) -> Event | None:
        try:
            event = read_event(line)
            if event is not None and self.task:
                check(event, self.task)
        except ValueError as error:
            raise DeviceError(
                f"{self.device.name}: what answers there is not edgekd's agent, or is broken: it "
                f"said {error}. Nothing of it was kept. See that the Python there is the one you "
                "mean, and that nobody else has changed edgekd's folder."
            ) from error
        return event

    def _bear(self, error: LinkError, until: float) -> None:
        """Wait before another link is tried.

        Raises:
            LinkError: it has been long enough.
        """
        if error.beyond and not self._attached:
            raise error  # the agent's own program does not live there
        pause = PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        now = time.monotonic()
        lost = now - self._contact
        if lost + pause > self.patience or now + pause > until:
            raise LinkError(
                f"{error} It was not back after {lost:.0f} s, so this run is given up; what is "
                f"left of it there ends by itself within {self.device.alone_s:.0f} s."
            ) from error
        if self._tries == 0:
            self._note(f"lost the link; the run goes on there, and is looked for: {error}")
        self._tries += 1
        while (left := now + pause - time.monotonic()) > 0:
            self._tell(BEAT)
            time.sleep(min(left, LOOK_S))

    def _note(self, text: str) -> None:
        self._tell({"event": "note", "text": text})

    def _tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)
