"""A LoRA held against the weights that a decoder's files list: modules, shapes, biases. No tensor is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgepeft.adapters.base_parts import bias_of
from edgepeft.adapters.folder import WEIGHTS
from edgepeft.adapters.keys import canonical, language_model_of, module_of
from edgepeft.adapters.tables import HEADS, is_embedding
from edgepeft.errors import InputError
from edgepeft.models.info import ModelInfo
from edgepeft.models.names import LANGUAGE_MODELS, moved, newer, of_gguf, unwrapped
from edgepeft.models.safetensors_header import StoredTensor, read_header

_Fact = TypeVar("_Fact")
_A, _B, _ADDED = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias"
_ROWS_A, _ROWS_B = ".lora_embedding_A", ".lora_embedding_B"


def fit_notes(
    folder: Path, config: Mapping[str, Any], model: ModelInfo, rows: int | None
) -> list[str]:
    """Hold a LoRA's factors and biases against what a decoder's files list; what is renamed.

    ``rows`` are those of the adapter's own tables, if it has any. Raises InputError.
    """
    if config["peft_type"] != "LORA" or model.kind != "folder":
        return []
    path = folder / WEIGHTS
    if named := config.get("target_parameters"):
        refuse_stacked(named, model, f"{path}: target_parameters")
        # Their factors lie under names that PEFT makes up as it wraps a parameter.
        return []
    header = read_header(path)
    stored = {name: header[own] for name, own in canonical(header, path).names.items()}
    factors = [key for key in stored if key.endswith((_A, _ROWS_A))]
    weights, place = _placed(factors, model)
    notes = []
    if place is not None:
        notes.append(
            f"{folder.name}: its keys begin with {place[0] or 'no prefix'} where the model has "
            f"{place[1] or 'none'}, and are renamed"
        )
    for key in factors:
        _check_pair(stored, key, moved(module_of(key), *(place or ("", ""))), weights, rows, path)
    for key in stored:
        added = key.endswith(_ADDED)
        name = f"{module_of(key)}.bias" if added else bias_of(key)
        if name is not None and moved(name, *(place or ("", ""))) not in weights:
            why = "lora_bias can't be merged" if added else "it is another base model's"
            raise InputError(f"{path}: holds {key}, and the model has no {name}; {why}")
    return notes


def refuse_stacked(parameters: Sequence[str], model: ModelInfo, subject: str) -> None:
    """Raise InputError where parameters that are adapted by name have more than two dimensions.

    ``subject`` names the key they stand under. PEFT takes the first of three for experts, and merges into no
    convolution of groups.
    """
    for name, tensor in model.tensors.items():
        named = any(f".{name}".endswith(f".{parameter}") for parameter in parameters)
        if named and len(tensor.shape) > 2:
            raise InputError(
                f"{subject}: {name} is {tensor.shape}, and only weights of two dimensions can be adapted; name "
                "others"
            )


def unknown_modules(named: Sequence[str], model: ModelInfo) -> list[str]:
    """The ``named`` that no module of a decoder's files is called by, which PEFT passes over where another fits.

    Embedding and head are not asked for: a head that shares the embedding's tensor is in no file.
    """
    layers: Iterable[str] | None = (
        of_gguf(module for module, _ in model.matrices)
        if model.kind != "folder"
        else (newer(unwrapped(name)).rpartition(".")[0] for name in model.tensors)
    )
    if layers is None:
        return []
    own = dict.fromkeys(layers)
    modules = {f".{name}" for names in _as_staged(own) for name in names}
    return [
        name
        for name in named
        if not is_embedding(name)
        and name.rpartition(".")[2] not in HEADS
        and not any(module.endswith(f".{name}") for module in modules)
    ]


def _placed(
    factors: Sequence[str], model: ModelInfo
) -> tuple[dict[str, tuple[int, ...]], tuple[str, str] | None]:
    """The shapes of a model's weights by their modules, and where the adapter has such a model inside a larger
    one.
    """
    own = {
        unwrapped(name).removesuffix(".weight"): tensor.shape
        for name, tensor in model.tensors.items()
    }
    variants = _as_staged(own)
    if model.tied_embeddings:
        for weights in variants:
            table = next((weights[name] for name in weights if is_embedding(name)), None)
            weights |= {} if table is None else dict.fromkeys(HEADS, table)
    adapted = {module_of(key) for key in factors}
    for weights in variants:
        place = language_model_of(factors, weights)
        if place is not None or adapted <= set(weights):
            return weights, place
    return own, None


def _as_staged(own: dict[str, _Fact]) -> list[dict[str, _Fact]]:
    """What is known by a checkpoint's own names, and by those that the base stage may give them: it moves a model
    out of a larger one's names, and a bare one into those with a head.
    """
    moves = ({moved(name, *way): fact for name, fact in own.items()} for way in LANGUAGE_MODELS)
    return [own, *moves]


def _check_pair(
    stored: Mapping[str, StoredTensor],
    key: str,
    module: str,
    weights: Mapping[str, tuple[int, ...]],
    rows: int | None,
    path: Path,
) -> None:
    """One module's A [r, in] and B [out, r] against its weight [out, in]; an embedding's is [in, out].

    ``rows`` are those of the adapter's own tables.
    """
    of_rows = key.endswith(_ROWS_A)
    other = f"{key.removesuffix(_ROWS_A)}{_ROWS_B}" if of_rows else f"{key.removesuffix(_A)}{_B}"
    if module not in weights:
        raise InputError(
            f"{path}: holds {key}, and the model has no {module}; it is another base model's"
        )
    shape = weights[module]
    if rows is not None and (is_embedding(module) or module in HEADS):
        shape = (rows, *shape[1:])
    shape = shape[::-1] if of_rows else shape
    if len(shape) > 2:
        raise InputError(
            f"{path}: holds {key}, and {module} is {shape}, a convolution, into which nothing can be merged; "
            "train without it"
        )
    if other not in stored or len(shape) != 2:
        return
    a, b = stored[key].shape, stored[other].shape
    if len(a) == len(b) == 2 and (a[1], b[0]) != (shape[1], shape[0]):
        raise InputError(
            f"{path}: its factors of {module} are for a weight of {(b[0], a[1])}, and the model's is {shape}; "
            "it is another base model's"
        )
