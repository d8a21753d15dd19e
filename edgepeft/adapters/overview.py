"""What can be said of an adapter before anything is loaded: its files, its keys, and whether it fits its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.adapters.config_fields import field_notes
from edgepeft.adapters.folder import WEIGHTS
from edgepeft.adapters.keys import canonical, language_model_of, module_of
from edgepeft.adapters.tables import Tables, tables_of
from edgepeft.adapters.tokenizer import OwnTokenizer, own_tokenizer
from edgepeft.errors import InputError
from edgepeft.models.info import ModelInfo
from edgepeft.models.known_files import ADAPTER_FILES, file_notes
from edgepeft.models.names import LANGUAGE_MODELS, moved, unwrapped
from edgepeft.models.safetensors_header import StoredTensor, read_header
from edgepeft.models.sentence_files import has_sentence_files, read_sentence_files
from edgepeft.models.tasks import EMBEDDING, GENERATION, Task

_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class BaseNeeds:
    """How a base must be staged for the adapter that goes onto it.

    ``rows`` of its vocabulary, where the adapter brings tables of another height; ``own_head``, where it brings
    two tables and the base has one; the adapter's folder as ``tokenizer`` and as ``sentence``, where its own
    tokenizer or sentence-transformers files are used. ``notes`` say so.
    """

    rows: int | None = None
    own_head: bool = False
    tokenizer: Path | None = None
    sentence: Path | None = None
    notes: tuple[str, ...] = ()


def adapter_notes(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """What is worth a word of an adapter by itself: unknown files and fields, keys that are renamed."""
    notes = file_notes(folder, ADAPTER_FILES)
    notes += [f"{folder.name}: adapter_config.json: {note}" for note in field_notes(config)]
    if config["peft_type"] != "FULL":
        renamed = canonical(read_header(folder / WEIGHTS), folder / WEIGHTS)
        notes += [f"{folder.name}: {note}" for note in renamed.notes]
    return notes


def base_needs(
    folder: Path, config: Mapping[str, Any], model: ModelInfo, task: Task, *, templated: bool = True
) -> BaseNeeds:
    """What the adapter in ``folder`` asks of its base; ``templated`` says whether a chat template is looked for.

    Raises InputError where the two can't go together.
    """
    notes = _fit_notes(folder, config, model, task)
    tables = tables_of(folder, config)
    rows = tables.rows if tables.rows not in (None, model.vocab_size) else None
    own_head = tables.apart and model.tied_embeddings and task == GENERATION
    if tables.rows is not None:
        notes.append(_table_note(folder, tables, own_head=own_head))
    own = own_tokenizer(folder, model.path, templated=templated and task == GENERATION)
    notes += own.notes
    sentence = None
    if task == EMBEDDING and has_sentence_files(folder):
        theirs = read_sentence_files(folder)
        if theirs != read_sentence_files(model.path):
            sentence = folder
            notes.append(
                f"{folder.name} brings sentence-transformers files of its own, which are used in the base's place"
            )
        notes += theirs.notes
    return BaseNeeds(
        rows, own_head, folder if own.differs else None, sentence, tuple(dict.fromkeys(notes))
    )


def tokenizer_notes(folder: Path, model: Path) -> list[str]:
    """What to say of the tokenizer of an adapter that shares its base with others: the base's is used."""
    own: OwnTokenizer = own_tokenizer(folder, model)
    if not own.differs:
        return []
    what = [
        name
        for name, differs in (("tokenizer", own.tokenizer), ("chat template", own.template))
        if differs
    ]
    return [
        f"{folder.name} brings a {' and a '.join(what)} of its own; the base's is used for all adapters"
    ]


def _table_note(folder: Path, tables: Tables, *, own_head: bool) -> str:
    what = " and ".join(
        name for name, there in (("embedding", tables.embedding), ("head", tables.head)) if there
    )
    said = f"{folder.name} brings a whole {what} of {tables.rows} rows, in the base's place"
    return f"{said}; head and embedding are two tensors then" if own_head else said


def _fit_notes(folder: Path, config: Mapping[str, Any], model: ModelInfo, task: Task) -> list[str]:
    """Hold the factors of a LoRA against the weights that a decoder's files list. Raises InputError."""
    if config["peft_type"] != "LORA" or model.kind != "folder" or task != GENERATION:
        return []
    if config.get("target_parameters"):
        # Their factors lie under names that PEFT makes up as it wraps a parameter.
        return []
    path = folder / WEIGHTS
    header = read_header(path)
    stored = {name: header[own] for name, own in canonical(header, path).names.items()}
    factors = [key for key in stored if key.endswith(_A)]
    weights, place = _placed(factors, model)
    notes = []
    if place is not None:
        notes.append(
            f"{folder.name}: its keys begin with {place[0] or 'no prefix'} where the model has "
            f"{place[1] or 'none'}, and are renamed"
        )
    for key in factors:
        _check_pair(stored, key, moved(module_of(key), *(place or ("", ""))), weights, path)
    return notes


def _placed(
    factors: Sequence[str], model: ModelInfo
) -> tuple[dict[str, tuple[int, ...]], tuple[str, str] | None]:
    """The shapes of a model's weights by their modules, and where the adapter has such a model inside a larger
    one.

    The checkpoint itself may be of a larger model's names, which the base stage renames.
    """
    own = {
        unwrapped(name).removesuffix(".weight"): tensor.shape
        for name, tensor in model.tensors.items()
    }
    variants = [
        own,
        *({moved(name, *way): shape for name, shape in own.items()} for way in LANGUAGE_MODELS),
    ]
    adapted = {module_of(key) for key in factors}
    for weights in variants:
        place = language_model_of(factors, weights)
        if place is not None or adapted <= set(weights):
            return weights, place
    return own, None


def _check_pair(
    stored: Mapping[str, StoredTensor],
    key: str,
    module: str,
    weights: Mapping[str, tuple[int, ...]],
    path: Path,
) -> None:
    """One module's A [r, in] and B [out, r] against its weight [out, in]."""
    other = f"{key.removesuffix(_A)}{_B}"
    if module not in weights:
        raise InputError(
            f"{path}: holds {key}, and the model has no {module}; it is another base model's"
        )
    shape = weights[module]
    if other not in stored or len(shape) != 2:
        return
    a, b = stored[key].shape, stored[other].shape
    if len(a) == len(b) == 2 and (a[1], b[0]) != (shape[1], shape[0]):
        raise InputError(
            f"{path}: its factors of {module} are for a weight of {(b[0], a[1])}, and the model's is {shape}; "
            "it is another base model's"
        )
