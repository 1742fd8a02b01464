"""What of TensorRT is on a device: bindings for Python, trtexec, and the GPU that both need."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from edgekd.agent.failures import AgentError, explain_import
from edgekd.agent.tensorrt import cuda, trtexec
from edgekd.agent.tensorrt.messages import last_words

ROOT = Path("/")
TEGRA = "etc/nv_tegra_release"
OLDEST = (8, 5)
"""The first release that addresses tensors by name."""


def facts(root: Path = ROOT) -> Dict[str, Any]:
    """Versions and paths, or in ``error`` why there are none; raises nothing.

    ``tensorrt`` has the bindings' version in ``python``, trtexec's path in ``trtexec``, and in
    ``version`` the release that builds engines: the bindings', or trtexec's where there are none.
    """
    engines: Dict[str, Any] = {"python": None, "trtexec": trtexec.find(), "version": None}
    found: Dict[str, Any] = {"cuda": None, "tensorrt": engines, "error": None}
    try:
        driver = cuda.probe()
        found["cuda"] = {
            "driver": driver.version,
            "devices": [{"name": gpu.name, "capability": gpu.capability} for gpu in driver.gpus],
        }
        bindings, program = tools(root)
        if program is None:
            engines["python"] = engines["version"] = str(bindings.__version__)
        else:
            engines["version"] = dotted(trtexec.ask(program)[0])
    except AgentError as error:
        found["error"] = str(error)
    return found


def tools(root: Path = ROOT) -> Tuple[Any, Optional[str]]:
    """The bindings; or, where there are none that can be used, the path of trtexec.

    Raises:
        AgentError: no GPU, or neither of the two; with what to install.
    """
    try:
        return load(root), None
    except AgentError as error:
        if error.kind not in ("module", "library"):  # no GPU is of no use to trtexec either
            raise
        program = trtexec.find()
        if program is None:
            raise AgentError(
                error.kind,
                f"{error} NVIDIA's trtexec would do to build engines; it is not on the PATH either,"
                f" nor in {' or '.join(trtexec.FOLDERS)}.",
            ) from error
        return None, program


def dotted(release: trtexec.Version) -> str:
    """``(8, 5, 2)`` as it is written."""
    return ".".join(map(str, release))


def load(root: Path = ROOT) -> Any:
    """Import TensorRT, once CUDA was found to work.

    Raises:
        AgentError: no GPU, no TensorRT, or one that is too old; with what to install.
    """
    cuda.probe()  # first: without a GPU the libraries below end the process
    try:
        tensorrt = import_module("tensorrt")
    except ImportError as error:
        raise _missing(str(error), root) from error
    if version(tensorrt)[:2] < OLDEST:
        raise AgentError(
            "module",
            f"TensorRT {tensorrt.__version__} is installed; the agent needs 8.5 or newer, which "
            "JetPack 5 has. Update it.",
        )
    return tensorrt


def start(trt: Any, kind: str, logger: Any) -> Any:
    """A ``Builder`` or a ``Runtime``: the first that needs the GPU to work.

    Raises:
        AgentError: it does not, in TensorRT's own words.
    """
    try:
        made = getattr(trt, kind)(logger)
    except TypeError as error:  # pybind's "factory function returned nullptr"
        raise AgentError(
            "gpu",
            f"TensorRT {trt.__version__} cannot start on this device's GPU ({error}). "
            f"{last_words(logger)} Install the TensorRT that fits its driver. {cuda.ELSEWHERE}",
        ) from error
    register = getattr(trt, "init_libnvinfer_plugins", None)
    if register is not None:  # NVIDIA's own, which graphs of 8.x and engines may name
        register(logger, "")
    return made


def version(trt: Any) -> Tuple[int, ...]:
    """``8.6.1`` or ``10.13.3.9`` as numbers."""
    return tuple(int(part) for part in str(trt.__version__).split(".") if part.isdigit())


def _missing(said: str, root: Path) -> AgentError:
    if "tensorrt" not in said:  # a library of it, or a module that it imports
        explained = explain_import(said)
        return explained or AgentError("module", f"TensorRT cannot be imported: {said}")
    here = f"{sys.executable} (Python {sys.version.split()[0]}) has no TensorRT"
    if (root / TEGRA).exists():
        return AgentError(
            "module",
            f"{here}. On a Jetson it comes with JetPack: sudo apt install python3-libnvinfer; do "
            "not pip install it. In a virtual environment, make that with --system-site-packages.",
        )
    return AgentError(
        "module",
        f"{here}. Install it: {sys.executable} -m pip install 'edgekd[tensorrt]', or tensorrt "
        "alone on a device. Or name a device that has it (--device).",
    )
