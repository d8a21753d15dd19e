"""Whole embeddings and heads among an adapter's tensors, and the base that they call for.

PEFT stores both where the vocabulary was resized for training, whichever of the two ``modules_to_save`` names,
and those that factors adapt. They replace the base's, so the base must have as many rows; and where a base has
one tensor for both and the adapter changes one, or each by itself, the base must be given a head of its own
before the adapter goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX, TUNERS, canonical, module_of
from edgepeft.errors import InputError
from edgepeft.models.safetensors_header import StoredTensor, read_header

EMBEDDINGS = ("embed_tokens", "embed_in", "word_embeddings", "tok_embeddings")
HEADS = ("lm_head",)
UNDER_TOKENS = (".token_adapter.base_layer.weight", ".base_layer.weight")
"""How the names of an embedding end whose single tokens are trained, or that factors lie on."""
_UNDER_BIAS = "lm_head.base_layer.bias"
"""The bias of a head that factors lie on, which PEFT stores with it."""
_FACTORS = tuple(one for one in TUNERS if one not in ("trainable_tokens_", "modules_to_save"))
_TYING = ("LORA", "ADALORA", "TRAINABLE_TOKENS")
"""Methods that can keep a tied model's copies one."""
_PIECE = 1 << 24


@dataclass(frozen=True)
class Tables:
    """What an adapter brings in the embedding's and the head's place.

    ``rows`` is how many tokens it has rows for, None where it brings neither. ``apart`` says that embedding and
    head are two tensors, of which a base that has one must become another. ``adapted`` names those that factors
    change, which may lie on the base's own.
    """

    rows: int | None = None
    embedding: bool = False
    head: bool = False
    apart: bool = False
    adapted: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether the adapter changes embedding or head in any way but single tokens."""
        return self.rows is not None or bool(self.adapted)


def tables_of(folder: Path, config: Mapping[str, Any]) -> Tables:
    """The tables of the adapter in ``folder``, whose configuration is ``config``. Raises InputError."""
    path = folder / WEIGHTS
    if config["peft_type"] == "FULL" or not path.is_file():
        return Tables()
    header = read_header(path)
    stored = {name: header[own] for name, own in canonical(header, path).names.items()}
    embedding, head = (_table(stored, names, path) for names in (EMBEDDINGS, HEADS))
    adapted = tuple(sorted(_adapted(stored)))
    if any(name.endswith(_UNDER_BIAS) for name in stored):
        raise InputError(
            f"{path}: adapts a head that has a bias, which is not supported; leave lm_head out of "
            "target_modules, or train it whole (modules_to_save)"
        )
    tied = bool(config.get("ensure_weight_tying"))
    if adapted and tied and config.get("use_dora"):
        raise InputError(
            f"{folder / CONFIG}: ensure_weight_tying: DoRA learns two lengths for embedding and head, which "
            "can't stay one tensor; train it without one of the two"
        )
    # PEFT keeps a head alone where the configuration names it; otherwise it keeps both or neither.
    if head is not None and embedding is None and not _saves(config, HEADS) and not adapted:
        return Tables()
    found = [one for one in (embedding, head) if one is not None]
    if not found:
        return Tables(apart=bool(adapted) and not tied, adapted=adapted)
    rows = found[0].shape[0]
    if len(found) == 2 and found[1].shape != found[0].shape:
        raise InputError(
            f"{path}: its embedding is {found[0].shape} and its head {found[1].shape}; a model has as many "
            "rows in both"
        )
    equal = len(found) == 1 or _equal(path, found[0], found[1])
    apart = not tied if len(found) == 1 or adapted else not equal
    if not apart and embedding is not None and config["peft_type"] not in _TYING:
        # PEFT keeps two equal copies of these methods two.
        return Tables(rows, True, head is not None, True, adapted)
    if tied and not equal:
        raise InputError(
            f"{folder / CONFIG}: ensure_weight_tying: its embedding and its head are two different tensors in "
            f"{WEIGHTS}"
        )
    return Tables(rows, embedding is not None, head is not None, apart, adapted)


def _table(
    stored: Mapping[str, StoredTensor], names: tuple[str, ...], path: Path
) -> StoredTensor | None:
    found = [
        (name, tensor)
        for name, tensor in stored.items()
        if (module := _module(name)) and module.rpartition(".")[2] in names
    ]
    if len(found) > 1:
        raise InputError(f"{path}: holds {found[0][0]} and {found[1][0]}, and a model has one")
    if found and (len(found[0][1].shape) != 2 or 0 in found[0][1].shape):
        raise InputError(f"{path}: {found[0][0]} is {found[0][1].shape}, which is no table of rows")
    return found[0][1] if found else None


def _module(key: str) -> str | None:
    """The module whose whole weight a key in PEFT's form holds; None for other keys."""
    end = next((end for end in (*UNDER_TOKENS, ".weight") if key.endswith(end)), None)
    return key.removesuffix(end) if end and key.startswith(PREFIX) else None


def under_adaptation(keys: Collection[str]) -> dict[str, str]:
    """Embeddings and heads that are stored under what adapts them, by the names that an adapter calls its
    modules; ``keys`` are in PEFT's form. They are the base's, as it was resized for the training.
    """
    found: dict[str, str] = {}
    for key in keys:
        module = _module(key)
        if module and key != f"{module}.weight" and is_table(module):
            found[module.removeprefix(PREFIX)] = key
    return found


def has_head_bias(names: Collection[str]) -> bool:
    """Whether a head with a bias is among a checkpoint's tensors of these names."""
    return any(name.endswith(tuple(f"{head}.bias" for head in HEADS)) for name in names)


def is_embedding(module: str) -> bool:
    """Whether a module's name is one of those that embeddings have."""
    return module.rpartition(".")[2] in EMBEDDINGS


def _adapted(keys: Collection[str]) -> set[str]:
    """The modules among embedding and head that factors change."""
    return {
        module
        for key in keys
        if is_table(module := module_of(key))
        and any(part.startswith(_FACTORS) for part in key.split("."))
    }


def is_table(module: str) -> bool:
    """Whether a module's name is one of those that embeddings and heads have."""
    return is_embedding(module) or module.rpartition(".")[2] in HEADS


def _saves(config: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    saved = config.get("modules_to_save") or ()
    return any(str(one).rpartition(".")[2] in names for one in saved)


def _equal(path: Path, one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors of a file are the same bytes, read piece by piece."""
    if one.dtype != other.dtype:
        return False
    with path.open("rb") as first, path.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        left = one.end - one.start
        while left > 0:
            size = min(left, _PIECE)
            if first.read(size) != second.read(size):
                return False
            left -= size
    return True
