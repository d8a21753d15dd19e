"""What must be installed for a stage, and the line that says how to install it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping

from edgepeft.errors import MissingError

Needs = Mapping[str, tuple[str, ...]]
"""Extra of the package, and the modules of it that must be there."""

MODEL = ("torch", "transformers", "safetensors", "accelerate")
ADAPTED = (*MODEL, "peft", "bitsandbytes")


def require_libraries(needed: Iterable[Needs]) -> None:
    """Raise MissingError, naming what to install, unless every library is there."""
    missing: dict[str, str] = {}
    for needs in needed:
        for extra, modules in needs.items():
            for module in modules:
                if importlib.util.find_spec(module) is None:
                    missing.setdefault(extra, module)
    if missing:
        extras = ",".join(sorted(missing))
        module = next(iter(missing.values()))
        raise MissingError(f"{module} is not installed: pip install 'edgepeft[{extras}]'")
