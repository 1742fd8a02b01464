"""Turn a run folder into one self-contained page, Markdown for a README, and JSON."""

from __future__ import annotations

from pathlib import Path

from edgekd.claims import claim_name
from edgekd.files import write_text
from edgekd.report.collect import collect
from edgekd.report.page import render_page
from edgekd.report.replacing import check_place, check_replaceable
from edgekd.report.view import ArtifactView, Result, RunView, Training
from edgekd.report.words import render_json, render_markdown

__all__ = ["ArtifactView", "Result", "RunView", "Training", "check_place", "collect", "write"]


def write(folder: Path, out_dir: Path | None = None) -> dict[str, Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``, by default into the run folder.

    Returns:
        The paths, by ``html``, ``markdown`` and ``json``.

    Raises:
        UsageError: there is nothing to report, or the place cannot be written, or has something
            else than a report in it under one of these names.
    """
    view = collect(folder)
    out = folder if out_dir is None else out_dir
    # All are made before any is written, so that the three always tell of the same run.
    texts = {
        "html": (out / "report.html", render_page(view)),
        "markdown": (out / "report.md", render_markdown(view)),
        "json": (out / "report.json", render_json(view)),
    }
    with claim_name(texts["html"][0], "report"):
        page, summary, data = (path for path, _ in texts.values())
        check_replaceable(page, summary, data, texts["markdown"][1])
        for path, text in texts.values():
            write_text(path, text)
    return {kind: path for kind, (path, _) in texts.items()}
