"""edgepeft: take a fine-tuned language model to the device it must run on, and prove it arrived.

From Python: ``edgepeft.build``, ``plan``, ``compare``, ``Runtime``, ``Encoder`` and what else ``edgepeft.api``
lists. ``__init__.pyi`` names the same for type checkers.
"""

from __future__ import annotations

import importlib
from typing import Any

from edgepeft.utils import telemetry

__version__ = "0.1.0"

# First of all: onnxruntime reports as soon as it is imported.
telemetry.disable()


def __getattr__(name: str) -> Any:
    """What ``edgepeft.api`` lists, loaded when it is first asked for, so that importing edgepeft stays light."""
    if not name.startswith("_"):
        api = importlib.import_module("edgepeft.api")
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'edgepeft' has no attribute {name!r}")
