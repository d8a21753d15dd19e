"""Bottleneck adapters as a PEFT method: PEFT has none, so this registers one.

A small network with a residual connection stands behind the last product of a sublayer, before that is added to
the residual stream: h + up(activation(down(h))). Houlsby's placement is behind attention and feed-forward network
(https://arxiv.org/abs/1902.00751), Pfeiffer's behind the latter alone (https://arxiv.org/abs/2005.00247).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method
from torch import nn

from edgepeft.adapters.bottleneck_shape import ACTIVATIONS, PLACEMENTS, TYPE, activate
from edgepeft.compat.peft_tuner import Layer, Tuner
from edgepeft.compat.peft_types import add_peft_type


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]  # peft ships no types
    """What an adapter folder says of bottleneck adapters.

    ``bottleneck_size`` is the inner width, ``placement`` one of PLACEMENTS, ``activation`` one of ACTIVATIONS.
    ``target_modules`` are those of the placement, and need not be given.
    """

    target_modules: list[str] | str | None = field(default=None)
    bottleneck_size: int = field(default=64)
    placement: str = field(default="houlsby")
    activation: str = field(default="relu")
    bottleneck_dropout: float = field(default=0.0)

    def __post_init__(self) -> None:
        """Fill in the placement's modules. Raises ValueError for names that there are not."""
        super().__post_init__()
        self.peft_type = TYPE
        if self.placement not in PLACEMENTS or self.activation not in ACTIVATIONS:
            raise ValueError(
                f"placement is one of {', '.join(PLACEMENTS)}, activation of {', '.join(ACTIVATIONS)}"
            )
        if self.target_modules is None:
            self.target_modules = list(PLACEMENTS[self.placement])


class BottleneckLayer(Layer):
    """A linear layer whose output goes through the adapter."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_dropout")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__(base_layer, adapter_name)
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation: dict[str, str] = {}
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add a fresh adapter, which begins as the identity."""
        width = self.get_base_layer().out_features
        self.bottleneck_down[adapter_name] = nn.Linear(width, config.bottleneck_size)
        up = self.bottleneck_up[adapter_name] = nn.Linear(config.bottleneck_size, width)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.bottleneck_dropout)
        self.bottleneck_activation[adapter_name] = config.activation
        self.move_to_base(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The base layer's output [..., N] for ``x`` [..., K], adapted by every active adapter in turn.

        It has the dtype of the base layer's own output.
        """
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down = self.bottleneck_down[name]
                inner = down(self.bottleneck_dropout[name](result.to(down.weight.dtype)))
                change = self.bottleneck_up[name](activate(self.bottleneck_activation[name], inner))
                result = result + change.to(result.dtype)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise NotImplementedError: what is not linear is no change of a weight."""
        raise NotImplementedError("bottleneck adapters are not linear and can't be merged")


class BottleneckModel(Tuner):
    """Puts the adapters into a model."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (PEFT declares it so)

    def adapted(
        self, config: BottleneckConfig, adapter_name: str, target: Any, where: str
    ) -> BottleneckLayer | None:
        """A layer around a linear one; another adapter goes into the layer that is there."""
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, config)
            return None
        if not isinstance(target, nn.Linear):
            raise ValueError(f"{where}: bottleneck adapters stand behind linear layers alone")
        return BottleneckLayer(target, adapter_name, config)


def register() -> None:
    """Make the method known to PEFT, once a process."""
    if TYPE in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    add_peft_type(TYPE)
    register_peft_method(
        name=TYPE.lower(),
        config_cls=BottleneckConfig,
        model_cls=BottleneckModel,
        prefix="bottleneck_",
    )
