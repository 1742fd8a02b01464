"""Apart: what is made lies outside the images; one more folder among theirs would be a class."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgekd.data.folder import walked
from edgekd.errors import UsageError
from edgekd.loading.splits import folder_named


def check_apart(out: Path, text: str) -> None:
    """Refuse a folder for results that lies where all folders are looked through for images.

    Args:
        out: where results are to go.
        text: the data, as :func:`edgekd.loading.splits.find` takes it.

    Raises:
        UsageError: it lies there.
    """
    if (images := folder_named(text)) and _lies_in(out, images):
        raise UsageError(
            f"{out} lies among the images of {text}, where every folder is taken for a class. "
            "Choose another --output, beside them."
        )


def _lies_in(out: Path, images: str) -> bool:
    """Not where it is hidden there: such folders are left out."""
    with suppress(OSError, ValueError):  # which whoever opens it has words for
        place = Path(os.path.realpath(out))
        for root in map(os.path.realpath, walked(images)):
            inner = place.relative_to(root).parts if place.is_relative_to(root) else (".",)
            if not any(name.startswith(".") for name in inner):
                return True
    return False
