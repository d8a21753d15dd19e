"""Which columns hold what is asked and what is answered, in a file that calls them by names of its own.

Names come first, as people give them; what the values are decides where names say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.data.column_names import ANSWERS, like, may_hold_text, part_of, told_apart
from edgepeft.data.shape_names import Record, fitting_shapes, listed
from edgepeft.errors import InputError

LOOKED_AT = 200
"""Rows that are looked at."""
_LABELS = ("label", "labels", "intent", "category", "class", "sentiment", "topic", "target", "type")
_TEXTS = (
    *(
        "text",
        "sentence",
        "utterance",
        "query",
        "question",
        "content",
        "message",
        "review",
        "title",
    ),
    *("input", "prompt", "body"),
)
_TOGETHER = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2")),
    *(("question1", "question2"), ("text1", "text2"), ("text_a", "text_b")),
)
"""Two columns whose texts are judged together."""
_QUERIES = ("query", "question", "anchor", "title", "text")
_PASSAGES = ("passage", "document", "context", "answer", "response", "text", "positive")
_SCORES = ("score", "label", "relevance", "relevance_score", "similarity_score", "similarity")
_ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_1", "premise", "source", "title")
_POSITIVES = ("positive", "passage", "answer", "sentence2", "sentence_2", "document", "target")


def guess_columns(records: Sequence[Record], file: str, task: str | None) -> dict[str, str]:
    """Our names to theirs, for a model of this ``task``, None for an encoder that may have any; empty where the
    file's own names fit.

    Raises InputError where ``file`` does not hold the columns that the task needs.
    """
    if task == "text-generation":
        return guess_conversation(records, file)
    return guess_texts(records, file, task)


def guess_conversation(records: Sequence[Record], file: str) -> dict[str, str]:
    """Our names to theirs, for a model that answers; empty where the file's own names fit.

    Raises InputError where the columns of ``file`` do not hold a question and an answer.
    """
    names = _names(records)
    fits = fitting_shapes(records[0][1])
    if {"messages", "prompt", "instruction", "preference"} & set(fits):
        return {}
    texts = _texts(records)
    found = told_apart(names, texts)
    if "chosen" in found:
        return found
    answer = like(texts, ANSWERS)
    if "text" in fits and answer is None:
        return {}
    if {"instruction", "input"} <= set(names) and answer is not None:
        return {"output": answer}
    if len(found) < 2:
        raise _too_few(records, file, texts, "what is asked and one for the answer")
    return found


def guess_texts(records: Sequence[Record], file: str, task: str | None) -> dict[str, str]:
    """The same for an encoder, whose ``task`` may be classification, tagging, embedding, or None where it has no
    head that says so.
    """
    fits = fitting_shapes(records[0][1])
    if {"score", "labels", "label", "tags", "pairs"} & set(fits):
        return {}
    names = _names(records)
    lists = [name for name in names if _holds_lists(records, name)]
    tags = part_of(lists, ("tag", "label"))
    tokens = _first([name for name in lists if name != tags])
    if tags is not None and tokens is not None:
        return {"tokens": tokens, "tags": tags}
    texts = _texts(records)
    found = _judged(names, texts, task)
    if found:
        return found
    if task == "text-ranking":
        raise _too_few(records, file, texts, "a query, one for a passage, and one for their score")
    label = like(names, _LABELS) or _few_values(records, names)
    pairs = (like(texts, _ANCHORS), like(texts, _POSITIVES))
    if task == "feature-extraction" or (task is None and (label is None or None not in pairs)):
        anchor = pairs[0] or _first([name for name in texts if name != pairs[1]])
        positive = pairs[1] or _first([name for name in texts if name != anchor])
        if anchor is None or positive is None:
            raise _too_few(records, file, texts, "a text and one for another that means the same")
        return {"anchor": anchor, "positive": positive}
    texts = [name for name in texts if name != label]
    text = like(texts, _TEXTS) or max(texts, key=lambda name: _length(records, name), default=None)
    if text is None or label is None:
        raise _too_few(records, file, texts, "the text and one for its label")
    lists = [name for name in lists if name == label]
    return {
        "text": text,
        "labels" if lists or task == "multi-label-classification" else "label": label,
    }


def _judged(names: Sequence[str], texts: Sequence[str], task: str | None) -> dict[str, str]:
    """Two texts and what is said of them together, a score or a label; empty where there is no such thing."""
    by_name = {name.lower(): name for name in names}
    both = next((pair for pair in _TOGETHER if set(pair) <= set(by_name)), None)
    score = like(
        names, _SCORES if task == "text-ranking" else [one for one in _SCORES if one != "label"]
    )
    if task == "text-ranking" and both is None:
        query = like(texts, _QUERIES)
        passage = like([name for name in texts if name != query], _PASSAGES)
        if query is None or passage is None or score is None:
            return {}
        return {"query": query, "passage": passage, "score": score}
    if both is None:
        return {}
    first, second = (by_name[name] for name in both)
    if task in (None, "text-ranking") and score is not None:
        return {"query": first, "passage": second, "score": score}
    label = like(names, _LABELS)
    if task in (None, "text-classification") and label is not None:
        return {"text": first, "text_pair": second, "label": label}
    return {}


def in_words(columns: Mapping[str, str]) -> str:
    """Which column is taken for what: ``Utterance is the prompt, Intent is the completion``."""
    return ", ".join(f"{theirs} is the {ours}" for ours, theirs in columns.items())


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for _, record in records[:LOOKED_AT] for name in record))


def _values(records: Sequence[Record], name: str) -> list[Any]:
    values = (record.get(name) for _, record in records[:LOOKED_AT])
    return [value for value in values if value not in (None, "")]


def _texts(records: Sequence[Record]) -> list[str]:
    """Columns whose values are texts; those that look like identifiers last."""
    found = [name for name in _names(records) if may_hold_text(name) and _holds_text(records, name)]
    return sorted(found, key=lambda name: _are_identifiers(_values(records, name)))


def _holds_text(records: Sequence[Record], name: str) -> bool:
    return any(_is_text(value) for value in _values(records, name))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and any(letter.isalpha() for letter in value)


def _are_identifiers(values: Sequence[Any]) -> bool:
    """Whether every value is another single word with a digit in it, as identifiers are."""
    words = [str(value) for value in values]
    return (
        len(words) > 1
        and len(set(words)) == len(words)
        and all(" " not in word and any(sign.isdigit() for sign in word) for word in words)
    )


def _few_values(records: Sequence[Record], names: Sequence[str]) -> str | None:
    """The column with the fewest different values, if they are few enough to be labels."""
    counts: dict[str, int] = {}
    for name in names:
        values = _values(records, name)
        kinds = {str(value) for value in values if isinstance(value, str | int)}
        if len(values) > 3 and 2 <= len(kinds) <= max(2, len(values) // 3):
            counts[name] = len(kinds)
    return min(counts, key=lambda name: counts[name], default=None)


def _holds_lists(records: Sequence[Record], name: str) -> bool:
    values = _values(records, name)
    return bool(values) and all(isinstance(value, list) for value in values)


def _length(records: Sequence[Record], name: str) -> float:
    values = _values(records, name)
    return sum(len(str(value)) for value in values) / max(1, len(values))


def _first(names: Sequence[str]) -> str | None:
    return names[0] if names else None


def _too_few(records: Sequence[Record], file: str, texts: Sequence[str], wanted: str) -> InputError:
    has = f"one column of text ({texts[0]})" if len(texts) == 1 else "no column of text"
    if len(texts) > 1:
        has = f"the columns {listed(_names(records))}"
    passed_over = [
        name for name in _names(records) if name not in texts and _holds_text(records, name)
    ]
    if passed_over:
        has += f", beside {listed(passed_over)}, taken by its name for something else"
    return InputError(
        f"{file}: has {has}; it needs a column for {wanted}: add it, or say which it is in data.columns"
    )
