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
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType, register_peft_method
from torch import nn

from edgepeft.adapters.bottleneck_shape import ACTIVATIONS, PLACEMENTS, TYPE, activate


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


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft ships no types
    """A linear layer whose output goes through the adapter."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_dropout")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation: dict[str, str] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
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
        self._move_adapter_to_device_of_base_layer(adapter_name)
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


class BottleneckModel(BaseTuner):  # type: ignore[misc]  # peft ships no types
    """Puts the adapters into a model."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (PEFT declares it so)

    def _create_and_replace(
        self,
        config: BottleneckConfig,
        adapter_name: str,
        target: Any,
        target_name: str,
        parent: Any,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, config)
            return
        if not isinstance(target, nn.Linear):
            raise ValueError(f"{current_key}: bottleneck adapters stand behind linear layers alone")
        made = BottleneckLayer(target, adapter_name, config)
        if adapter_name not in self.active_adapters:
            made.requires_grad_(False)
        self._replace_module(parent, target_name, made, target)


def register() -> None:
    """Make the method known to PEFT, once a process."""
    if TYPE in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    if TYPE not in list(PeftType):
        # PEFT takes methods of others, but its list of types is a closed enumeration.
        member = str.__new__(PeftType, TYPE)
        member._name_, member._value_ = TYPE, TYPE
        type.__setattr__(PeftType, TYPE, member)
        PeftType._member_names_.append(TYPE)
        PeftType._member_map_[TYPE] = member
        PeftType._value2member_map_[TYPE] = member
    register_peft_method(
        name=TYPE.lower(),
        config_cls=BottleneckConfig,
        model_cls=BottleneckModel,
        prefix="bottleneck_",
    )
