"""The page in a real browser: drawn, whole at every width, and closed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekd.report import write
from tests.report.chromium import BINARIES, Browser, binary, browser


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
PAINTED = DRAWN.replace(".points path", ".points path, .heatmaplayer image")
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


@pytest.mark.parametrize(
    ("report", "width", "theme"),
    [
        ("mission_report", 1280, "light"),
        ("mission_report", 1280, "dark"),
        ("mission_report", 390, "light"),
        ("mission_report", 320, "dark"),
        ("comparison_report", 1280, "dark"),
        ("comparison_report", 320, "light"),
        ("scouted_report", 1280, "light"),
        ("scouted_report", 390, "dark"),
    ],
)
def test_budget_scout_and_comparison_are_drawn_whole(
    calm: Browser, report: str, width: int, theme: str, request: pytest.FixtureRequest
) -> None:
    calm.look(width, 900, theme, width < 500)
    calm.open(request.getfixturevalue(report)["html"])
    calm.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert calm.evaluate("document.documentElement.scrollWidth") <= width
    assert calm.evaluate(OVERFLOW) == []
    assert calm.evaluate(CLIPPED) == []
    assert all(drawn and marks for drawn, marks in calm.evaluate(PAINTED))
    ink = "rgb(27, 31, 36)" if theme == "light" else "rgb(230, 233, 238)"
    assert set(calm.evaluate(INK)) == {ink}


def test_hover_shows_the_numbers_of_an_attempt_and_of_a_class(
    calm: Browser, mission_report: dict[str, Path]
) -> None:
    calm.look(1280, 900, "light")
    calm.open(mission_report["html"])
    assert hovered(calm, "#budget-front .trace:nth-child(5) .points path") == (
        "4. resnet20 at 32 px, 60 epochs, int8top-1 90.1% [87.9, 92.0]p95 4.13 ms [4.07, 4.21]"
    )
    assert "taken for" in hovered(calm, "#confusion .heatmaplayer image", 0.5, 0.05)


def hovered(tab: Browser, mark: str, across: float = 0.5, down: float = 0.5) -> str:
    """What a picture says where the pointer is over one of its marks."""
    plot = f"document.querySelector({mark.split()[0]!r})"
    tab.evaluate(f"{plot}.scrollIntoView({{block: 'center'}})")
    x, y = tab.evaluate(
        f"""(() => {{ const r = document.querySelector({mark!r}).getBoundingClientRect();
        return [r.x + r.width * {across}, r.y + r.height * {down}]; }})()"""
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    said = tab.evaluate(
        f"""new Promise(done => setTimeout(() =>
        done({plot}.querySelector(".hoverlayer").textContent), 300))"""
    )
    return str(said)


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_many_devices_fit_and_their_pictures_are_shown(
    calm: Browser, fleet_report: dict[str, Path], width: int, theme: str
) -> None:
    calm.look(width, 900, theme, width < 500)
    calm.open(fleet_report["html"])
    calm.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert calm.evaluate("document.documentElement.scrollWidth") <= width
    assert calm.evaluate(OVERFLOW) == []
    assert calm.evaluate(CLIPPED) == []
    assert all(drawn and marks for drawn, marks in calm.evaluate(DRAWN))
    sizes = "[...document.querySelectorAll('img')].map(e => [e.naturalWidth, e.clientWidth])"
    assert calm.evaluate(sizes) == [[32, 96]] * 18
    ink = """[...document.querySelectorAll(".y2tick text, .y3title")]
      .map(e => getComputedStyle(e).fill)"""
    colour = "rgb(27, 31, 36)" if theme == "light" else "rgb(230, 233, 238)"
    assert set(calm.evaluate(ink)) == {colour}


@pytest.mark.parametrize("width", [390, 320])
def test_long_names_of_layers_stay_in_their_column(
    calm: Browser, fleet: Path, tmp_path: Path, width: int
) -> None:
    record = json.loads((fleet / "profile.json").read_text("utf-8"))[0]
    names = ("getitem_21_nchwc_kernel_time", "n" * 38, "/a_long_name/Conv_kernel_time" * 3)
    for layer, name in zip(record["layers"], names, strict=False):
        layer["name"] = name
    (tmp_path / "profile.json").write_text(json.dumps([record]), "utf-8")
    calm.look(width, 900, "light", True)
    calm.open(write(tmp_path)["html"])
    calm.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    wider = """[...document.querySelectorAll("tbody th")].filter(e =>
      e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
    assert calm.evaluate(wider) == []


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
