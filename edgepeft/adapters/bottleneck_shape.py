"""What a bottleneck adapter consists of and computes, without PEFT; importing this loads no heavy library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepeft.adapters.keys import PREFIX
from edgepeft.errors import InputError

if TYPE_CHECKING:
    import torch

TYPE = "BOTTLENECK"
PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "houlsby": ("o_proj", "down_proj"),
    "pfeiffer": ("down_proj",),
}
"""The linear layers whose output an adapter takes: the last of attention, of the feed-forward network."""
ACTIVATIONS = ("relu", "gelu", "silu", "tanh")
PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")
_PATHS = {"o_proj": "self_attn.o_proj", "down_proj": "mlp.down_proj"}


def activate(name: str, values: torch.Tensor) -> torch.Tensor:
    """One of ACTIVATIONS, of ``values`` in any shape and float dtype, which are kept; gelu is the exact one."""
    import torch

    functions = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh}
    function = functions.get(name, torch.nn.functional.silu)
    return function(values)


def adapted(
    output: torch.Tensor, parts: Mapping[str, torch.Tensor], activation: str
) -> torch.Tensor:
    """What an adapter makes of a layer's ``output`` [..., H]: of the same shape and float dtype.

    ``parts`` are PARTS in that dtype: down.weight [r, H], down.bias [r], up.weight [H, r], up.bias [H].
    """
    from torch.nn.functional import linear

    inner = linear(output, parts["down.weight"], parts["down.bias"])
    return output + linear(activate(activation, inner), parts["up.weight"], parts["up.bias"])


def bottleneck_tensors(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    where: tuple[str, str],
    layers: int,
    width: int,
) -> dict[str, torch.Tensor]:
    """An adapter's tensors by ``layer.module.part`` as in ``0.o_proj.down.weight``; float32, for ``adapted``.

    ``tensors`` have PEFT's names and any float dtype. ``where`` names configuration and weights in errors;
    ``layers`` and ``width`` (H) are the model's. Raises InputError where they contradict each other.
    """
    import torch

    size, placement = config.get("bottleneck_size"), config.get("placement")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 65536:
        raise InputError(f"{where[0]}: bottleneck_size: {size} is not from 1 to 65536")
    if not isinstance(placement, str) or placement not in PLACEMENTS:
        raise InputError(f"{where[0]}: placement: {placement} is not {' or '.join(PLACEMENTS)}")
    if config.get("activation") not in ACTIVATIONS:
        raise InputError(
            f"{where[0]}: activation: {config.get('activation')} is not one of {', '.join(ACTIVATIONS)}"
        )
    modules = PLACEMENTS[placement]
    if set(config.get("target_modules") or modules) != set(modules):
        raise InputError(
            f"{where[0]}: target_modules: {placement} placement adapts {' and '.join(modules)}"
        )
    shapes = dict(zip(PARTS, ((size, width), (size,), (width, size), (width,)), strict=True))
    found: dict[str, torch.Tensor] = {}
    left = dict(tensors)
    for layer in range(layers):
        for module in modules:
            for part, shape in shapes.items():
                name = f"{PREFIX}model.layers.{layer}.{_PATHS[module]}.bottleneck_{part}"
                if name not in left:
                    raise InputError(f"{where[1]}: lacks {name}; another base model?")
                tensor = left.pop(name)
                if tuple(tensor.shape) != shape:
                    raise InputError(
                        f"{where[1]}: {name} is {tuple(tensor.shape)}, but this model and its configuration "
                        f"call for {shape}"
                    )
                found[f"{layer}.{module}.{part}"] = tensor.to(torch.float32)
    if left:
        raise InputError(
            f"{where[1]}: holds {min(left)}, which its configuration does not call for ({len(left)} such tensors)"
        )
    return found
