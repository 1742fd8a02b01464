"""What an export made and proved, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from edgekd.artifact import Artifact
from edgekd.cli._tables import Grid, print_line


def print_export(artifact: Artifact, out: Path) -> None:
    """The file, its proof and its verdict; then what ``auto`` decided, and why."""
    export, console = artifact.manifest["export"], Console()
    table = Grid("", "", headed=False)
    for name, value in _rows(artifact).items():
        table.add_row(name, value)
    table.print(console)
    if export.get("auto"):
        _print_auto(export["auto"], console)
    print_line(console, f"Next: edgekd profile {out}")


def _rows(artifact: Artifact) -> dict[str, str]:
    export, section = artifact.manifest["export"], artifact.manifest["input"]
    height, width = section["size"]
    shape = f"{height}, {width}, 3" if section["layout"] == "NHWC" else f"3, {height}, {width}"
    baked = "normalised by the caller" if export["float_input"] else "raw pixels 0 to 255"
    found = (export.get("graph") or export)["precision"]  # an engine's own is told apart
    rows = {
        "file": f"{artifact.model_file}, {export['bytes'] / 1e6:.2f} MB",
        "ONNX": f"opset {export['opset']}, {found}, by the {export['exporter']} exporter",
        "input": f"{section['dtype']} (batch, {shape}), {baked}",
    }
    return {
        **rows,
        **_engine(export),
        **_parity(export),
        **_int8(export),
        **_half(export),
        **_verdict(export),
    }


def _engine(export: Mapping[str, Any]) -> dict[str, str]:
    found = export.get("engine")
    if not found:
        return {}
    key = found["key"]
    return {
        "engine": f"{found['label']}, {found['layers']} layers, TensorRT {key['tensorrt']} on "
        f"{key['gpu']}"
    }


def _parity(export: Mapping[str, Any]) -> dict[str, str]:
    """The proof; that of an int8 file is the float32 file's it was made from."""
    parity = export.get("parity")
    if not parity:
        return {}
    first = "in fp32 first" if "int8" in export else "proof on"
    return {
        first: f"{parity['images']} validation images, batches of "
        f"{', '.join(map(str, parity['batches']))}",
        "same top-1": f"{parity['top1_agreement']:.2%}",
        "outputs": f"KL divergence {parity['kl']:.1e}, signal to noise {parity['snr_db']:.0f} dB",
    }


def _verdict(export: Mapping[str, Any]) -> dict[str, str]:
    found = export["verdict"]
    low, high = (100 * end for end in found["delta_interval"])
    loses = (
        f"{found['top1']:.2%}, {100 * found['delta']:+.2f} points [{low:+.2f}, {high:+.2f}] "
        f"against the float network, {found['n']:,} images"
    )
    if export["precision_asked"] == "fp32":
        return {"top-1": loses, "verdict": "the file is the network"}
    allowed = f"a loss of {100 * found['max_drop']:g} % of the images was allowed"
    agree = f"{found['top1_agreement']:.2%} of the answers are the same"
    return {"top-1": loses, "verdict": f"accepted: {allowed}; {agree}"}


def _int8(export: Mapping[str, Any]) -> dict[str, str]:
    found = export.get("int8")
    if not found:
        return {}
    calibration = found["calibration"]
    rows = {
        "int8": f"{found['flavour']} flavour, {found['calibrator']} over {calibration['n']} "
        "training images",
        "reached by": f"{'tuning, then ' * bool(export['tuned_from'])}{found['rung']}",
    }
    if found.get("float_layers"):
        rows["left in float"] = ", ".join(found["float_layers"])
    return rows


def _half(export: Mapping[str, Any]) -> dict[str, str]:
    found = export.get("half")
    if not found:
        return {}
    kept = ", ".join(entry["layer"] for entry in found["float32"]) or "none"
    return {"range": f"{found['headroom']:.1%} of fp16's; layers left in float32: {kept}"}


def _print_auto(auto: Mapping[str, Any], console: Console) -> None:
    table = Grid("precision", "size", "time over fp32 [95 %]", "top-1, points")
    for found in auto["candidates"]:
        table.add_row(
            found["precision"] + (" *" if found["precision"] == auto["chosen"] else ""),
            "-" if found["bytes"] is None else f"{found['bytes'] / 1e6:.2f} MB",
            _ratio(found["ratio"], found["precision"]),
            "refused" if found["refused"] else _delta(found["verdict"]),
        )
    table.print(console)
    if auto["null"]:
        print_line(console, f"Null pair (fp32 against itself): {_ratio(auto['null'], '')}.")
    for reason in auto["reasons"]:
        print_line(console, reason)


def _ratio(found: Mapping[str, Any] | None, precision: str) -> str:
    if found is None or found["value"] is None:
        return "1" if precision == "fp32" else "-"
    ends = "" if found["lo"] is None else f" [{found['lo']:.3f}, {found['hi']:.3f}]"
    return f"{found['value']:.3f}x{ends}"


def _delta(found: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in found["delta_interval"])
    return f"{100 * found['delta']:+.2f} [{low:+.2f}, {high:+.2f}]"
