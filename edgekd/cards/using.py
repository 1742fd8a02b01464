"""What a user has to know: the file, its limits, and how to repeat what the card says."""

from __future__ import annotations

from edgekd.cards.places import device_name
from edgekd.cards.reading import Known, at, number, numbers, pair
from edgekd.cards.text import bullets, counted, facts, fenced, points, safe, share, size

RECIPE_VERBS = {"teacher": "teach --teacher NAME", "student": "distill", "peer": "distill"}
MODELS = {"network": "model.safetensors", "onnx": "model.onnx", "tensorrt": "model.plan"}


def the_file(known: Known) -> str:
    """What goes in and what comes out."""
    export, name = known.at("export"), MODELS[known.manifest["kind"]]
    entry = at(known.manifest["files"], name)
    export = export or {}
    rows = [
        ("file", f"`{name}`"),
        ("size", size(at(entry, "bytes"))),
        ("sha256", safe(at(entry, "sha256") or "")),
        ("precision", safe(at(export, "precision") or ("fp32" if known.is_network else ""))),
        ("precision asked for", safe(at(export, "precision_asked") or "")),
        ("written for", safe(device_name(at(export, "device") or ""))),
        ("ONNX operator set", safe(at(export, "opset") or "")),
        ("input", _input(known)),
        ("preprocessing", _taken(known)),
        ("output", f"logits, float32 (batch, {len(known.labels)}); softmax makes them shares"),
    ]
    return facts([(key, "" if value == "(empty)" else value) for key, value in rows])


def _input(known: Known) -> str:
    taken = known.at("input")
    side = at(taken, "size")
    if not isinstance(side, list) or len(side) != 2:
        return ""
    height, width = map(safe, side)
    shape = f"(batch, {height}, {width}, 3)"
    if at(taken, "layout") == "NCHW":
        shape = f"(batch, 3, {height}, {width})"
    kind = safe(at(taken, "dtype") or "")
    raw = ", raw RGB pixels 0 to 255: normalising is inside" if kind == "uint8" else ", normalised"
    return f"{kind} {shape}, {safe(at(taken, 'layout') or '')}{raw}"


def _taken(known: Known) -> str:
    taken = known.at("input")
    crop, how = number(at(taken, "crop_pct")), at(taken, "interpolation")
    if crop is None or not how:
        return ""
    colours = [at(taken, key) for key in ("mean", "std")]
    mean, std = (safe(", ".join(map(str, c))) if isinstance(c, list) else "" for c in colours)
    return (
        f"resize so that the crop is {100 * crop:.4g} % of the shorter side ({safe(how)}), crop "
        f"the centre; RGB mean {mean}, deviation {std}"
    )


def limits(known: Known) -> str:
    """What it cannot do, and what nobody has looked at."""
    said = [
        "It knows its classes and no others: of a picture of something else it names one of them "
        "all the same, and a high share is no sign that it is right.",
        "Its accuracy holds for images like those it was tested on. Another camera, light, place "
        "or season is not what was measured; measure it on images of your own.",
        "Accuracies of single classes, fairness between groups, and resistance to images made to "
        "mislead it were not judged for this card.",
        *_not_measured(known),
        *_of_reduced(known),
        "Shares that softmax makes of its outputs were not calibrated.",
    ]
    return bullets(said)


def _not_measured(known: Known) -> list[str]:
    said = []
    if known.at("metrics", "test", "n") is None:
        said.append("No accuracy on test images is known.")
    if known.is_network:
        return said
    if not known.records:
        said.append("Its latency was not measured on any device.")
    elif not any(number(at(record, "accuracy", "value")) is not None for record in known.records):
        said.append("Its accuracy was not measured on a device, only where it was exported.")
    if known.records and not any(record.get("energy") for record in known.records):
        said.append("Its energy was not measured.")
    if known.records and not any(record.get("sustained") for record in known.records):
        said.append(
            "How it behaves over minutes of load, as the device warms up, was not measured."
        )
    noisy = [r for r in known.records if at(r, "verdict", "state") not in (None, "stable")]
    for record in noisy:
        name = safe(device_name(at(record, "device", "profile")))
        said.append(f"The timing on {name} was {safe(at(record, 'verdict', 'state'))}; see above.")
    return said


def _of_reduced(known: Known) -> list[str]:
    """What int8 and fp16 were judged on."""
    verdict, export = known.at("export", "verdict"), known.at("export")
    if at(export, "precision_asked") in (None, "fp32"):
        return []
    kind, said = safe(at(export, "precision_asked")), []
    n = counted(at(verdict, "n"), "validation image")
    gap = numbers(at(verdict, "delta"), *pair(at(verdict, "delta_interval")))
    if n and gap is not None:
        found = points(*gap)
        allowed = number(at(verdict, "max_drop"))
        most = f"; a loss of {share(allowed)} was allowed" if allowed is not None else ""
        said.append(
            f"{kind} was judged on {n}: {found} of top-1{most}. Rare classes may lose more."
        )
    images = counted(at(export, "int8", "calibration", "n"), "training image")
    if images:
        said.append(
            f"The ranges of int8 come from {images}; brighter or odder images may saturate."
        )
    return said


def repeat(known: Known) -> str:
    """Commands; what has to be filled in is in capitals."""
    export, role = known.at("export"), str(known.at("role"))
    if known.is_network:
        # weights that came as they are were judged by run, and trained by no verb
        verb = RECIPE_VERBS.get(role, "run") if known.at("training") else "run"
        made = "edgekd run recipe.toml" if verb == "run" else f"edgekd {verb} --recipe recipe.toml"
        return _commands(
            "`recipe.toml` lies beside this card; write the places of data and teacher into it.",
            [f"{made} --output NEW", "edgekd export THIS --onnx --output FILE"],
        )
    precision = safe(at(export, "asked", "precision") or at(export, "precision_asked") or "fp32")
    to = "--trt" if known.manifest["kind"] == "tensorrt" else "--onnx"
    lines = [f"edgekd export NETWORK {to} --precision {precision} --data DATA --output NEW"]
    lines.append("edgekd profile THIS --device DEVICE --data DATA")
    lines += ["edgekd verify THIS --device DEVICE"] if known.records else []
    said = "NETWORK is the artifact this file was exported from, THIS the folder of this card."
    return _commands(said, lines)


def _commands(said: str, lines: list[str]) -> str:
    return f"{said}\n\n{fenced(chr(10).join(f'$ {line}' for line in lines), 'console')}"
