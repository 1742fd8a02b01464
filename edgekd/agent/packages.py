"""Which packages a device's Python has and can load, each tried in a process of its own.

A runtime that was built for another CPU or system ends the process that imports it: that, too, is
an answer, and becomes a sentence that says what to do.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from edgekd.agent import facts
from edgekd.agent.failures import Crash, explain
from edgekd.agent.releases import how_to_install

PATIENCE_S = 60.0  # for an import: from a slow card, or under emulation
PACKAGES = {  # the module to import -> the packages that bring it
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "PIL": ("pillow",),
}
PROBE = """import importlib, json, sys
from importlib.metadata import PackageNotFoundError, version
name, brought_by = sys.argv[1], sys.argv[2:]
installed = {}
for package in brought_by:
    try:
        installed[package] = version(package)
    except PackageNotFoundError:
        pass
print("\\n" + json.dumps({"installed": installed}), flush=True)
module = importlib.import_module(name)
providers = []
if name == "onnxruntime":
    providers = list(module.get_available_providers())
elif name == "openvino":
    providers = list(module.Core().available_devices)
found = {"version": str(getattr(module, "__version__", "")) or None, "providers": providers}
found["path"] = getattr(module, "__file__", None)
print("\\n" + json.dumps({"installed": installed, **found}))
"""


def look(python: Optional[str] = None) -> Dict[str, Dict[str, Any]]:
    """Each package's ``version``, ``path``, ``error`` (a sentence or None) and ``providers``.

    Args:
        python: the interpreter to ask; this one by default.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for module, brought_by in PACKAGES.items():
        found.update(_module(python or sys.executable, module, brought_by))
    return found


def doubts(found: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Sentences on packages that are in each other's way."""
    if found["onnxruntime"]["version"] and found["onnxruntime-gpu"]["version"]:
        return [
            "onnxruntime and onnxruntime-gpu are both installed, and each overwrites files of the "
            "other. Uninstall both, then install the one that is wanted."
        ]
    return []


def _module(python: str, module: str, brought_by: Sequence[str]) -> Dict[str, Dict[str, Any]]:
    said, error = _imported(python, module, brought_by)
    installed = said.get("installed", {})
    if not installed and "path" in said:  # there is a module, and nothing says whose it is
        installed = {brought_by[0]: said["version"]}
    entries = {}
    for package in brought_by:
        version, there = installed.get(package), package in installed
        missing = f"{package} is not installed. {_advice(package, python)}"
        entries[package] = {
            "version": version or (said.get("version") if there else None),
            "path": said.get("path") if there else None,
            "error": error if there else missing,
            "providers": said.get("providers", []) if there else [],
        }
    if error is not None and not installed and f"has no module {module!r}" not in error:
        entries[brought_by[0]]["error"] = error
    return entries


def _advice(package: str, python: str) -> str:
    return how_to_install(
        package, python, platform.machine(), Path("/etc/nv_tegra_release").exists()
    )


def _imported(
    python: str, module: str, brought_by: Sequence[str]
) -> Tuple[Dict[str, Any], Optional[str]]:
    """What the probe said, and why it did not come to its end."""
    free = facts.free_bytes()
    try:
        done = subprocess.run(
            [python, "-c", PROBE, module, *brought_by],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return {}, f"{module} could not be imported within {PATIENCE_S:g} s."
    except OSError as error:
        return {}, f"{python} cannot be started: {error}."
    said = _last(done.stdout)
    if done.returncode == 0:
        return said, None
    text = done.stderr.decode("utf-8", errors="replace")
    runtime = "ort" if module == "onnxruntime" else module
    crash = Crash(done.returncode, text, "its import alone", runtime, facts.cpu_model(), free)
    return said, str(explain(crash))


def _last(output: bytes) -> Dict[str, Any]:
    """The last whole line of the probe's; libraries may have written between."""
    for line in reversed(output.decode("utf-8", errors="replace").splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}
