"""The page in a real browser: a headless Chromium, driven with the standard library alone.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekd.report import write

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


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = binary()
    if program is None:
        pytest.skip(f"no Chromium here: none of {', '.join(BINARIES)} is on the PATH")
    with browser(program, tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def calm(tab: Browser) -> Iterator[Browser]:
    """The tab, which must have nothing to complain about at the end."""
    tab.complaints.clear()
    yield tab
    assert tab.complaints == []


OVERFLOW = """[...document.querySelectorAll("body *")].filter(e =>
  !e.closest(".scroll, pre, .skip, .plot, details:not([open])") &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).map(e => e.outerHTML.slice(0, 120))"""
DRAWN = """[...document.querySelectorAll(".plot")].map(e =>
  [e.querySelectorAll("svg.main-svg").length > 0, e.querySelectorAll(".points path").length])"""
CLIPPED = """[...document.querySelectorAll(".plot")].flatMap(plot => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter(text => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < box.left - 1 || own.right > box.right + 1 ||
      own.top < box.top - 1 || own.bottom > box.bottom + 1);
  }).map(text => text.textContent);
})"""
INK = """[...document.querySelectorAll(".plot .xtick text, .plot .legendtext, .plot .xtitle")]
  .map(e => getComputedStyle(e).fill)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "touch"), [(1280, False), (390, True), (320, True)])
def test_it_is_drawn_whole(
    calm: Browser, written: dict[str, Path], width: int, touch: bool, theme: str
) -> None:
    calm.look(width, 900, theme, touch)
    calm.open(written["html"])
    assert all(drawn and marks for drawn, marks in calm.evaluate(DRAWN))
    assert calm.evaluate("document.documentElement.scrollWidth") <= width
    assert calm.evaluate(OVERFLOW) == []
    assert calm.evaluate(CLIPPED) == []
    ink = "rgb(27, 31, 36)" if theme == "light" else "rgb(230, 233, 238)"
    assert set(calm.evaluate(INK)) == {ink}


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_exports_in_every_precision_fit_too(
    calm: Browser, lowered_report: dict[str, Path], width: int
) -> None:
    calm.look(width, 900, "light", width < 500)
    calm.open(lowered_report["html"])
    calm.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert calm.evaluate("document.documentElement.scrollWidth") <= width
    assert calm.evaluate(OVERFLOW) == []


def test_pictures_follow_the_theme_and_the_printer(calm: Browser, written: dict[str, Path]) -> None:
    calm.look(1280, 900, "light")
    calm.open(written["html"])
    before = set(calm.evaluate(INK))
    calm.look(1280, 900, "dark")
    assert set(calm.evaluate(INK)) != before
    calm.call("Emulation.setEmulatedMedia", media="print")
    assert set(calm.evaluate(INK)) == {"rgb(0, 0, 0)"}
    calm.call("Emulation.setEmulatedMedia", media="")


def test_hover_shows_the_numbers(calm: Browser, written: dict[str, Path]) -> None:
    calm.look(1280, 900, "light")
    calm.open(written["html"])
    x, y = calm.evaluate(
        """(() => { const r = document.querySelector("#front .points path").getBoundingClientRect();
        return [r.x + r.width / 2, r.y + r.height / 2]; })()"""
    )
    calm.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    said = calm.evaluate(
        """new Promise(done => setTimeout(() =>
        done(document.querySelector("#front .hoverlayer").textContent), 300))"""
    )
    assert said == "teacher: resnet56top-1 97.5% [95.3, 98.7]1.91 ms [1.88, 1.95]fp32"


def test_the_keyboard_reaches_what_scrolls(calm: Browser, written: dict[str, Path]) -> None:
    calm.look(390, 844, "light", True)
    calm.open(written["html"])
    hidden = """[...document.querySelectorAll(".scroll, pre")].filter(e =>
      e.scrollWidth > e.clientWidth && e.tabIndex !== 0).length"""
    assert calm.evaluate(hidden) == 0
    calm.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9
    )
    assert calm.evaluate("document.activeElement.className") == "skip"


def test_hostile_names_run_nothing(
    calm: Browser, run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    evil = (
        "\"'></script></title><script>document.title = alert(1)</script>"
        "<img src=x onerror=alert(2)><svg onload=alert(3)>" + "w" * 500
    )
    folder = run_maker(tmp_path / "run", labels=[evil, "\u202e" + evil], name=evil)
    run = {"decisions": [evil], "command": evil}
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
    line = {"step": 1, "epoch": 1, "losses": {evil: 1.0}}
    (folder / "student" / "training" / "metrics.jsonl").write_text(json.dumps(line), "utf-8")
    calm.look(390, 844, "light", True)
    calm.open(write(folder)["html"])
    calm.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert calm.evaluate("document.title").startswith("\"'>")
    assert calm.evaluate("document.querySelectorAll('img, svg[onload]').length") == 0
    assert calm.evaluate("document.documentElement.scrollWidth") <= 390
    assert calm.evaluate(OVERFLOW) == []


def test_a_script_that_was_slipped_in_does_not_run(
    tab: Browser, written: dict[str, Path], tmp_path: Path
) -> None:
    """Escaping is the first wall; the page's policy is the second."""
    text = written["html"].read_text("utf-8")
    slipped = "<script>document.title = 'run'</script><img src=http://127.0.0.1:9/x>"
    page = tmp_path / "page.html"
    page.write_text(text.replace("<main", f"{slipped}<main"), "utf-8")
    tab.complaints.clear()
    tab.open(page)
    assert tab.evaluate("document.title").startswith("resnet8")
    refused = [said for said in tab.complaints if "Content Security Policy" in said]
    assert ["inline script" in said for said in refused] == [True, False]
    assert "http://127.0.0.1:9/x" in refused[1]
