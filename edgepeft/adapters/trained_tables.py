"""Embedding and head among what a training's factors change, and what does not go together with that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.adapters.config import refuse_embedding
from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.patterns import Question, first_matches
from edgepeft.adapters.tables import is_embedding, is_table
from edgepeft.config.sections import Method
from edgepeft.errors import InputError

_TABLES = ("model.embed_tokens", "lm_head")
_WHERE = "method.target_modules"


def trained_tables(method: TrainingMethod, settings: Method) -> list[str]:
    """The embedding and the head that ``method`` adapts; an expression may mean them, too. Raises InputError."""
    targets = settings.target_modules
    if method.peft_type in (None, "TRAINABLE_TOKENS") or targets == "all-linear":
        # The first changes all, the other single rows, and PEFT's own word for all means neither.
        return []
    if not isinstance(targets, str):
        return [name for name in targets if is_table(name)]
    (found,) = first_matches([Question([targets], full=True)], list(_TABLES), _WHERE)
    return [name for name, index in zip(_TABLES, found, strict=True) if index == 0]


def parts_tables(method: TrainingMethod, settings: Method) -> bool:
    """Whether a training makes two tensors of a model's one for embedding and head."""
    return bool(trained_tables(method, settings)) and not _tied(settings)


def check_tables(method: TrainingMethod, settings: Method, *, new_tokens: bool) -> None:
    """Hold what trains embedding or head against the rest of ``method``; ``new_tokens`` are a recipe's own.

    Raises InputError.
    """
    options = settings.options
    for parameter in options.get("target_parameters") or ():
        if is_table(str(parameter).rpartition(".")[0]):
            raise InputError(
                f"method.options.target_parameters: {parameter} belongs to a module; name that as {_WHERE}"
            )
    tables = trained_tables(method, settings)
    if not tables:
        return
    refuse_embedding(method.peft_type, tables, _WHERE)
    if _tied(settings):
        _check_tied(method, settings)
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


def _check_tied(method: TrainingMethod, settings: Method) -> None:
    key = "method.options.ensure_weight_tying"
    if method.chosen_grid(settings) != "none":
        raise InputError(
            f"{key}: PEFT keeps the factors of embedding and head one on a base in full precision alone; set "
            "method.grid: none, or leave it out"
        )
    if {**method.fixed, **settings.options}.get("use_dora"):
        raise InputError(
            f"{key}: DoRA learns two lengths for embedding and head; leave it out, or use lora"
        )


def _tied(settings: Method) -> bool:
    options: Mapping[str, Any] = settings.options
    return bool(options.get("ensure_weight_tying"))
