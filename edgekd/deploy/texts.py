"""Texts of a deployed folder: what to install, how to start it, who may use it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from edgekd.deploy.measured import Measured
from edgekd.deploy.settings import CPU

SERVICE = "edgekd.service"
PROGRAMS = ("infer.py", "pictures.py", "folder.py", "engine.py")


def plain(text: object) -> str:
    """One line without what cannot be seen or turns the line around: names are others' text."""
    seen = "".join(c for c in str(text) if unicodedata.category(c) not in ("Cf", "Cs"))
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", seen)


def labels(manifest: Mapping[str, Any]) -> str:
    """One class a line, in the order of the logits."""
    return "".join(f"{plain(label)}\n" for label in manifest["labels"])


def requirements(runtime: Mapping[str, Any], measured: Measured | None) -> str:
    """The runtime as it was measured, numpy, and what only some uses need."""
    name, version = runtime["name"], runtime["version"]
    if name == "onnxruntime" and "CPU" not in runtime["provider"]:
        name = "onnxruntime-gpu"
    pin = f"{name}=={version}\n" if version else f"{name}\n"  # old manifests have none
    why = "# the release it was measured with:\n"
    if measured is None:
        why = "# not measured on a device; the release its export was proved with:\n"
    if name == "tensorrt":
        why += "# (on a Jetson it comes with JetPack, for the system's own Python)\n"
        pin = f"# {pin}"
    return (
        f"# Python 3.8 or newer\nnumpy>=1.22,<3\n{why}{pin}"
        "pillow>=9.0  # optional: for all pictures but .ppm and .npy\n"
        "# opencv-python-headless  # for --camera\n"
    )


def unit(runtime: Mapping[str, Any]) -> str:
    """A systemd unit that classifies a camera's frames; where it lies follows its own name."""
    devices = "DevicePolicy=closed\nDeviceAllow=char-video4linux rw\n"
    cache = ""
    if runtime["provider"] == CPU:  # whose engine keeps the optimised graph there
        cache = "CacheDirectory=%N\nEnvironment=XDG_CACHE_HOME=%C/%N\n"
    if "CPU" not in runtime["provider"]:
        devices = "# the GPU's devices have many names, so that none is closed\n"
    return f"""\
# sudo cp -r FOLDER /opt/edgekd, with its venv made there (README.md); then
# sudo cp /opt/edgekd/{SERVICE} /etc/systemd/system/ && sudo systemctl enable --now edgekd
# What it says: journalctl -u edgekd -o cat
[Unit]
Description=Classify the frames of a camera

[Service]
WorkingDirectory=/opt/%N
ExecStart=/opt/%N/venv/bin/python infer.py --camera 0 --json
Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
{cache}Restart=on-failure
RestartSec=5

DynamicUser=yes
SupplementaryGroups=video
{devices}NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateNetwork=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def readme(
    manifest: Mapping[str, Any], config: Mapping[str, Any], measured: Measured | None
) -> str:
    """What it is and how to start it, in a dozen lines."""
    height, width = config["input"]["size"]
    system = " --system-site-packages" if config["runtime"]["name"] == "tensorrt" else ""
    network = plain(manifest["model"]["name"]).replace("`", "'")
    precision = plain((manifest.get("export") or {}).get("precision") or "fp32").replace("`", "'")
    found = "It was not measured on a device yet."
    if measured is not None:
        found = f"Measured on {plain(measured.machine)}: {plain(measured.found)}."
    kept = ""
    if config["runtime"]["provider"] == CPU:
        kept = (
            "- The first start keeps the optimised graph in `~/.cache/edgekd/sessions`; it is no "
        )
        kept += "error where it cannot.\n"
    return f"""\
# `{network}` in {precision}, {len(manifest["labels"])} classes, {width}x{height} pixels

    python3 -m venv{system} venv && venv/bin/pip install -r requirements.txt
    venv/bin/python infer.py PICTURE_OR_FOLDER ...    # also --top 3, --json
    venv/bin/python infer.py --camera 0               # needs OpenCV, see requirements.txt

- One line a picture: its name, then class and probability, with tabs between.
- {found} `MODEL_CARD.md` has accuracy, conditions and limits.
- As a service: the first lines of `{SERVICE}`.
- `config.json` has threads and CPUs; `sha256sum -c SHA256SUMS` says whether all is as it was made.
{kept}"""


def licence() -> str:
    """Whose the programs are, and that the weights are another matter."""
    return f"""\
{", ".join(PROGRAMS)}: part of edgekd, under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0

The model's weights are not edgekd's. What is known of the licences of the teacher and the data they
come from is in MODEL_CARD.md; this file grants nothing beyond that.
"""
