"""A headless Chromium, driven with the standard library alone.

``--remote-debugging-pipe`` speaks the DevTools protocol on file descriptors 3 and 4: one JSON
message, then a zero byte. No port, no driver and no package is needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --remote-debugging-pipe"
)


def binary() -> str | None:
    """Where Chromium is, or None."""
    return next((path for name in BINARIES if (path := shutil.which(name))), None)


@dataclass
class Browser:
    """One tab. ``complaints`` collects errors, dialogs and requests that left the file."""

    to_browser: int
    from_browser: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    loaded: bool = False
    _last: int = 0
    _buffer: bytes = b""

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its answer."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._event(answer)

    def open(self, page: Path) -> None:
        """Load a file and wait until its scripts have run."""
        self.loaded = False
        self.call("Page.navigate", url=page.as_uri())
        while not self.loaded:
            self._event(self._next())
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def look(self, width: int, height: int, theme: str, touch: bool = False) -> None:
        """Choose the size of the window and the theme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def _next(self, seconds: float = 30) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            left = end - time.monotonic()
            assert left > 0, "Chromium did not answer"
            if select.select([self.from_browser], [], [], left)[0]:
                piece = os.read(self.from_browser, 1 << 20)
                assert piece, "Chromium ended"
                self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _event(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")
            self._last += 1
            answer = {"id": self._last, "method": "Page.handleJavaScriptDialog"}
            answer |= {"params": {"accept": True}, "sessionId": self.session}
            os.write(self.to_browser, json.dumps(answer).encode() + b"\0")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {params['exceptionDetails']}")
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console: {params['type']}: {params['args']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"log: {params['entry']}")
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.complaints.append(f"request: {url}")


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A fresh Chromium with its own profile folder; ended when the block is."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # Out of the way first: a pipe may have got the number 3 or 4 itself.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, from_write)]
    actions = [(os.POSIX_SPAWN_DUP2, end, 3 + index) for index, end in enumerate(ends)]
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    arguments = [program, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
    process = os.posix_spawn(program, arguments, os.environ, file_actions=[*actions, *quiet])
    for end in (to_read, from_write, *ends):
        os.close(end)
    tab = Browser(to_write, from_read)
    try:
        targets = tab.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = tab.call("Target.attachToTarget", targetId=target, flatten=True)
        tab.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        yield tab
    finally:
        os.close(to_write)  # Chromium ends when its pipe does
        os.close(from_read)
        reap(process)


def reap(process: int, seconds: float = 10) -> None:
    """Wait for the process; end it where it does not by itself."""
    end = time.monotonic() + seconds
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return
        time.sleep(0.05)
