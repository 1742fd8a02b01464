"""How a plain ONNX file takes its pictures, for the clock that starts at encoded ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError

UNSAID: dict[str, Any] = {"interpolation": "bilinear", "crop_pct": 1.0}
"""What is taken where a file says nothing; it costs as much time as most others."""


def taken_by(file: Path, size: Sequence[int] | None) -> tuple[dict[str, Any], str]:
    """Size, interpolation and crop of a file's pictures, and a sentence on what was assumed.

    Args:
        file: an ONNX file; those that edgekd exported say all of it.
        size: height and width, for a file that leaves them free.

    Raises:
        UsageError: it is not an ONNX file, or nothing says the size.
    """
    metadata, shape = _facts(file)
    known = {name: metadata.get(f"edgekd.{name}") for name in ("size", *UNSAID)}
    height, width = json.loads(known["size"]) if known["size"] else _size(file, shape, size)
    taken: dict[str, Any] = {
        "size": [height, width],
        "interpolation": known["interpolation"] or UNSAID["interpolation"],
        "crop_pct": float(known["crop_pct"] or UNSAID["crop_pct"]),
    }
    unsaid = [name for name in UNSAID if not known[name]]
    if not unsaid:
        return taken, ""
    return taken, (
        f"{file.name} does not say how its images are made: they are resized to {height}x{width} "
        f"with {taken['interpolation']} interpolation, the whole of the centre"
    )


def _facts(file: Path) -> tuple[dict[str, str], list[int]]:
    """Metadata, and the first input's shape, 0 where it is free."""
    if file.suffix != ".onnx":
        raise UsageError(
            f"{file} does not say how its images are made, which the clock end_to_end needs. Give "
            "the artifact's folder, or use --clock inference."
        )
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's error has no public name
        raise UsageError(
            f"{file} is not a whole ONNX model: {error}. Export it again, or copy it again."
        ) from error
    first = [list(entry.type.tensor_type.shape.dim) for entry in model.graph.input][:1]
    shape = [int(each.dim_value) for dims in first for each in dims]
    return {entry.key: entry.value for entry in model.metadata_props}, shape


def _size(file: Path, shape: Sequence[int], size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width from an input's shape, channels first or last."""
    if len(shape) == 4:
        height, width = shape[1:3] if shape[3] == 3 else shape[2:4]
        if height and width:
            return height, width
    if size is None:
        raise UsageError(
            f"{file} takes {shape or 'nothing'} (0 is free), which says no height and width to "
            "decode images to. Give them (--image-size 224 224), or use --clock inference."
        )
    return int(size[0]), int(size[1])
