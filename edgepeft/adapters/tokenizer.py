"""The tokenizer and the chat template that an adapter's folder brings: what the adapter was trained with.

They are laid over the base's own files, as a user would who copies the one folder into the other. A tokenizer
that gives a token of the base another id is another model's, and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.data.tokenizer_files import read_chat_template
from edgepeft.errors import InputError
from edgepeft.models.gguf_header import read_gguf_header
from edgepeft.models.tokenizer_overlay import BESIDE, SETTINGS, VOCABULARY
from edgepeft.models.tokens import TOKENIZER, TOKENIZER_BYTES, same_tokenizer, vocabulary_of
from edgepeft.utils.files import read_json_object

_GGUF_TEMPLATE = "tokenizer.chat_template"
_ENDS = ("bos_token", "eos_token")


@dataclass(frozen=True)
class OwnTokenizer:
    """What an adapter brings that differs from its base's: a vocabulary, special tokens, a chat template."""

    tokenizer: bool = False
    template: bool = False
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything of it is to be used in the base's place."""
        return self.tokenizer or self.template


def own_tokenizer(adapter: Path, model: Path, *, templated: bool = True) -> OwnTokenizer:
    """Compare an adapter folder's tokenizer with that of its base, a folder or a GGUF file.

    Without ``templated`` no chat template is read, for the recipe names one or none is called for. Raises
    InputError where a token has another id.
    """
    brought = [name for name in (*VOCABULARY, *BESIDE) if (adapter / name).is_file()]
    if not brought:
        return OwnTokenizer()
    notes: list[str] = []
    tokenizer = _tokenizer_differs(adapter, model, notes)
    if not templated:
        return OwnTokenizer(tokenizer, False, tuple(notes))
    theirs, ours = _template(model), read_chat_template(adapter)
    template = ours is not None and ours[0] != theirs
    if template:
        notes.append(
            f"{adapter.name} brings a chat template of its own, which is used in the base's place"
        )
    elif ours is None and theirs is not None and (adapter / TOKENIZER).is_file():
        notes.append(
            f"{adapter.name} brings a tokenizer without a chat template; the base's is used"
        )
    return OwnTokenizer(tokenizer, template, tuple(notes))


def _tokenizer_differs(adapter: Path, model: Path, notes: list[str]) -> bool:
    """Whether the adapter's vocabulary, or the tokens that begin and end its texts, are not the base's."""
    own = _whole(adapter)
    base = _whole(model) if model.is_dir() else None
    if own is None:
        slow = [name for name in VOCABULARY if (adapter / name).is_file()]
        if slow:
            notes.append(
                f"{adapter.name} brings {slow[0]} and no {TOKENIZER}; the base's tokenizer is used"
            )
        return _ends_differ(adapter, model, notes)
    theirs = _base_vocabulary(model, base)
    mine = vocabulary_of(own, adapter / TOKENIZER)
    if theirs is not None:
        _refuse_other_ids(mine, theirs, adapter, base)
    if base is not None and same_tokenizer(own, base):
        return _ends_differ(adapter, model, notes)
    more = sorted(set(mine) - set(theirs or mine), key=lambda token: mine[token])
    fewer = set(theirs or ()) - set(mine)
    said = f"{adapter.name} brings a tokenizer of its own, which is used in the base's place"
    if more:
        shown = ", ".join(map(repr, more[:3])) + (", ..." if len(more) > 3 else "")
        said += f": {len(more)} tokens more ({shown})"
    elif fewer:
        said += f": {len(fewer)} tokens fewer"
    notes.append(said)
    return True


def _ends_differ(adapter: Path, model: Path, notes: list[str]) -> bool:
    """Whether the same vocabulary comes with other tokens at the ends of a text."""
    mine, theirs = _settings(adapter), _settings(model) if model.is_dir() else {}
    other = [
        key
        for key in _ENDS
        if _content(mine.get(key)) is not None
        and theirs
        and _content(mine.get(key)) != _content(theirs.get(key))
    ]
    for key in other:
        notes.append(
            f"{adapter.name}: {SETTINGS} sets {key} to {_content(mine[key])!r}, which is used; the base's is "
            f"{_content(theirs.get(key))!r}"
        )
    return bool(other)


def _refuse_other_ids(
    mine: Mapping[str, int],
    theirs: Mapping[str, int],
    adapter: Path,
    base: Mapping[str, Any] | None,
) -> None:
    moved = [token for token, index in mine.items() if theirs.get(token, index) != index]
    if moved:
        token = min(moved, key=lambda one: mine[one])
        raise InputError(
            f"{adapter / TOKENIZER}: gives {token!r} the id {mine[token]}, and the base gives it {theirs[token]} "
            f"({len(moved)} such tokens); it is another model's tokenizer"
        )
    at = {index: token for token, index in theirs.items()}
    # Names of tokens that were kept free may change; those that stand for text may not.
    free = {str(one.get("content")) for one in (base or {}).get("added_tokens") or ()}
    taken = [
        token
        for token, index in mine.items()
        if at.get(index, token) != token and at[index] not in free
    ]
    if taken:
        token = min(taken, key=lambda one: mine[one])
        raise InputError(
            f"{adapter / TOKENIZER}: gives {token!r} the id {mine[token]}, which the base gives "
            f"{at[mine[token]]!r} ({len(taken)} such tokens); it is another model's tokenizer"
        )


def _whole(folder: Path) -> dict[str, Any] | None:
    try:
        return read_json_object(folder / TOKENIZER, TOKENIZER_BYTES)
    except FileNotFoundError:
        return None


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / SETTINGS)
    except FileNotFoundError:
        return {}


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _base_vocabulary(model: Path, whole: Mapping[str, Any] | None) -> dict[str, int] | None:
    """The base's tokens and ids; None where only transformers could tell."""
    if whole is not None:
        return vocabulary_of(whole, model / TOKENIZER)
    if model.is_dir():
        return None
    return {token: index for index, token in enumerate(read_gguf_header(model).tokens)}


def _template(model: Path) -> str | None:
    """The base's chat template."""
    if model.is_dir():
        found = read_chat_template(model)
        return None if found is None else found[0]
    return read_gguf_header(model).fields.get(_GGUF_TEMPLATE)
