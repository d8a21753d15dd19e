"""Tokens of a vocabulary that have no row in the embedding: a model would fail on the first text that has one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.utils.files import read_json_object

TOKENIZER = "tokenizer.json"
TOKENIZER_BYTES = 256 * 10**6
"""Bytes that a tokenizer file may have; one of 260,000 tokens takes some 35 millions."""


def refuse_beyond(
    vocabulary: Mapping[str, int], rows: int, where: Path, grown: Collection[str] = ()
) -> None:
    """Raise InputError naming the first token whose id is at or beyond ``rows``, and how many there are.

    ``grown`` are tokens that a recipe gives rows, which makes room for the ids below theirs too.
    """
    beyond = sorted((index, token) for token, index in vocabulary.items() if index >= rows)
    if beyond and not grown:
        index, token = beyond[0]
        raise InputError(
            f"{where}: its tokenizer has the token {token!r} with id {index}, and the embedding has {rows} rows "
            f"({len(beyond)} such tokens); name them in data.tokens to give them rows, or take the model's own "
            "tokenizer"
        )


def read_vocabulary(folder: Path) -> Mapping[str, int] | None:
    """Every token of a folder's ``tokenizer.json`` and its id, added ones included; None where it has none.

    Raises InputError.
    """
    path = folder / TOKENIZER
    try:
        found = path.stat()
        # A large one takes a second to read, and a fleet or the terminal interface plans many times over.
        return _read(path, found.st_size, found.st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=4)
def _read(path: Path, size: int, modified: int) -> Mapping[str, int]:
    return vocabulary_of(read_json_object(path, TOKENIZER_BYTES), path)


def vocabulary_of(tokenizer: Mapping[str, Any], where: Path) -> dict[str, int]:
    """The tokens of a ``tokenizer.json`` and their ids. Raises InputError where it has another form."""
    try:
        model = tokenizer["model"]["vocab"]
        if isinstance(model, dict):
            found = {str(token): int(index) for token, index in model.items()}
        else:
            found = {str(entry[0]): index for index, entry in enumerate(model)}
        for token in tokenizer.get("added_tokens") or ():
            found[str(token["content"])] = int(token["id"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise InputError(f"{where}: not a tokenizer that can be read (no vocabulary)") from None
    return found


def same_tokenizer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two ``tokenizer.json`` make the same ids of every text; padding and truncation are set anew
    anyway."""
    return _compared(one) == _compared(other)


def _compared(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("version", "truncation", "padding", "model")
    model = dict(tokenizer.get("model") or {})
    # Older versions of the library wrote a merge as one text.
    merges = model.get("merges")
    if isinstance(merges, list):
        model["merges"] = [one.split(" ") if isinstance(one, str) else one for one in merges]
    return {**{k: v for k, v in tokenizer.items() if k not in left_out}, "model": model}
