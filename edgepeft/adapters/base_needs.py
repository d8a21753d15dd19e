"""What a recipe's adapters ask of the base, and the base as it is then staged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgepeft.adapters.header import AdapterHeader
from edgepeft.adapters.overview import BaseNeeds, base_needs, tokenizer_notes, untied_note
from edgepeft.errors import InputError
from edgepeft.models.gguf_header import read_gguf_header
from edgepeft.models.info import ModelInfo
from edgepeft.models.known_files import MODEL_FILES, file_notes
from edgepeft.models.names import name_notes
from edgepeft.models.sentence_files import read_sentence_files
from edgepeft.models.tasks import EMBEDDING, GENERATION, Task
from edgepeft.models.tokens import read_vocabulary, refuse_beyond


def needs_of(
    adapter: AdapterHeader | None,
    shared: Sequence[AdapterHeader],
    model: ModelInfo,
    task: Task,
    *,
    templated: bool,
    parted: bool = False,
) -> tuple[BaseNeeds, list[str]]:
    """What the recipe's own adapter needs, and notes on the model's files and on those of all adapters.

    ``shared`` are adapters that share the base with others; ``templated`` says whether the recipe leaves the chat
    template open; ``parted`` says whether one is trained that changes embedding and head each by itself. Raises
    InputError where an adapter and the base can't go together.
    """
    notes = file_notes(model.path, MODEL_FILES) if model.path.is_dir() else []
    if model.inside is not None:
        notes.append(
            f"{model.path.name}: {model.inside}: its language model is taken as {model.architecture}, and what "
            "it has for images is left out"
        )
    else:
        notes += [f"{model.path.name}: {note}" for note in name_notes(model.tensors)]
    if task == EMBEDDING:
        notes += read_sentence_files(model.path).notes
    needs = BaseNeeds()
    if adapter is not None:
        needs = base_needs(adapter.path, adapter.config, model, task, templated=templated)
        notes += needs.notes
    if parted and task == GENERATION and model.tied_embeddings:
        needs = replace(needs, own_head=True)
        notes.append(f"method.target_modules: {untied_note(model)}")
    for one in shared:
        own = base_needs(one.path, one.config, model, task)
        if own.alone:
            raise InputError(
                f"{one.path}: changes embedding, head or biases of the base, which can't be shared with other "
                "adapters; name it alone as adapter"
            )
        notes += tokenizer_notes(one.path, model.path)
    return needs, list(dict.fromkeys(notes))


def as_staged(model: ModelInfo, needs: BaseNeeds, task: Task) -> ModelInfo:
    """The model with the sizes that its base stage gives it."""
    changes: dict[str, Any] = {}
    rows = needs.rows or model.vocab_size
    if needs.rows is not None or needs.own_head:
        tied = model.tied_embeddings and not needs.own_head
        staged = replace(model, vocab_size=rows, tied_embeddings=tied)
        changes = {
            "vocab_size": rows,
            "tied_embeddings": tied,
            "parameters": model.parameters
            + staged.embedding_parameters
            - model.embedding_parameters,
            "config": {**model.config, "vocab_size": rows, "tie_word_embeddings": tied},
        }
    if task == EMBEDDING:
        limit = read_sentence_files(needs.sentence or model.path).max_tokens
        changes["context_length"] = min(limit or model.context_length, model.context_length)
    return replace(model, **changes)


def check_tokens(model: ModelInfo, needs: BaseNeeds, added: Sequence[str]) -> None:
    """Raise InputError where the tokenizer has ids that the embedding has no rows for; ``added`` get new ones."""
    where = needs.tokenizer or model.path
    found: Mapping[str, int] | None
    if where.is_file():
        found = {token: index for index, token in enumerate(read_gguf_header(where).tokens)}
    else:
        found = read_vocabulary(where)
        if found is None and where != model.path and model.path.is_dir():
            found = read_vocabulary(model.path)
    if found is not None:
        refuse_beyond(found, model.vocab_size, where, added)
