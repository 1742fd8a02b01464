"""The page as a parser sees it: whole, escaped, closed to the network, and made for all."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgekd.report import collect, write
from edgekd.report.figures import COLOURS, SEQUENCE, figures
from edgekd.report.page import FOLDER

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</title></style><img src=x onerror=alert(3)>",
    "\"' onmouseover='alert(4)",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "\u202eback to front \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "half a pair \ud800 and \x00 nothing",
    "w" * 3000,
    "%{x} <a href='http://example.org'>x</a> $\\alpha$",
)
VOID = {"meta", "link", "br", "img", "input", "hr"}
HINTS = ("src", "href", "action", "formaction", "poster", "data", "srcset", "ping", "background")


class Page(HTMLParser):
    """Everything in a page that a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(written: dict[str, Path]) -> Page:
    return Page(written["html"].read_text("utf-8"))


def test_it_says_what_the_run_was(page: Page, written: dict[str, Path]) -> None:
    text = written["html"].read_text("utf-8")
    assert page.text["title"] == ["resnet8, distilled from resnet56 \u2013 edgekd report"]
    for said in (
        "11\u00d7 smaller",
        "95.6%",
        "95% interval [92.9, 97.2]",
        "no difference seen",
        "312 runs, need 459",
        "on 256 images",
        "governor",
        "name = &#34;resnet56&#34;",
        "student-onnx is 88.8-89.0 % faster (95 %)",
    ):
        assert said in text
    assert page.open == []


def test_its_numbers_are_those_of_the_json(page: Page, written: dict[str, Path]) -> None:
    content = json.loads(written["json"].read_text("utf-8"))
    shown = {float(attributes["value"]) for attributes in page.all("data")}
    for line in content["results"]:
        for key in ("parameters", "macs", "size_bytes", "peak_rss_bytes"):
            assert line[key] in shown
        assert line["accuracy"]["value"] in shown
        assert line["latency"]["median"]["value"] in shown
        assert line["latency"]["p95"]["value"] in shown
    for record in content["records"]:
        assert record["timing"]["cpu_ms"] in shown


def test_nothing_points_outside(page: Page) -> None:
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"<{tag} {name}>"
            if name in HINTS and tag != "data":
                assert value.startswith(("#", "data:")), f"<{tag} {name}={value}>"
    css = "".join(page.text["style"])
    assert "url(" not in css
    assert "@import" not in css
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_plotly_is_in_it_once(written: dict[str, Path], page: Page) -> None:
    text = written["html"].read_text("utf-8")
    assert text.count("* plotly.js v") == 1
    assert len([a for a in page.all("script") if a.get("type") != "application/json"]) == 2
    assert len(text) < 6_000_000


def test_without_a_picture_there_is_no_script(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "student-onnx", tmp_path / "student-onnx")
    text = write(tmp_path)["html"].read_text("utf-8")
    assert len(text) < 40_000
    assert "script-src 'none'" in text
    assert Page(text).all("script") == []


def test_it_can_be_read_without_eyes_and_mouse(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in page.tags:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in names, tag
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in names
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in page.all("th"))
    pictures = [a for a in page.all("div") if a.get("class") == "plot"]
    assert len(pictures) == 5
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in pictures)
    assert next(a for a in page.all("a"))["class"] == "skip"


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_names_stay_text(run_maker: Callable[..., Path], tmp_path: Path, evil: str) -> None:
    folder = run_maker(tmp_path / "run", labels=[evil, "b"], name=evil)
    spread_evil(folder, evil)
    text = write(folder)["html"].read_text("utf-8")
    page = Page(text)
    assert page.open == []
    plain = [a for a in page.all("script") if a.get("type") != "application/json"]
    assert len(plain) == 2
    assert page.all("img") == []
    assert all(not name.startswith("on") for _, a in page.tags for name in a)
    for data in (t for t in page.text["script"] if t.startswith("{")):
        json.loads(data)
    assert "49" not in page.text["title"][0]


def spread_evil(folder: Path, evil: str) -> None:
    """Put a text wherever another stage could have been given one."""
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    records[0]["device"] |= {"cpu": evil, evil: evil}
    records[1]["verdict"] = {"state": evil, "reasons": [evil]}
    records[2]["runtime"] |= {"name": evil}
    records[3]["comparison"] |= {"a": evil, "sentence": evil}
    (folder / "profile.json").write_text(json.dumps(records), "utf-8")
    run = {"decisions": [evil, {evil: evil}], "command": evil, "seconds": {evil: 1.0}}
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
    safe = evil.encode("utf-8", "replace").decode()
    (folder / "recipe.toml").write_text(f"# {safe}\n", "utf-8")
    line = {"step": 1, "epoch": 1, "losses": {evil: 1.0}}
    (folder / "student" / "training" / "metrics.jsonl").write_text(json.dumps(line), "utf-8")


def test_plotly_is_given_text_and_not_markup(
    run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    evil = "<a href='http://example.org'>x</a>"
    (front,), _ = figures(collect(run_maker(tmp_path / "run", name=evil)))
    name = json.loads(front.data)["data"][2]["name"]
    assert name == "student: &lt;a href='http://example.org'&gt;x\u2026"


@pytest.mark.parametrize(("slow", "kind"), [(30.0, "log"), (3.0, None)])
def test_the_latency_axis_is_logarithmic_only_where_it_must(
    run_folder: Path, tmp_path: Path, slow: float, kind: str | None
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    records = json.loads((folder / "profile.json").read_text("utf-8"))
    records[0]["timing"]["median"]["value"] = 0.2127 * slow
    (folder / "profile.json").write_text(json.dumps(records), "utf-8")
    (front,), _ = figures(collect(folder))
    assert json.loads(front.data)["layout"]["xaxis"].get("type") == kind


def themes() -> list[dict[str, str]]:
    """The style sheet's colours: light, dark, print."""
    css = (FOLDER / "page.css").read_text("utf-8")
    found = re.findall(r":root \{([^}]*)\}", css)
    return [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in found]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_theme_has_enough_contrast() -> None:
    assert len(themes()) == 3
    for theme in themes():
        for text in ("text", "soft", "accent", "teacher", "baseline", "student"):
            for ground in ("page", "card"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground, theme)
        for colour in (*COLOURS.values(), *SEQUENCE):
            assert contrast(colour, theme["card"]) >= 3, (colour, theme)


def test_importing_the_report_loads_no_plotting_library() -> None:
    script = "import sys, edgekd.report; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    loaded: Any = {name.strip("'[] \n").split(".")[0] for name in done.stdout.split(",")}
    assert not loaded & {"plotly", "jinja2", "numpy", "torch", "onnx"}
