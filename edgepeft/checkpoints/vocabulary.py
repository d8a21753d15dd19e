"""The vocabulary of a base: tokens that a recipe or an adapter adds, and the rows of embedding and head for them.

A new row begins as the mean of all rows, which is as likely as any other token and says nothing; training gives
it its meaning. An adapter that brings embeddings of another vocabulary, or a head apart from the embedding,
gets a base of that shape, whose answers are those of the base that it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgepeft.checkpoints.skeleton import head_and_embedding_names
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError


def add_to_tokenizer(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Teach a fast tokenizer the tokens it lacks. Raises InputError for empty ones."""
    if any(not token.strip() for token in tokens):
        raise InputError("data.tokens: a token must hold more than spaces")
    tokenizer.add_tokens(list(dict.fromkeys(tokens)))


def rows_for(size: int, config: Mapping[str, Any]) -> int:
    """Rows of the embedding for ``size`` ids: the model's own if they suffice, else the next multiple of eight.

    Never the inner width: the graph builder tells the head by its shape.
    """
    own = int(config["vocab_size"])
    if size <= own:
        return own
    rows = -(-size // 8) * 8
    return rows + 8 if rows == config.get("intermediate_size") else rows


def reshaped(
    source: TensorSource, skeleton: Any, rows: int, *, own_head: bool
) -> tuple[TensorSource, dict[str, Any]]:
    """A base with ``rows`` rows and, for ``own_head``, a head that is no longer the embedding's own tensor.

    Returns the source, and what changes in its configuration. ``skeleton`` is the base's as it is.
    """
    parts = {id(module): name for name, module in skeleton.named_modules()}
    tables = set(head_and_embedding_names(skeleton))
    embedding = f"{parts[id(skeleton.get_input_embeddings())]}.weight"
    own = f"{parts.get(id(skeleton.get_output_embeddings()))}.weight"
    # A head that is stored is the model's, whatever its configuration says of ties.
    bias = f"{own.removesuffix('.weight')}.bias"
    tables |= {own, bias} & set(source.specs)
    made = {own: embedding} if own_head and own not in source.specs else {}
    specs: dict[str, TensorSpec] = {}
    for name, spec in source.specs.items():
        specs[name] = TensorSpec((rows, *spec.shape[1:]), spec.dtype) if name in tables else spec
    specs |= {name: specs[twin] for name, twin in made.items()}

    def compute(name: str) -> torch.Tensor:
        tensor = source.load(made.get(name, name))
        return _of_rows(tensor, rows) if name in tables or name in made else tensor

    changes: dict[str, Any] = {"vocab_size": rows}
    if own_head:
        changes["tie_word_embeddings"] = False
    return ComputedSource(specs, compute), changes


def _of_rows(table: torch.Tensor, rows: int) -> torch.Tensor:
    """A table [V, H], or a head's bias [V], cut to its first ``rows`` rows, or filled up with its mean."""
    if rows <= len(table):
        return table[:rows]
    mean = table.to(torch.float32).mean(dim=0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(rows - len(table), *table.shape[1:])])
