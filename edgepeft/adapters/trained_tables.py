"""Embedding and head among what a training's factors change, and what does not go together with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.adapters.config import refuse_embedding
from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.patterns import Question, first_matches
from edgepeft.adapters.tables import is_embedding, is_table
from edgepeft.errors import InputError

Targets = str | Sequence[str]
_TABLES = ("model.embed_tokens", "lm_head")
_WHERE = "method.target_modules"


def trained_tables(method: TrainingMethod, targets: Targets) -> list[str]:
    """The embedding and the head among ``target_modules``; an expression may mean them. Raises InputError."""
    if method.peft_type in (None, "TRAINABLE_TOKENS") or targets == "all-linear":
        # The first changes all, the other single rows, and PEFT's own word for all means neither.
        return []
    if not isinstance(targets, str):
        return [name for name in targets if is_table(name)]
    (found,) = first_matches([Question([targets], full=True)], list(_TABLES), _WHERE)
    return [name for name, index in zip(_TABLES, found, strict=True) if index == 0]


def parts_tables(method: TrainingMethod, targets: Targets, options: Mapping[str, Any]) -> bool:
    """Whether a training makes two tensors of a model's one for embedding and head. Raises InputError."""
    return bool(trained_tables(method, targets)) and not options.get("ensure_weight_tying")


def check_tables(
    method: TrainingMethod,
    targets: Targets,
    options: Mapping[str, Any],
    *,
    grid: str,
    new_tokens: bool,
) -> None:
    """Hold what trains embedding or head against the rest of ``method``.

    ``grid`` is what the base lies on meanwhile, ``new_tokens`` says whether a recipe has its own. Raises
    InputError.
    """
    for parameter in options.get("target_parameters") or ():
        if is_table(str(parameter).rpartition(".")[0]):
            raise InputError(
                f"method.options.target_parameters: {parameter} belongs to a module; name that as {_WHERE}"
            )
    tables = trained_tables(method, targets)
    if not tables:
        return
    refuse_embedding(method.peft_type, tables, _WHERE)
    if options.get("ensure_weight_tying"):
        _check_tied({**method.fixed, **options}, grid)
    start = options.get("init_lora_weights", True)
    if isinstance(start, str) and (start in ("olora", "loftq") or start.startswith("pissa")):
        raise InputError(
            f"method.options.init_lora_weights: {start} begins inside linear layers alone; leave {tables[0]} out "
            f"of {_WHERE}"
        )
    rows = new_tokens or options.get("trainable_token_indices")
    if rows and any(is_embedding(name) for name in tables):
        key = "data.tokens" if new_tokens else "method.options.trainable_token_indices"
        raise InputError(
            f"{key}: single rows are trained of an embedding without factors; leave embed_tokens out of {_WHERE}"
        )


def _check_tied(options: Mapping[str, Any], grid: str) -> None:
    key = "method.options.ensure_weight_tying"
    if grid != "none":
        raise InputError(
            f"{key}: PEFT keeps the factors of embedding and head one on a base in full precision alone; set "
            "method.grid: none, or leave it out"
        )
    if options.get("use_dora"):
        raise InputError(
            f"{key}: DoRA learns two lengths for embedding and head; leave it out, or use lora"
        )
