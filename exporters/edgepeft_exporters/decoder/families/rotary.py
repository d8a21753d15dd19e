"""Rotary positions as the model itself computes them, for each kind of layer that it tells apart.

The builder works frequencies out of a configuration, for some scalings and for all layers alike; here they are
those of the model's own rotary module, whatever the scaling. Scalings that depend on a text's length are no
tables, so they are not for this class.
"""

from __future__ import annotations

from typing import Any

import torch
from onnx_ir.tensor_adapters import to_torch_dtype


class ModelRotary:
    """What goes before a class of the builder's: tables out of ``rotary_emb``, a pair for each kind of layer.

    ``skeleton`` is the model whose graph is built; a class is made for it.
    """

    own_tables = True
    skeleton: Any
    # The builder's own.
    model: Any
    layer_types: list[str]
    rope_attrs: dict[str, Any]
    io_dtype: Any
    make_initializer: Any

    def make_rope_init(self, config: Any) -> None:
        """Nothing: no frequency is worked out of the configuration."""

    def make_rotary_embedding_multi_cache(self) -> None:
        """Nothing: tables are made with the first layer that reads them."""

    def make_attention(self, layer_id: int, attention: Any, root_input: str, **kwargs: Any) -> None:
        """The attention of a layer, with the tables of its kind."""
        self._kind = self.layer_types[layer_id]
        super().make_attention(layer_id, attention, root_input, **kwargs)  # type: ignore[misc]

    def make_rotary_embedding_caches(self, **kwargs: Any) -> tuple[str, str]:
        """Names of the tables float [T, R/2] of the present layer, made where they are not there yet."""
        rotary = _rotary_of(self.skeleton)
        by_kind = hasattr(rotary, f"{self._kind}_inv_freq")
        before, after = (f"{self._kind}_", f"_{self._kind}") if by_kind else ("", "")
        names = (f"cos_cache{after}", f"sin_cache{after}")
        if names[0] not in self.model.graph.initializers:
            frequencies = getattr(rotary, f"{before}inv_freq").float()
            scale = getattr(rotary, f"{before}attention_scaling")
            steps = torch.arange(self.rope_attrs["cache_length"]).float()
            angles = torch.outer(steps, frequencies)
            dtype = to_torch_dtype(self.io_dtype)
            for name, table in zip(names, (angles.cos(), angles.sin()), strict=True):
                self.make_initializer((table * scale).to(dtype), name)
        return names


def _rotary_of(skeleton: Any) -> Any:
    """A rotary module like the skeleton's, with its buffers; it is made of the configuration alone."""
    rotary = skeleton.get_decoder().rotary_emb
    return type(rotary)(skeleton.config)
