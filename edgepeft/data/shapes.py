"""From a record (a row's columns, whatever file they came from) to a `Row`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgepeft.data.rows import ROLES, Message, Row
from edgepeft.errors import InputError

Record = tuple[str, dict[str, Any]]
"""Where a row stands in its file, and its columns."""

_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "observation": "tool",
}


def rename(records: Sequence[Record], columns: Mapping[str, str], file: str) -> list[Record]:
    """``records`` with their columns under our names, by ``columns`` (ours to theirs).

    Raises InputError for a name of ours that does not exist and a column of theirs no row has.
    """
    known = sorted({name for names in _COLUMNS.values() for name in names} | {"input"})
    there = list(dict.fromkeys(name for _, record in records for name in record))
    for ours, theirs in columns.items():
        if ours not in known:
            raise InputError(f"data.columns: no column {ours!r}; ours are {', '.join(known)}")
        if theirs not in there:
            raise InputError(
                f"{file}: no column {theirs!r} for data.columns.{ours}; it has {_listed(there)}"
            )
    renamed = []
    for where, record in records:
        kept = {name: value for name, value in record.items() if name not in columns}
        mapped = {ours: record[theirs] for ours, theirs in columns.items() if theirs in record}
        renamed.append((where, {**kept, **mapped}))
    return renamed


def to_rows(
    records: Sequence[Record],
    shape: str,
    system: str | None,
    file: str,
    *,
    preferred: Iterable[str] = (),
) -> list[Row]:
    """The records as rows of ``shape`` ("auto": by the first record's columns).

    Where several shapes fit, one that uses a ``preferred`` column wins. Raises InputError for
    columns that fit no shape and a record that does not fit its own.
    """
    chosen = find_shape(shape, records[0][1], file, set(preferred))
    if chosen in _TEXTS:
        return [_TEXTS[chosen](record, where) for where, record in records]
    build = _BUILDERS[chosen]
    rows = []
    for where, record in records:
        messages = build(record, where)
        if messages[-1]["role"] != "assistant":
            raise InputError(
                f"{where}: the last turn is {messages[-1]['role']!r}; end it with an assistant turn"
            )
        if len(messages) == 1:
            raise InputError(f"{where}: nothing for the assistant to answer; add a user turn")
        if system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        rejected = _rejected(record, where) if chosen == "preference" else None
        rows.append(Row(tuple(messages), None, where, rejected))
    return rows


def _mend(record: Mapping[str, Any]) -> str:
    """What makes a record fit whose columns are called otherwise, or were not told apart."""
    names = list(record)
    if len(names) == 1:
        separator = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
        if separator is not None:
            return (
                f"its columns are separated by {separator!r}: save it as CSV, with commas between"
            )
    pairs = zip(("prompt", "completion"), names or ["question", "answer"], strict=False)
    example = ", ".join(f"{field}: {column}" for field, column in pairs)
    return f"say which is which, as data.columns: {{{example}}}"


def find_shape(shape: str, record: Mapping[str, Any], file: str, preferred: set[str]) -> str:
    """The shape a record is read in; "auto" goes by its columns. Raises InputError where none fits."""
    fitting = [
        name
        for name, options in _OPTIONS.items()
        if any(option <= set(record) for option in options)
    ]
    if shape == "auto":
        wanted = [name for name in fitting if preferred & set(_COLUMNS[name])]
        if not fitting:
            raise InputError(
                f"{file}: columns {_listed(record)} fit no shape ({_shapes()}); {_mend(record)}"
            )
        return (wanted or fitting)[0]
    if shape not in _OPTIONS:
        raise InputError(f"data.shape: no {shape!r}; use auto, {', '.join(_OPTIONS)}")
    if shape not in fitting:
        raise InputError(
            f"{file}: columns {_listed(record)} do not fit data.shape {shape} "
            f"({' + '.join(_COLUMNS[shape])}); say which is which in data.columns"
        )
    return shape


def _from_messages(record: Mapping[str, Any], where: str) -> list[Message]:
    column = "messages" if "messages" in record else "conversations"
    return _messages(record.get(column), column, where)


def _from_prompt(record: Mapping[str, Any], where: str) -> list[Message]:
    return [
        *_turns(record, "prompt", "user", where),
        *_turns(record, "completion", "assistant", where),
    ]


def _from_preference(record: Mapping[str, Any], where: str) -> list[Message]:
    return [
        *_turns(record, "prompt", "user", where),
        *_turns(record, "chosen", "assistant", where)[-1:],
    ]


def _rejected(record: Mapping[str, Any], where: str) -> str:
    rejected = _turns(record, "rejected", "assistant", where)[-1]["content"]
    if not rejected.strip():
        raise InputError(f"{where}: the rejected answer is empty; fill it in or drop the row")
    return rejected


def _from_instruction(record: Mapping[str, Any], where: str) -> list[Message]:
    question = _string(record, "instruction", where)
    if record.get("input") not in (None, ""):
        question += "\n\n" + _string(record, "input", where)
    answer = _string(record, "output", where)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _from_text(record: Mapping[str, Any], where: str) -> Row:
    return Row(None, _string(record, "text", where), where)


def _from_label(record: Mapping[str, Any], where: str) -> Row:
    text = _string(record, "text", where)
    label = record.get("label")
    if isinstance(label, (bool, int)):
        label = str(label).lower()
    # A text without a label is still a text: a model that generates learns it as it is, others refuse the row.
    name = label.strip() if isinstance(label, str) else ""
    return Row(None, text, where, label=name or None)


def _from_tags(record: Mapping[str, Any], where: str) -> Row:
    words, tags = (_names(record, column, where) for column in ("tokens", "tags"))
    if len(words) != len(tags):
        raise InputError(
            f"{where}: {len(words)} tokens and {len(tags)} tags; every token needs one"
        )
    return Row(None, " ".join(words), where, words=words, tags=tags)


def _from_pair(record: Mapping[str, Any], where: str) -> Row:
    anchor, positive = (_string(record, column, where) for column in ("anchor", "positive"))
    if not anchor.strip() or not positive.strip():
        raise InputError(f"{where}: anchor and positive must both hold text; fill them in")
    return Row(None, anchor, where, positive=positive)


def _names(record: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    """A list of words, or a text (as CSV has it) of words with spaces between."""
    value = record.get(column)
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: {column} should be a list of words, is {_kind(value)}")
    for word in value:
        if not isinstance(word, str) or len(word.split()) != 1:
            raise InputError(
                f"{where}: {column} holds {word!r}, which is not one word without spaces"
            )
        _whole(word, f"{where}: {column}")
    return tuple(word.strip() for word in value)


def _turns(record: Mapping[str, Any], column: str, role: str, where: str) -> list[Message]:
    """A column that holds one turn's text, or (as TRL has it) a list of messages."""
    if isinstance(record.get(column), list):
        return _messages(record[column], column, where)
    return [{"role": role, "content": _string(record, column, where)}]


def _messages(value: object, column: str, where: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where}: {column} should be a list of messages, is {_kind(value)}; "
            'write [{"role": "user", "content": "…"}, …]'
        )
    messages: list[Message] = []
    for number, item in enumerate(value, 1):
        place = f"{where}: {column}[{number}]"
        if not isinstance(item, dict):
            raise InputError(f"{place} should be an object with role and content")
        # Parquet gives every message every key, so an absent key and a null one are the same.
        role = item.get("role") if item.get("role") is not None else item.get("from")
        content = item.get("content") if item.get("content") is not None else item.get("value")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InputError(f"{place} needs role and content (or from and value), both strings")
        _whole(content, f"{place} content")
        role = _SHAREGPT_ROLES.get(role, role)
        if role not in ROLES:
            raise InputError(f"{place} has the unknown role {role!r}; use {', '.join(ROLES)}")
        messages.append({"role": role, "content": content})
    return messages


