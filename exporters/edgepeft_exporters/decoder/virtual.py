"""Virtual tokens in the graph: token ids of their own, above all others, that no logit can choose.

Their embeddings lie in a table beside the model's, in the target's floating-point type: the model's own table keeps
its rows, its grid and its being one with the head. The logits get a column for each, at the lowest number half
precision has, so that runtimes which index logits by token id stay within bounds and none is ever generated.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgepeft.errors import EdgepeftError
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
            raise EdgepeftError(f"{value.name}: virtual tokens can't take its place")
        table = self._surgeon.table(f"{name}/table", rows, dtype)
        taken = self._surgeon.node("Gather", [table, self.place], f"{name}/Gather", dtype, shape)
        made = self._surgeon.node(
            "Where", [self.is_virtual, taken, value], f"{name}/Where", dtype, shape
        )
        redirect(value, made)
        return made

    def embed(self, rows: torch.Tensor) -> None:
        """Give the virtual tokens their embeddings [count, H], as they come out of the model's own lookup."""
        value = self._lookup.outputs[0]
        users = [node for node, _ in value.uses()]
        if self._lookup.op_type != "Gather" and [node.op_type for node in users] == ["Slice"]:
            # A table of padded blocks is cut to its width afterwards.
            value = users[0].outputs[0]
        self.instead_of(value, rows, "embedding")

    def hide(self) -> None:
        """Widen the logits by columns that can't win."""
        outputs = self._surgeon.graph.outputs
        index = next(i for i, value in enumerate(outputs) if value.name == "logits")
        logits = outputs[index]
        if logits.dtype is None or logits.shape is None:
            raise EdgepeftError("the graph does not say what its logits are")
        width = int(logits.shape[-1])  # type: ignore[arg-type]  # the builder states it
        logits.name = "logits_of_tokens"
        pads = self._surgeon.constant("pads", [0, 0, 0, 0, 0, self._first + self._count - width])
        never = self._surgeon.number("never", NEVER, logits.dtype)
        shape = [*logits.shape[:-1], self._first + self._count]
        made = self._surgeon.node("Pad", [logits, pads, never], "Pad", logits.dtype, shape)
        made.name = "logits"
        outputs[index] = made
