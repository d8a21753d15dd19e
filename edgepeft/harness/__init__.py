"""A bundle as a model of lm-evaluation-harness; needs the extra ``eval``.

Importing this package loads neither that library nor a runtime: each name below arrives when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.stages.needs import require_libraries

if TYPE_CHECKING:
    from edgepeft.harness.model import BundleLM
    from edgepeft.runtime.bundle import Bundle

__all__ = ["BundleLM"]

# datasets tells its maker of every data set that is loaded unless this is set before its import.
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"


def require_harness() -> None:
    """Raise MissingError, naming what to install, unless the library and a runtime are there."""
    require_libraries([{"eval": ("lm_eval",)}, {"cpu": ("onnxruntime",)}])


def refuse_encoder(bundle: Bundle) -> None:
    """Raise InputError for a bundle that generates no text."""
    if bundle.task != GENERATION:
        raise InputError(
            f"{bundle.path}: is for {bundle.task}; eval takes bundles that generate text"
        )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_harness()
    value = getattr(importlib.import_module(f"{__name__}.model"), name)
    globals()[name] = value
    return value
