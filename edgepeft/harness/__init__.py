"""A bundle as a model of lm-evaluation-harness; needs the extra ``eval``.

Importing this package loads neither that library nor a runtime: each name below arrives when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgepeft.harness.needs import require_harness

if TYPE_CHECKING:
    from edgepeft.harness.model import BundleLM

__all__ = ["BundleLM"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_harness()
    value = getattr(importlib.import_module(f"{__name__}.model"), name)
    globals()[name] = value
    return value
