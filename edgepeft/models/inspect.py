"""A model's headers: its configuration, the tensors it stores, and the sizes that follow from both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.models.gguf_header import GgufHeader, is_gguf, read_gguf_header
from edgepeft.models.info import Header, ModelInfo, config_size
from edgepeft.models.older_keys import in_todays_keys
from edgepeft.models.quantized import read_quantized
from edgepeft.models.safetensors_header import StoredTensor, read_header
from edgepeft.models.text_part import is_beside, text_part
from edgepeft.utils.files import read_json_object, read_text_file, require_regular

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
POSITIONS = "max_position_embeddings"
_UNNAMED = {"deberta-v2": "DebertaV2Model"}
"""The bare model of kinds whose first checkpoints (DeBERTa v3's) name no architecture."""
UNSAID_CONTEXT = 2048
"""Tokens that a model is taken to read whose configuration says nothing of it."""
_GGUF_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def inspect_model(path: Path) -> ModelInfo:
    """Read a model's headers. Raises InputError naming the file and what is wrong with it."""
    if path.is_dir():
        return _inspect_folder(path)
    require_regular(path)
    if path.suffix.lower() != ".gguf" and not is_gguf(path):
        raise InputError(f"{path}: not a model folder and not a .gguf file")
    return _inspect_gguf(path, read_gguf_header(path))


def weight_files(folder: Path) -> tuple[list[Path], set[str] | None]:
    """The safetensors files of a checkpoint folder, and the names that an index lists. Raises InputError.

    A folder with an index and a single file besides is refused: transformers takes the single one.
    """
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file():
        weight_map = read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError(f"{index}: not a safetensors index")
        listed = sorted({str(name) for name in weight_map.values()})
        if single.exists() and SINGLE not in listed:
            raise InputError(
                f"{folder}: holds {SINGLE} and {INDEX}, which are two checkpoints; remove the one that is not "
                "meant"
            )
        missing = [name for name in listed if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: {INDEX} names {missing[0]}, which is missing")
        return [folder / name for name in listed], set(weight_map)
    if single.is_file():
        return [single], None
    require_regular(single)
    pickles = [p for end in ("*.bin", "*.pt", "*.pth") for p in sorted(folder.glob(end))]
    if pickles:
        raise InputError(
            f"{folder}: holds only pickle weights ({pickles[0].name}), which can run code; save the model as "
            "safetensors"
        )
    others = sorted(folder.glob("*.safetensors"))
    if others:
        raise InputError(
            f"{folder}: holds {others[0].name}, and neither {SINGLE} nor {INDEX}; save the model with "
            "transformers"
        )
    raise InputError(f"{folder}: holds no weights (no .safetensors file)")


def _inspect_folder(path: Path) -> ModelInfo:
    whole = _read_config(path)
    text = text_part(whole)
    config = in_todays_keys(whole if text is None else text)
    where = path / CONFIG
    architectures = config.get("architectures", [_UNNAMED.get(str(config.get("model_type")), "")])
    if not isinstance(architectures, list) or not architectures or not architectures[0]:
        raise InputError(f"{where}: names no architectures")
    files, listed = weight_files(path)
    found: dict[str, tuple[Path, StoredTensor]] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in found:
                raise InputError(f"{path}: {name} is in two files, {file.name} among them")
            found[name] = file, tensor
    unlisted = sorted(set(found) ^ listed) if listed is not None else []
    if unlisted:
        raise InputError(
            f"{path}: {INDEX} and the files it names disagree about {unlisted[0]} ({len(unlisted)} tensors)"
        )
    if text is not None:
        found = {name: one for name, one in found.items() if not is_beside(name)}
    rounded = read_quantized(path, config, found)
    weights = {} if rounded is None else rounded.weights
    beside = frozenset[str]() if rounded is None else rounded.beside
    tensors = {
        name: Header(tensor.shape, tensor.dtype)
        for name, (_, tensor) in found.items()
        if name not in beside
    } | {name: Header(weight.shape, weight.label) for name, weight in weights.items()}
    asked = [*_SIZES, *[key for key in (POSITIONS,) if config.get(key) is not None]]
    lacks = [
        f"{where}: {key} is missing or not a positive whole number"
        for key in asked
        if not config_size(config, key)
    ]
    return ModelInfo(
        path=path,
        kind="folder",
        architecture=str(architectures[0]),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dtype="+".join(sorted({tensor.dtype for tensor in tensors.values()})),
        file_bytes=sum(file.stat().st_size for file in files),
        layers=config_size(config, "num_hidden_layers"),
        hidden_size=config_size(config, "hidden_size"),
        intermediate_size=config_size(config, "intermediate_size"),
        vocab_size=config_size(config, "vocab_size"),
        tied_embeddings=is_tied(config, str(architectures[0])),
        context_length=config_size(config, POSITIONS) or UNSAID_CONTEXT,
        licence=_folder_licence(path),
        config=config,
        head_size=_head_size(config),
        inside=None if text is None else str(whole["architectures"][0]),
        lacks=tuple(lacks),
        tensors=tensors,
        rounded=rounded,
        quantization=None if rounded is None else rounded.method,
    )


def _read_config(path: Path) -> dict[str, Any]:
    """The configuration of a model folder. Raises InputError, which says what else the folder is."""
    try:
        config = read_json_object(path / CONFIG)
    except FileNotFoundError:
        raise InputError(f"{path}: not a model folder (no {CONFIG}){_what_else(path)}") from None
    if (path / ADAPTER_CONFIG).is_file():
        raise InputError(
            f"{path}: holds {CONFIG} and {ADAPTER_CONFIG}, a model and an adapter, of which transformers would "
            "load the adapter's base instead; keep them in folders of their own"
        )
    return config


def _what_else(path: Path) -> str:
    if (path / ADAPTER_CONFIG).is_file():
        return (
            "; it is an adapter's: name it as adapter, and as model the base that it was trained on"
        )
    ggufs = sorted(path.glob("*.gguf"))
    if ggufs:
        return f"; name the file: {ggufs[0]}"
    weights = (*path.glob("*/*.safetensors"), *path.glob("*/*.bin"))
    inner = sorted({file.parent for file in weights if (file.parent / CONFIG).is_file()})
    return f"; there is one in {inner[0]}" if inner else ""


_TIED = ("gemma", "smollm3", "ernie4_5", "starcoder2", "cohere", "lfm2")
"""How the types of model begin that have one tensor for embedding and head where a configuration is silent."""


def is_tied(config: Mapping[str, Any], architecture: str) -> bool:
    """Whether a configuration says that embedding and head are one tensor, in so many words or by silence."""
    if not architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        # An encoder has one embedding and no head over the vocabulary that would ship.
        return True
    default = str(config.get("model_type", "")).startswith(_TIED)
    return bool(config.get("tie_word_embeddings", default))


def _inspect_gguf(path: Path, header: GgufHeader) -> ModelInfo:
    fields, tensors = header.fields, header.tensors
    kind = str(fields.get("general.architecture", ""))
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensors:
        raise InputError(
            f"{path}: scales its rotary positions, which is lost when transformers reads a GGUF; "
            "name the model's safetensors folder instead"
        )

    def number(key: str) -> int:
        value = fields.get(f"{kind}.{key}")
        if type(value) is not int or value < 1:
            raise InputError(f"{path}: GGUF metadata lacks {kind}.{key}")
        return value

    config: dict[str, Any] = {"model_type": kind}
    experts = fields.get(f"{kind}.expert_count")
    if type(experts) is int and experts > 1:
        config["num_local_experts"] = experts
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise InputError(f"{path}: holds no token embedding; not a language model")
    heads = fields.get(f"{kind}.attention.head_count")
    per_head = number("embedding_length") // heads if type(heads) is int and heads > 0 else None
    return ModelInfo(
        path=path,
        kind="gguf",
        architecture=_GGUF_ARCHITECTURES.get(kind, kind),
        parameters=sum(tensor.elements for tensor in tensors.values()),
        dtype="+".join(sorted({tensor.dtype for tensor in tensors.values()})),
        file_bytes=path.stat().st_size,
        layers=number("block_count"),
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        vocab_size=embedding.shape[0],
        tied_embeddings="output.weight" not in tensors,
        context_length=number("context_length"),
        licence=str(fields["general.license"]) if "general.license" in fields else None,
        config=config,
        head_size=fields.get(f"{kind}.attention.key_length", per_head),
        tensors={name: Header(one.shape, one.dtype) for name, one in tensors.items()},
    )


def _head_size(config: Mapping[str, Any]) -> int | None:
    """The size of an attention head: the configuration's own word, else the width shared out among the heads."""
    heads, width = config_size(config, "num_attention_heads"), config_size(config, "hidden_size")
    return config_size(config, "head_dim") or (width // heads if heads and width else None)


def _folder_licence(path: Path) -> str | None:
    readme = path / "README.md"
    try:
        lines = read_text_file(readme).splitlines()[:40] if readme.is_file() else []
    except (InputError, FileNotFoundError):
        return None
    licences = (line.partition(":")[2].strip() for line in lines if line.startswith("license:"))
    return next(licences, None) or None
