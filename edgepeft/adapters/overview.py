"""What can be said of an adapter before anything is loaded: its files, its keys, and whether it fits its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.adapters.base_parts import brings_biases
from edgepeft.adapters.config_fields import field_notes
from edgepeft.adapters.fit import fit_notes
from edgepeft.adapters.folder import WEIGHTS
from edgepeft.adapters.keys import canonical
from edgepeft.adapters.tables import Tables, tables_of
from edgepeft.adapters.tokenizer import OwnTokenizer, own_tokenizer
from edgepeft.models.info import ModelInfo
from edgepeft.models.known_files import ADAPTER_FILES, file_notes
from edgepeft.models.safetensors_header import read_header
from edgepeft.models.sentence_files import has_sentence_files, read_sentence_files
from edgepeft.models.tasks import EMBEDDING, GENERATION, Task


@dataclass(frozen=True)
class BaseNeeds:
    """How a base must be staged for the adapter that goes onto it.

    ``rows`` of its vocabulary, where the adapter brings tables of another height; ``own_head``, where it makes
    two tables of the base's one; ``alone``, where it can't share the base with other adapters; the adapter's
    folder as ``tokenizer`` and as ``sentence``, where its own tokenizer or sentence-transformers files are used.
    ``notes`` say so.
    """

    rows: int | None = None
    own_head: bool = False
    alone: bool = False
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
    tables = tables_of(folder, config)
    notes = fit_notes(folder, config, model, tables.rows) if task == GENERATION else []
    rows = tables.rows if tables.rows not in (None, model.vocab_size) else None
    own_head = tables.apart and model.tied_embeddings and task == GENERATION
    if tables.any:
        notes.append(_table_note(folder, tables, model, own_head=own_head))
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
        rows,
        own_head,
        tables.any or brings_biases(folder, config),
        folder if own.differs else None,
        sentence,
        tuple(dict.fromkeys(notes)),
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


def untied_note(model: ModelInfo, rows: int | None = None) -> str:
    """What a head of its own costs a model that has one tensor for embedding and head."""
    more = (rows or model.vocab_size) * model.hidden_size
    return f"head and embedding are two tensors then, {more:,} weights more"


def _table_note(folder: Path, tables: Tables, model: ModelInfo, *, own_head: bool) -> str:
    if tables.adapted:
        said = f"{folder.name} adapts {' and '.join(tables.adapted)}"
    else:
        what = " and ".join(
            name
            for name, there in (("embedding", tables.embedding), ("head", tables.head))
            if there
        )
        said = f"{folder.name} brings a whole {what} of {tables.rows} rows, in the base's place"
    return f"{said}; {untied_note(model, tables.rows)}" if own_head else said
