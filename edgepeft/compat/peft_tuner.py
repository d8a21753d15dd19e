"""What a method of ours derives from so that PEFT puts it into a model.

Written for peft 0.21. PEFT's base classes are ``BaseTuner`` and ``BaseTunerLayer``; what a method must give
them has underscored names: ``BaseTuner._create_and_replace`` and ``_replace_module``,
``BaseTunerLayer._active_adapter``, ``_disable_adapters`` and ``_move_adapter_to_device_of_base_layer``. Public
base classes for methods of others would make this unnecessary.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn


class Layer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft ships no types
    """A module of the model with adapters by name beside it."""

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name

    def move_to_base(self, adapter_name: str) -> None:
        """Move an adapter that was just made to the device and dtype of the base layer."""
        self._move_adapter_to_device_of_base_layer(adapter_name)


class Tuner(BaseTuner):  # type: ignore[misc]  # peft ships no types
    """Puts the layers of one method into a model."""

    @abstractmethod
    def adapted(self, config: Any, adapter_name: str, target: Any, where: str) -> Any:
        """The layer that takes the place of ``target``; None where the target has taken the adapter itself."""

    def _create_and_replace(
        self,
        config: Any,
        adapter_name: str,
        target: Any,
        target_name: str,
        parent: Any,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        made = self.adapted(config, adapter_name, target, current_key)
        if made is None:
            return
        if adapter_name not in self.active_adapters:
            made.requires_grad_(False)
        self._replace_module(parent, target_name, made, target)
