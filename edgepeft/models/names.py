"""Names of modules that wrappers and larger models leave on a model's parts."""

from __future__ import annotations

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that torch's wrappers of a module put before those of its parts, at any depth."""
PARALLEL = "module"
"""What DataParallel and DistributedDataParallel put before everything."""
LANGUAGE_MODELS = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("model.text_model.", "model."),
    ("model.model.", "model."),
    ("language_model.", ""),
    ("", "model."),
)
"""Places of a language model inside a larger one, and what its names begin with by itself."""


def moved(name: str, inside: str, alone: str) -> str:
    """A module's name with the larger model's prefix ``inside`` replaced; others as they are."""
    return f"{alone}{name.removeprefix(inside)}" if name.startswith(inside) else name


def unwrapped(name: str) -> str:
    """A tensor's name without what wrappers of a module put before it."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == PARALLEL:
        del parts[0]
    return ".".join(parts)
