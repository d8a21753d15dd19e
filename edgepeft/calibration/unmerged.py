"""A skeleton that calibration runs through, given what of an adapter did not merge."""

from __future__ import annotations

from typing import Any

import torch

from edgepeft.adapters.bottleneck_shape import adapted
from edgepeft.adapters.unmerged import Unmerged


def calibration_lead(unmerged: Unmerged | None) -> int:
    """How many ids that stand for virtual tokens begin every sequence that runs through the skeleton."""
    return 0 if unmerged is None else unmerged.virtual_tokens


def carry(skeleton: Any, unmerged: Unmerged | None) -> None:
    """Have a model compute, in place, what the adapter makes of it beyond its weights.

    Virtual tokens take the first places of every sequence, whatever ids stand there.
    """
    if unmerged is None:
        return
    if unmerged.carried == "tokens":
        rows = unmerged.tensors["embeddings"]
        skeleton.get_input_embeddings().register_forward_hook(
            lambda module, arguments, output: _begun_with(output, rows)
        )
        return
    for index, layer in enumerate(skeleton.get_decoder().layers):
        if unmerged.carried == "layers":
            _adapt(layer, index, unmerged)
            continue
        _Prefixed(
            layer.self_attn, unmerged.tensors["keys"][index], unmerged.tensors["values"][index]
        )


def _adapt(layer: Any, index: int, unmerged: Unmerged) -> None:
    """Put bottleneck adapters behind a layer's attention and feed-forward network."""
    for name, sublayer in (("o_proj", layer.self_attn), ("down_proj", layer.mlp)):
        start = f"{index}.{name}."
        parts = {
            key.removeprefix(start): tensor
            for key, tensor in unmerged.tensors.items()
            if key.startswith(start)
        }

        def behind(
            module: Any, arguments: Any, output: Any, parts: dict[str, torch.Tensor] = parts
        ) -> Any:
            if isinstance(output, tuple):
                return (adapted(output[0], parts, unmerged.activation), *output[1:])
            return adapted(output, parts, unmerged.activation)

        if parts:
            sublayer.register_forward_hook(behind)


def _begun_with(output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``output`` [B, T, K] with ``rows`` [n, K] in its first places."""
    first = rows.to(output.dtype).expand(len(output), -1, -1)
    return torch.cat([first, output[:, len(rows) :]], dim=1)


class _Prefixed:
    """An attention whose first keys and values are given; the rotation that awaits the keys is undone before."""

    def __init__(self, attention: Any, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._keys, self._values = keys, values
        self._size = int(attention.head_dim)
        self._rotates = bool(getattr(attention, "use_rope", True))
        self._cos = self._sin = torch.empty(0)
        self._length = 0
        attention.register_forward_pre_hook(self._look, with_kwargs=True)
        if hasattr(attention, "qkv_proj"):
            attention.qkv_proj.register_forward_hook(self._both)
            return
        (getattr(attention, "k_norm", None) or attention.k_proj).register_forward_hook(self._key)
        attention.v_proj.register_forward_hook(
            lambda module, arguments, output: _begun_with(output, self._values)
        )

    def _look(self, module: Any, arguments: Any, keywords: Any) -> None:
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        self._length = hidden.shape[1]
        cos, sin = keywords["position_embeddings"]
        self._cos, self._sin = (one[0, : len(self._keys), None] for one in (cos, sin))

    def _unrotated(self) -> torch.Tensor:
        if not self._rotates:
            return self._keys
        keys = self._keys.reshape(len(self._keys), -1, self._size)
        first, second = keys.chunk(2, dim=-1)
        turned = keys * self._cos - torch.cat([-second, first], dim=-1) * self._sin
        return (turned / (self._cos.square() + self._sin.square())).flatten(1)

    def _key(self, module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        rows = self._unrotated()
        if output.dim() == 3:
            return _begun_with(output, rows)
        # A norm works on heads apart, before or after they change places with the positions.
        swapped = output.shape[1] != self._length
        flat = (output.transpose(1, 2) if swapped else output).flatten(2)
        made = _begun_with(flat, rows).unflatten(2, (-1, self._size))
        return made.transpose(1, 2) if swapped else made

    def _both(self, module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([self._unrotated(), self._values], dim=1)
        width = rows.shape[1]
        made = _begun_with(output[..., -width:], rows)
        return torch.cat([output[..., :-width], made], dim=-1)
