"""Virtual tokens in the graph: token ids of their own, above all others, that no logit can choose.

Their embeddings lie in a table beside the model's, in the target's floating-point type: the model's own table
keeps its rows, its grid and its being one with the head. The logits get a column for each, at the lowest number
of half precision, so that runtimes which index logits by token id stay within bounds and none is ever generated.

A prefix takes the place of their keys and values in every layer. What else is computed at their positions reaches
no other token, so this is the cache that prefix tuning begins with, in a graph that starts from an empty one.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgepeft.errors import EdgepeftError
from edgepeft_exporters.decoder.families.rotary import first_rows
from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.decoder.surgery import Surgeon, redirect

NEVER = -65504.0
"""The logit of a virtual token: finite in every type, and no real logit comes near it."""
_LOOKUPS = ("Gather", "GatherBlockQuantized")


class VirtualTokens:
    """The nodes that tell virtual tokens from others: ``is_virtual`` bool [B, T, 1], ``place`` int64 [B, T].

    A token that is none has the place 0.
    """

    def __init__(self, graph: DecoderGraph, first: int, count: int) -> None:
        """``first`` is the id of the first of ``count`` virtual tokens."""
        self._surgeon = surgeon = Surgeon(graph, "/model/virtual")
        self._first, self._count = first, count
        ids = next(value for value in surgeon.graph.inputs if value.name == "input_ids")
        lookups = [n for n, i in ids.uses() if n.op_type in _LOOKUPS and i == 1]
        if len(lookups) != 1:
            raise EdgepeftError(f"the graph looks its input ids up {len(lookups)} times, not once")
        self._lookup = lookups[0]
        shape = list(ids.shape or ["batch_size", "sequence_length"])
        limit, zero = surgeon.constant("first", [first]), surgeon.constant("zero", [0])
        flag = surgeon.node("GreaterOrEqual", [ids, limit], "Flag", ir.DataType.BOOL, shape)
        above = surgeon.node("Sub", [ids, limit], "Above", ir.DataType.INT64, shape)
        self.place = surgeon.node("Where", [flag, above, zero], "Place", ir.DataType.INT64, shape)
        real = surgeon.node("Where", [flag, zero, ids], "Real", ir.DataType.INT64, shape)
        last = surgeon.constant("last", [-1])
        self.is_virtual = surgeon.node(
            "Unsqueeze", [flag, last], "Unsqueeze", ir.DataType.BOOL, [*shape, 1]
        )
        self._lookup.replace_input_with(1, real)

    def instead_of(self, value: ir.Value, rows: torch.Tensor, name: str) -> ir.Value:
        """``value`` [B, T, K] with ``rows`` [count, K] in the places of virtual tokens, for all that reads it."""
        dtype, shape = value.dtype, list(value.shape or [])
        if dtype is None or len(rows) != self._count:
            raise EdgepeftError(f"{value.name}: virtual tokens can't replace it")
        uses = tuple(value.uses())
        table = self._surgeon.table(f"{name}/table", rows, dtype)
        taken = self._surgeon.node("Gather", [table, self.place], f"{name}/Gather", dtype, shape)
        made = self._surgeon.node(
            "Where", [self.is_virtual, taken, value], f"{name}/Where", dtype, shape
        )
        redirect(uses, made)
        return made

    def embed(self, rows: torch.Tensor) -> None:
        """Give the virtual tokens their embeddings [count, H], as they come out of the model's own lookup."""
        value = self._lookup.outputs[0]
        users = [node for node, _ in value.uses()]
        if self._lookup.op_type != "Gather" and [node.op_type for node in users] == ["Slice"]:
            # A table of padded blocks is cut to its width afterwards.
            value = users[0].outputs[0]
        self.instead_of(value, rows, "embedding")

    def remember(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Give the virtual tokens their keys and values, [layers, count, kv_heads * head_size], as cached."""
        nodes = [n for n in self._surgeon.graph if n.op_type == "GroupQueryAttention"]
        if len(nodes) != len(keys):
            raise EdgepeftError(f"the graph attends {len(nodes)} times in {len(keys)} layers")
        for node in nodes:
            query, key, value, past = map(_given, node.inputs[:4])
            if past is None or query is None or query.shape is None:
                raise EdgepeftError(f"{node.name}: has no cache, or says nothing of what it reads")
            layer = int((past.name or "").split(".")[1])
            rows = unrotated(keys[layer], node)
            if key is None or value is None:
                # Query, key and value are one product, whose query part is nothing to anyone.
                idle = torch.zeros(self._count, int(query.shape[-1]) - 2 * rows.shape[1])
                rows = torch.cat([idle, rows, values[layer]], dim=1)
                self.instead_of(query, rows, f"layers.{layer}/qkv")
            else:
                self.instead_of(key, rows, f"layers.{layer}/key")
                self.instead_of(value, values[layer], f"layers.{layer}/value")

    def hide(self) -> None:
        """Widen the logits by columns that can't win."""
        outputs = self._surgeon.graph.outputs
        index = next(i for i, value in enumerate(outputs) if value.name == "logits")
        logits = outputs[index]
        if logits.dtype is None or logits.shape is None:
            raise EdgepeftError("the graph does not say what its logits are")
        width = int(logits.shape[-1])
        logits.name = "logits_of_tokens"
        pads = self._surgeon.constant("pads", [0, 0, 0, 0, 0, self._first + self._count - width])
        never = self._surgeon.number("never", NEVER, logits.dtype)
        shape = [*logits.shape[:-1], self._first + self._count]
        made = self._surgeon.node("Pad", [logits, pads, never], "Pad", logits.dtype, shape)
        made.name = "logits"
        outputs[index] = made


def _given(value: ir.Value | None) -> ir.Value | None:
    """An operator's input, None where it is left out."""
    return value if value is not None and value.name else None


def unrotated(keys: torch.Tensor, attention: ir.Node) -> torch.Tensor:
    """Keys [n, kv_heads * head_size] of positions 0 to n - 1 as an attention must read them to cache these.

    Where the operator rotates what it reads, that rotation is undone with its own tables. Raises EdgepeftError
    for tables that depend on the length of a prompt, and for rotations of other numbers than halves of heads.
    """
    settings = {name: attribute.value for name, attribute in attention.attributes.items()}
    tables = [_given(value) for value in attention.inputs[7:9]]
    if not settings.get("do_rotary") or len(tables) < 2 or None in tables:
        return keys
    count = len(keys)
    rows = [first_rows(value, count) for value in tables if value is not None]
    if any(row is None for row in rows):
        raise EdgepeftError(
            "prefix_tuning: this model's rotary positions depend on the length of the prompt, and a prefix has "
            "been learned for one; use prompt_tuning"
        )
    cos, sin = (row[:, None] for row in rows if row is not None)
    half = cos.shape[-1]
    whole = keys.shape[1] == int(settings["kv_num_heads"]) * 2 * half
    if settings.get("rotary_interleaved") or not whole:
        raise EdgepeftError(
            "prefix_tuning: this model rotates neighbouring numbers or a part of each attention head, and no "
            "prefix can be exported for that; use prompt_tuning"
        )
    first, second = keys.reshape(count, -1, 2, half).unbind(2)
    turned = torch.stack([first * cos + second * sin, second * cos - first * sin], dim=2)
    # The tables may scale as well (YaRN).
    return (turned / (cos.square() + sin.square())[:, :, None]).reshape(count, -1)