def _string(record: Mapping[str, Any], column: str, where: str) -> str:
    value = record.get(column)
    if value is None:
        raise InputError(f"{where}: no {column}; every row needs one")
    if not isinstance(value, str):
        raise InputError(
            f"{where}: {column} should be a string, is {_kind(value)}; put it in quotes"
        )
    _whole(value, f"{where}: {column}")
    return value


def _whole(text: str, what: str) -> None:
    """Refuse half an escaped pair (``"\\ud83d"`` alone): JSON allows it, no tokenizer does."""
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InputError(f"{what} holds half of a character (a lone \\u surrogate); repair it")


def _kind(value: object) -> str:
    names = {
        str: "a string", bool: "true or false", int: "a number", float: "a number",
        list: "a list" if value else "an empty list", dict: "an object", type(None): "missing",
    }  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")


def _listed(names: Iterable[str]) -> str:
    """Column names for an error line; a file may have hundreds."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more if shown else "none"


def _shapes() -> str:
    return "; ".join(" + ".join(names) for names in _COLUMNS.values())


_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations"),
    "prompt": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "preference": ("prompt", "chosen", "rejected"),
    "label": ("text", "label"),
    "tags": ("tokens", "tags"),
    "pairs": ("anchor", "positive"),
    "text": ("text",),
}
_OPTIONS: dict[str, list[set[str]]] = {
    "messages": [{"messages"}, {"conversations"}],
    "prompt": [{"prompt", "completion"}],
    "instruction": [{"instruction", "output"}],
    "preference": [{"prompt", "chosen", "rejected"}],
    "label": [{"text", "label"}],
    "tags": [{"tokens", "tags"}],
    "pairs": [{"anchor", "positive"}],
    "text": [{"text"}],
}
"""Shape to the sets of columns any of which makes it fit; the first shape that fits is taken."""

_TEXTS: dict[str, Callable[[Mapping[str, Any], str], Row]] = {
    "label": _from_label,
    "tags": _from_tags,
    "pairs": _from_pair,
    "text": _from_text,
}

_BUILDERS: dict[str, Callable[[Mapping[str, Any], str], list[Message]]] = {
    "messages": _from_messages,
    "prompt": _from_prompt,
    "instruction": _from_instruction,
    "preference": _from_preference,
}
