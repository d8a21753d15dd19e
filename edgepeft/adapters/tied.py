"""An adapter on a model whose head and embedding are one tensor: what changes one changes both, or is refused.

PEFT ties an adapter's parts only where ``ensure_weight_tying`` says so; otherwise head and embedding part as it
is attached, and a merge in place would change both by each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from edgepeft.errors import InputError


class _Pair(NamedTuple):
    """What an adapter put at the head and at the embedding; None where it put nothing."""

    head: Any
    embedding: Any


def refuse_half(wrapped: Any, where: str) -> None:
    """Raise InputError where head and embedding of a tied model would become two; ``where`` begins the error."""
    if not _is_tied(wrapped):
        return
    tied = getattr(wrapped.peft_config["default"], "ensure_weight_tying", False)
    layers, copies = _layers(wrapped), _copies(wrapped)
    if any(layers) and not (tied and all(layers)):
        raise InputError(
            f"{where}: target_modules: changes the {'head' if layers.head else 'embedding'} by itself, and this "
            "model's head and embedding are one tensor; give the base a head of its own"
        )
    if any(copies) and not (tied and all(copies)):
        raise InputError(
            f"{where}: modules_to_save: gives head and embedding weights of their own, and this model's are one "
            "tensor; train with ensure_weight_tying: true"
        )


def tie(wrapped: Any, where: str) -> None:
    """Make an adapter's parts at the head of a tied model those at its embedding again, once they are loaded.

    Raises InputError where factors were stored that differ.
    """
    if not _is_tied(wrapped):
        return
    layers, copies = _layers(wrapped), _copies(wrapped)
    if all(copies):
        # Loading gives the embedding's copy a new tensor, which the head's follows.
        copies.head.weight = copies.embedding.weight
    if all(layers):
        head, embedding = layers
        (active,) = head.active_adapters
        same = (
            torch.equal(head.lora_A[active].weight, embedding.lora_embedding_B[active].T)
            and torch.equal(head.lora_B[active].weight, embedding.lora_embedding_A[active].T)
            and head.scaling[active] == embedding.scaling[active]
        )
        if not same:
            raise InputError(
                f"{where}: ensure_weight_tying: the factors of the head are not those of the embedding"
            )


def _is_tied(wrapped: Any) -> bool:
    inner = wrapped.get_base_model()
    return inner.get_output_embeddings() is not None and bool(inner.config.tie_word_embeddings)


def _layers(wrapped: Any) -> _Pair:
    """PEFT's layers with factors at head and embedding; those of single tokens are tied by PEFT itself."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    def layer(module: Any) -> Any:
        adapted = isinstance(module, BaseTunerLayer)
        return module if adapted and not isinstance(module, TrainableTokensLayer) else None

    inner = wrapped.get_base_model()
    return _Pair(layer(inner.get_output_embeddings()), layer(inner.get_input_embeddings()))


def _copies(wrapped: Any) -> _Pair:
    """The whole copies of head and embedding that ``modules_to_save`` made."""
    from peft.utils.other import ModulesToSaveWrapper

    def copy(module: Any) -> Any:
        saved = isinstance(module, ModulesToSaveWrapper)
        return module.modules_to_save[module.active_adapters[0]] if saved else None

    inner = wrapped.get_base_model()
    return _Pair(copy(inner.get_output_embeddings()), copy(inner.get_input_embeddings()))
