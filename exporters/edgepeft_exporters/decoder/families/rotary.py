"""Rotary positions as the model itself computes them, for each kind of layer that it tells apart.

The builder works frequencies out of a configuration, for some scalings and for all layers alike, and stores
cosines and sines of every position: a fifth of a small int4 bundle with a long context. Here the frequencies are
those of the model's own rotary module, whatever the scaling, and the tables are made of them in the graph. All of
it is constant, so a runtime computes it once, when a session opens. Scalings that depend on a text's length are
no tables, so they are not for this class.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch

if TYPE_CHECKING:
    _Builders = Any
else:
    _Builders = object


class ModelRotary(_Builders):  # type: ignore[misc]  # what comes after it has no types
    """What goes before a class of the builder's: tables out of ``rotary_emb``, a pair for each kind of layer.

    ``skeleton`` is the model whose graph is built; a class is made for it.
    """

    own_tables = True
    skeleton: Any

    @cached_property
    def _rotary(self) -> Any:
        """A rotary module like the skeleton's, with its buffers; it is made of the configuration alone."""
        return type(self.skeleton.get_decoder().rotary_emb)(self.skeleton.config)

    def make_rope_init(self, config: Any) -> None:
        """Nothing: no frequency is worked out of the configuration."""

    def make_rotary_embedding_multi_cache(self) -> None:
        """Nothing: tables are made with the first layer that reads them."""

    def make_attention(self, layer_id: int, attention: Any, root_input: str, **kwargs: Any) -> None:
        """The attention of a layer, with the tables of its kind, rotated or not."""
        self._kind = self.layer_types[layer_id]
        before = self.attention_attrs["rope"], self.attention_attrs["use_rope_in_attn"]
        if not self.rotates(layer_id):
            self.attention_attrs.update(rope=False, use_rope_in_attn=False)
        super().make_attention(layer_id, attention, root_input, **kwargs)
        self.attention_attrs.update(zip(("rope", "use_rope_in_attn"), before, strict=True))

    def rotates(self, layer_id: int) -> bool:
        """Whether a layer rotates its queries and keys."""
        return True

    def make_rotary_embedding_caches(self, **kwargs: Any) -> tuple[str, str]:
        """Names of the tables [T, R/2] of the present layer, made where they are not there yet."""
        rotary = self._rotary
        by_kind = hasattr(rotary, f"{self._kind}_inv_freq")
        before, stem = (f"{self._kind}_", f"rotary.{self._kind}") if by_kind else ("", "rotary")
        frequencies = f"{stem}.frequencies"
        if frequencies not in self.model.graph.initializers:
            self.make_initializer(getattr(rotary, f"{before}inv_freq").float()[None], frequencies)
        scale = float(getattr(rotary, f"{before}attention_scaling"))
        width = self.model.graph.initializers[frequencies].shape[1]
        angles = self._angles(f"/model/{stem.replace('.', '/')}", frequencies, width)
        return self._table("Cos", angles, scale, width), self._table("Sin", angles, scale, width)

    def _angles(self, stem: str, frequencies: str, width: int) -> str:
        """Every position times every frequency, float32 [T, R/2]."""
        count, constants = self.rope_attrs["cache_length"], "/model/constants"
        steps = [f"{constants}/FLOAT/{number}" for number in (0.0, float(count), 1.0)]
        self.make_node("Range", steps, [f"{stem}/Range/output_0"], name=f"{stem}/Range")
        self.make_value(f"{stem}/Range/output_0", ir.DataType.FLOAT, shape=[count])
        inputs = [f"{stem}/Range/output_0", f"{constants}/INT64/[1]"]
        shape = [count, 1]
        self.make_unsqueeze(f"{stem}/Unsqueeze", inputs, dtype=ir.DataType.FLOAT, shape=shape)
        inputs = [f"{stem}/Unsqueeze/output_0", frequencies]
        self.make_mul(f"{stem}/Mul", inputs, dtype=ir.DataType.FLOAT, shape=[count, width])
        return f"{stem}/Mul/output_0"

    def _table(self, operator: str, angles: str, scale: float, width: int) -> str:
        """Cosines or sines of angles, scaled, in the type of the graph's activations."""
        name = f"{angles.removesuffix('/Mul/output_0')}/{operator}"
        shape, dtype = [self.rope_attrs["cache_length"], width], ir.DataType.FLOAT
        self.make_node(operator, [angles], [f"{name}/output_0"], name=name)
        self.make_value(f"{name}/output_0", dtype, shape=shape)
        if scale != 1.0:
            inputs = [f"{name}/output_0", f"/model/constants/FLOAT/{scale}"]
            name = f"{name}/Mul"
            self.make_mul(name, inputs, dtype=dtype, shape=shape)
        if self.io_dtype != dtype:
            self.make_cast(f"{name}/Cast", f"{name}/output_0", dtype=self.io_dtype, shape=shape)
            name = f"{name}/Cast"
        return f"{name}/output_0"


def first_rows(table: ir.Value, count: int) -> torch.Tensor | None:
    """The first rows float32 [count, R/2] of a table as graphs have them, stored or made of constants.

    None for one that depends on what the graph reads.
    """
    if table.const_value is not None:
        return torch.from_numpy(table.const_value.numpy()[:count].astype("float32"))
    node, scale = table.producer(), 1.0
    while node is not None and node.op_type in ("Cast", "Mul"):
        if node.op_type == "Mul":
            constant = ir.convenience.get_const_tensor(_given(node.inputs[1]))
            if constant is None:
                return None
            scale *= float(constant.numpy())
        node = _given(node.inputs[0]).producer()
    if node is None or node.op_type not in ("Cos", "Sin"):
        return None
    angles = _given(node.inputs[0]).producer()
    frequencies = None if angles is None else _given(angles.inputs[1]).const_value
    if frequencies is None:
        return None
    turned = torch.outer(torch.arange(count).float(), torch.from_numpy(frequencies.numpy())[0])
    return (turned.cos() if node.op_type == "Cos" else turned.sin()) * scale


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
