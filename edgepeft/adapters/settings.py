"""PEFT's configuration of an adapter made ready for a model: checked, bounded, and moved to where the model is.

What PEFT makes of it stays the same; only what it would do in time without bound, or what it would look for under
names of a larger model, is put in another form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepeft.adapters.patterns import (
    RANKED,
    by_value,
    check_patterns,
    naming_some,
    own_values,
)
from edgepeft.compat.peft_targets import is_target
from edgepeft.models.names import moved

_LISTS = ("target_modules", "exclude_modules")
_SHOWN = 8
_PLACES = ("exclude_modules", "layers_to_transform", "layers_pattern")


def fit_settings(
    config: Any, names: Sequence[str], place: tuple[str, str] | None, where: str
) -> None:
    """Make a PeftConfig fit a model with modules of these ``names``, in place.

    ``place`` is where a larger model keeps such a model, and what its names begin with by itself
    (``language_model_of``). Raises InputError for patterns that are none or take too long.
    """
    inside, alone = place or ("", "")
    own = {moved(name, alone, inside) if place else name: name for name in names}
    check_patterns(vars(config), list(own), where)
    for key in RANKED:
        pattern = getattr(config, key, None)
        # AdaLoRA keeps under each module's name which of its ranks are left.
        if pattern and not any(isinstance(value, list) for value in pattern.values()):
            values = own_values(pattern, key, list(own), where)
            setattr(config, key, by_value({own[name]: value for name, value in values.items()}))
    for key in _LISTS:
        entries = getattr(config, key, None)
        if isinstance(entries, (list, set, tuple)):
            # PEFT looks for each entry in every module, and names them all where none is found.
            kept = naming_some(sorted(entries), list(own)) or sorted(entries)[:_SHOWN]
            setattr(config, key, type(entries)(kept))
    if place is not None:
        _move_targets(config, own)


def _move_targets(config: Any, own: dict[str, str]) -> None:
    """Name the adapted modules as the model does, chosen by PEFT's own rules under the larger model's names."""
    targets = getattr(config, "target_modules", None)
    if targets is None or (isinstance(targets, str) and targets.lower() == "all-linear"):
        return
    chosen = [name for theirs, name in own.items() if is_target(config, theirs)]
    config.target_modules = set(chosen)
    for key in _PLACES:
        if hasattr(config, key):
            setattr(config, key, None)
