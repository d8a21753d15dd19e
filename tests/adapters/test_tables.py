"""Whole embeddings and heads in an adapter's file: what they ask of the base, read from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgepeft.adapters.folder import WEIGHTS
from edgepeft.adapters.tables import Tables, tables_of
from edgepeft.errors import InputError

EMBEDDING = "base_model.model.model.embed_tokens.weight"
HEAD = "base_model.model.lm_head.weight"
FACTOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
LORA: dict[str, Any] = {"peft_type": "LORA"}


def table(rows: int = 20, fill: float = 1.0) -> torch.Tensor:
    return torch.full((rows, 8), fill)


@pytest.mark.parametrize(
    ("tensors", "config", "wanted"),
    [
        ({}, {}, Tables()),
        ({EMBEDDING: table(), HEAD: table()}, {}, Tables(20, True, True, False)),
        ({EMBEDDING: table(), HEAD: table(fill=2)}, {}, Tables(20, True, True, True)),
        ({EMBEDDING: table()}, {}, Tables(20, True, False, True)),
        ({EMBEDDING: table()}, {"ensure_weight_tying": True}, Tables(20, True, False, False)),
        ({HEAD: table()}, {"modules_to_save": ["lm_head"]}, Tables(20, False, True, True)),
        # PEFT never stores a head alone that nothing names; whoever put it there smuggles.
        ({HEAD: table()}, {}, Tables()),
        (
            {EMBEDDING: table().bfloat16(), HEAD: table()},
            {},
            Tables(20, True, True, True),
        ),
    ],
)
def test_tables_of_an_adapter(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], wanted: Tables
) -> None:
    save_file({FACTOR: torch.zeros(4, 8), **tensors}, tmp_path / WEIGHTS)
    assert tables_of(tmp_path, {**LORA, **config}) == wanted


def test_large_tables_are_compared_to_their_last_byte(tmp_path: Path) -> None:
    one = torch.zeros(70_000, 64)
    other = one.clone()
    save_file({EMBEDDING: one, HEAD: other}, tmp_path / WEIGHTS)
    assert not tables_of(tmp_path, LORA).apart
    other[-1, -1] = 1
    save_file({EMBEDDING: one, HEAD: other}, tmp_path / WEIGHTS)
    assert tables_of(tmp_path, LORA).apart


@pytest.mark.parametrize(
    ("tensors", "config", "match"),
    [
        ({EMBEDDING: table(), HEAD: table(21)}, {}, "a model has as many rows in both"),
        (
            {EMBEDDING: table(), HEAD: table(fill=2)},
            {"ensure_weight_tying": True},
            "ensure_weight_tying: its embedding and its head are two different tensors",
        ),
        ({EMBEDDING: torch.zeros(20)}, {}, r"is \(20,\), which is no table of rows"),
        (
            {EMBEDDING: table(), EMBEDDING.replace("model.embed", "other.embed"): table()},
            {},
            "and a model has one",
        ),
    ],
)
def test_tables_that_contradict_each_other(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], match: str
) -> None:
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=match):
        tables_of(tmp_path, {**LORA, **config})
