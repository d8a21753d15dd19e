"""What a method does while it trains beside what PEFT does by itself; most do nothing."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from typing import Any

from edgepeft.adapters.methods import method_of_type


class TrainingHooks:
    """The hooks of a method that needs none. A declaration names a subclass of its own as ``hooks``.

    Each is given ``adapted``, the PeftModel that trains.
    """

    def callbacks(self, adapted: Any) -> Sequence[Any]:
        """Callbacks of transformers' trainer; they are called before a checkpoint is marked as whole."""
        return ()

    def penalty(self, adapted: Any) -> Any:
        """What is added to the loss of a training step: a float32 scalar tensor, or 0."""
        return 0.0

    def before_saving(self, adapted: Any) -> None:
        """Make the trained model what its folder shall hold."""


def hooks_of(adapted: Any) -> TrainingHooks:
    """The hooks of the method that ``adapted`` trains with; a bare model has none."""
    config = getattr(adapted, "peft_config", {}).get("default")
    method = None if config is None else method_of_type(config.peft_type)
    if method is None or method.hooks is None:
        return TrainingHooks()
    made: TrainingHooks = pkgutil.resolve_name(method.hooks)()
    return made
