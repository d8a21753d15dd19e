"""New tokens: the tokenizer learns them, and embedding and head get rows for them.

A new row begins as the mean of all rows, which is as likely as any other token and says nothing; training gives
it a meaning. Many models keep spare rows, and then nothing is resized.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.skeleton import build_skeleton, head_and_embedding_names
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError


def add_to_tokenizer(tokenizer: Any, tokens: Sequence[str]) -> int:
    """Teach a fast tokenizer the tokens it lacks; how many ids it has then. Raises InputError for empty ones."""
    if any(not token.strip() for token in tokens):
        raise InputError("data.tokens: a token must hold more than spaces")
    tokenizer.add_tokens(list(dict.fromkeys(tokens)))
    return len(tokenizer)


def rows_for(size: int, config: dict[str, Any]) -> int:
    """Rows of the embedding for ``size`` ids: the model's own if they suffice, else the next multiple of eight.

    Never the inner width: the graph builder tells the head by its shape.
    """
    own = int(config["vocab_size"])
    if size <= own:
        return own
    rows = -(-size // 8) * 8
    return rows + 8 if rows == config.get("intermediate_size") else rows


def write_with_rows(source_folder: Path, rows: int, out: Path) -> None:
    """Write the checkpoint of ``source_folder`` into ``out`` with ``rows`` rows, one tensor at a time.

    ``config.json`` in ``out`` is changed to match.
    """
    source = SafetensorsSource.from_folder(source_folder)
    names = set(head_and_embedding_names(build_skeleton(source_folder)))
    write_checkpoint(_with_rows(source, names, rows), out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["vocab_size"] = rows
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _with_rows(source: TensorSource, names: set[str], rows: int) -> TensorSource:
    def grown(spec: TensorSpec) -> TensorSpec:
        return TensorSpec((rows, *spec.shape[1:]), spec.dtype)

    def compute(name: str) -> torch.Tensor:
        tensor = source.load(name)
        if name not in names:
            return tensor
        mean = tensor.to(torch.float32).mean(dim=0, keepdim=True).to(tensor.dtype)
        return torch.cat([tensor, mean.expand(rows - len(tensor), -1)])

    specs = {name: grown(spec) if name in names else spec for name, spec in source.specs.items()}
    return ComputedSource(specs, compute)
