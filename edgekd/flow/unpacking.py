"""How a plain ONNX file takes its pictures, for the clock that starts at encoded ones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.errors import UsageError
from edgekd.structure import cut, shown

LARGEST = 8192
"""Side of an image that a file may take, in pixels."""
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
    try:
        height, width = json.loads(known["size"]) if known["size"] else _size(file, shape, size)
        taken: dict[str, Any] = {
            "size": [_side(height), _side(width)],
            "interpolation": known["interpolation"] or UNSAID["interpolation"],
            "crop_pct": _share(known["crop_pct"] or UNSAID["crop_pct"]),
        }
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} says of its images {cut(str(known))}: {cut(str(error))}. Expected height and "
            f"width up to {LARGEST} pixels and a crop above 0. Export it again, or use "
            "--clock inference."
        ) from error
    unsaid = [name for name in UNSAID if not known[name]]
    if not unsaid:
        return taken, ""
    return taken, (
        f"{file.name} does not say how its images are made: they are resized to {height}x{width} "
        f"with {taken['interpolation']} interpolation, the whole of the centre"
    )


def _side(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise ValueError(f"{shown(value)} pixels")
    return value


def _share(value: Any) -> float:
    share = float(value)
    if not 0 < share < math.inf:
        raise ValueError(f"a crop of {share:g}")
    return share


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
        metadata = {str(entry.key): str(entry.value) for entry in model.metadata_props}
    except MemoryError:
        raise
    except Exception as error:  # protobuf's error has no public name
        raise UsageError(
            f"{file} is not a whole ONNX model: {cut(str(error))}. Export it again, or copy it "
            "again."
        ) from error
    first = [list(entry.type.tensor_type.shape.dim) for entry in model.graph.input][:1]
    shape = [int(each.dim_value) for dims in first for each in dims]
    return metadata, shape


def _size(file: Path, shape: Sequence[int], size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width from an input's shape, channels first or last."""
    if len(shape) == 4:
        height, width = shape[1:3] if shape[3] == 3 else shape[2:4]
        if height > 0 and width > 0:
            return height, width
    if size is None:
        raise UsageError(
            f"{file} takes {cut(str(shape or 'nothing'))} (0 is free), which says no height and "
            "width to decode images to. Give them (--image-size 224 224), or use --clock inference."
        )
    return int(size[0]), int(size[1])
