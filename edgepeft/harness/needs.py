"""What must be there for an evaluation: the libraries, and a bundle that generates text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.stages.needs import require_libraries

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle


def require_harness() -> None:
    """Raise MissingError, naming what to install, unless the library and a runtime are there."""
    require_libraries([{"eval": ("lm_eval",)}, {"cpu": ("onnxruntime",)}])


def refuse_encoder(bundle: Bundle) -> None:
    """Raise InputError for a bundle that generates no text."""
    if bundle.task != GENERATION:
        raise InputError(
            f"{bundle.path}: is for {bundle.task}; eval takes bundles that generate text"
        )
