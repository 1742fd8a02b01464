"""edgekd: from a big vision model to a small one that provably meets a budget on a real device.

In Python: ``edgekd.teach``, ``edgekd.distill``, ``edgekd.export_network``, ``edgekd.profile`` and
``edgekd.run`` are what the verbs call. They are loaded on first use, because this file also travels
to devices that have nothing but Python.
"""

import importlib

TYPE_CHECKING = False  # of typing, whose import takes longer than all else that is done here
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_VERBS = {
    "teach": ("edgekd.flow.training", "teach"),
    "distill": ("edgekd.flow.training", "distill"),
    "export_network": ("edgekd.flow.exporting", "export_network"),  # edgekd.export is the part
    "profile": ("edgekd.flow.measuring", "measure"),
    "run": ("edgekd.flow.running", "run"),
}


def __getattr__(name: str) -> "Any":
    if name not in _VERBS:
        raise AttributeError(f"module 'edgekd' has no attribute {name!r}")
    module, function = _VERBS[name]
    return getattr(importlib.import_module(module), function)
