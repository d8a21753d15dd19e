"""A model's headers: its configuration, the tensors it stores, and the sizes that follow from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgepeft.errors import InputError
from edgepeft.models.gguf_header import GgufHeader, is_gguf, read_gguf_header
from edgepeft.models.safetensors_header import StoredTensor, read_header
from edgepeft.utils.files import read_json_object, read_text_file, require_regular

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
_COUNTED = ("layers", "hidden_size", "intermediate_size", "vocab_size")
_LARGEST = 1 << 27
POSITIONS = "max_position_embeddings"
_OWN_NAMES = {
    "distilbert": {
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "intermediate_size": "hidden_dim",
        "num_attention_heads": "n_heads",
    },
}
"""What kinds of model call sizes that others share a name for."""
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


class Header(NamedTuple):
    """Shape and type's name of a stored tensor."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ModelInfo:
    """A model on disk, known from its headers. Sizes are counts of elements unless said otherwise.

    A size that the configuration does not give is 0 and named in ``lacks``, with the reason. ``head_size`` is
    that of one attention head, None where the model has none. ``tensors`` are those stored, under the file's
    own names.
    """

    path: Path
    kind: Literal["folder", "gguf"]
    architecture: str
    parameters: int
    dtype: str
    file_bytes: int
    layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool
    context_length: int
    licence: str | None
    config: Mapping[str, Any]
    head_size: int | None = None
    lacks: tuple[str, ...] = ()
    tensors: Mapping[str, Header] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, for ``edgepeft inspect --json``."""
        left_out = {"config", "tensors", "lacks"}
        facts = {
            # A size of 0 is one that the configuration does not give.
            name: getattr(self, name) or (None if name in _COUNTED else getattr(self, name))
            for name in self.__dataclass_fields__
            if name not in left_out
        }
        return {**facts, "path": str(self.path)}

    @property
    def embedding_parameters(self) -> int:
        """Elements of embedding and head together, counted once where they are tied."""
        return self.vocab_size * self.embedding_size * (1 if self.tied_embeddings else 2)

    @property
    def embedding_size(self) -> int:
        """Elements of a token's embedding, which some encoders project to ``hidden_size``."""
        own = self.config.get("model_type") in ("electra", "albert", "deberta", "deberta-v2")
        return (_size(self.config, "embedding_size") if own else 0) or self.hidden_size

    def require_sizes(self) -> None:
        """Raise InputError where the configuration lacks a size that every supported model has."""
        if self.lacks:
            raise InputError(self.lacks[0])


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
    config = _read_config(path)
    where = path / CONFIG
    architectures = config.get("architectures", [_UNNAMED.get(str(config.get("model_type")), "")])
    if not isinstance(architectures, list) or not architectures or not architectures[0]:
        raise InputError(f"{where}: names no architectures")
    files, listed = weight_files(path)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in tensors:
                raise InputError(f"{path}: {name} is in two files, {file.name} among them")
            tensors[name] = tensor
    unlisted = sorted(set(tensors) ^ listed) if listed is not None else []
    if unlisted:
        raise InputError(
            f"{path}: {INDEX} and the files it names disagree about {unlisted[0]} ({len(unlisted)} tensors)"
        )
    asked = [*_SIZES, *[key for key in (POSITIONS,) if config.get(key) is not None]]
    lacks = [
        f"{where}: {key} is missing or not a positive whole number"
        for key in asked
        if not _size(config, key)
    ]
    return ModelInfo(
        path=path,
        kind="folder",
        architecture=str(architectures[0]),
        parameters=sum(tensor.elements for tensor in tensors.values()),
        dtype="+".join(sorted({tensor.dtype for tensor in tensors.values()})),
        file_bytes=sum(file.stat().st_size for file in files),
        layers=_size(config, "num_hidden_layers"),
        hidden_size=_size(config, "hidden_size"),
        intermediate_size=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        tied_embeddings=_is_tied(config, str(architectures[0])),
        context_length=_size(config, POSITIONS) or UNSAID_CONTEXT,
        licence=_folder_licence(path),
        config=config,
        head_size=_head_size(config),
        lacks=tuple(lacks),
        tensors={name: Header(one.shape, one.dtype) for name, one in tensors.items()},
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


def _is_tied(config: Mapping[str, Any], architecture: str) -> bool:
    if not architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        # An encoder has one embedding and no head over the vocabulary that would ship.
        return True
    default = str(config.get("model_type", "")).startswith("gemma")
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


def _value(config: Mapping[str, Any], key: str) -> Any:
    text = config.get("text_config")
    value = config.get(key)
    return text.get(key) if value is None and isinstance(text, dict) else value


def _size(config: Mapping[str, Any], key: str) -> int:
    """A count of the configuration; 0 where it is none, or so large that tables of it could not be made."""
    value = _value(config, _OWN_NAMES.get(str(config.get("model_type")), {}).get(key, key))
    return value if type(value) is int and 0 < value <= _LARGEST else 0


def _head_size(config: Mapping[str, Any]) -> int | None:
    """The size of an attention head: the configuration's own word, else the width shared out among the heads."""
    heads, width = _size(config, "num_attention_heads"), _size(config, "hidden_size")
    return _size(config, "head_dim") or (width // heads if heads and width else None)


def _folder_licence(path: Path) -> str | None:
    readme = path / "README.md"
    try:
        lines = read_text_file(readme).splitlines()[:40] if readme.is_file() else []
    except (InputError, FileNotFoundError):
        return None
    licences = (line.partition(":")[2].strip() for line in lines if line.startswith("license:"))
    return next(licences, None) or None
