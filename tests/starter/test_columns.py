"""Columns of files as people name them, told apart by name and by what is in them."""

from __future__ import annotations

import pytest

from edgepeft.data.column_guess import guess_conversation, guess_texts
from edgepeft.data.shape_names import Record
from edgepeft.errors import InputError


def _records(*rows: dict[str, object], times: int = 1) -> list[Record]:
    return [(f"rows.csv line {n}", dict(row)) for n, row in enumerate([*rows] * times)]


_ANSWERING = [
    ({"question": "q", "answer": "a"}, {"prompt": "question", "completion": "answer"}),
    ({"Response": "a", "Question": "q"}, {"prompt": "Question", "completion": "Response"}),
    ({"id": "7", "Utterance": "q", "Intent": "a"}, {"prompt": "Utterance", "completion": "Intent"}),
    ({"text": "t", "label": "l"}, {"prompt": "text", "completion": "label"}),
    ({"article": "t", "summary": "s"}, {"prompt": "article", "completion": "summary"}),
    ({"de": "Zitrone", "en": "lemon"}, {"prompt": "de", "completion": "en"}),
    (
        {"frage": "was", "zahl": "17", "antwort": "das"},
        {"prompt": "frage", "completion": "antwort"},
    ),
    ({"instruction": "i", "input": "x", "response": "r"}, {"output": "response"}),
    (
        {"question": "q", "good": "a", "bad": "b"},
        {"prompt": "question", "chosen": "good", "rejected": "bad"},
    ),
    (
        {"question": "q", "accepted_answer": "a"},
        {"prompt": "question", "completion": "accepted_answer"},
    ),
    ({"prompt": "p", "completion": "c"}, {}),
    ({"messages": [], "id": "x"}, {}),
    ({"text": "only a text", "source": 3}, {}),
]


@pytest.mark.parametrize(("row", "columns"), _ANSWERING)
def test_what_is_asked_and_answered(row: dict[str, object], columns: dict[str, str]) -> None:
    assert guess_conversation(_records(row), "rows.csv") == columns


def test_identifiers_are_no_questions() -> None:
    rows: list[dict[str, object]]
    rows = [{"key": f"T-{n}", "was": f"about {n} things", "dann": f"done {n}"} for n in range(9)]
    assert guess_conversation(_records(*rows), "rows.csv") == {
        "prompt": "was",
        "completion": "dann",
    }


@pytest.mark.parametrize("row", [{"body": "some text"}, {"a": 1, "b": 2}, {"x": "", "y": "text"}])
def test_one_usable_column_is_told(row: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"rows.csv: has (one|no) column of text.*data.columns"):
        guess_conversation(_records(row, times=3), "rows.csv")


_ENCODED = [
    (
        "text-classification",
        {"Utterance": "q", "Intent": "a"},
        {"text": "Utterance", "label": "Intent"},
    ),
    ("text-classification", {"text": "t", "label": "l"}, {}),
    (
        "feature-extraction",
        {"question": "q", "passage": "p"},
        {"anchor": "question", "positive": "passage"},
    ),
    (
        "token-classification",
        {"words": ["a"], "ner_tags": ["O"]},
        {"tokens": "words", "tags": "ner_tags"},
    ),
    (None, {"sentence1": "a", "sentence2": "b"}, {"anchor": "sentence1", "positive": "sentence2"}),
    (None, {"review": "fine", "sentiment": "good"}, {"text": "review", "label": "sentiment"}),
    (
        None,
        {"premise": "a", "hypothesis": "b", "label": 1},
        {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    ),
    (
        None,
        {"sentence1": "a", "sentence2": "b", "similarity_score": 3.5},
        {"query": "sentence1", "passage": "sentence2", "score": "similarity_score"},
    ),
    (
        "text-ranking",
        {"question": "a", "document": "b", "label": 1},
        {"query": "question", "passage": "document", "score": "label"},
    ),
    ("text-ranking", {"query": "a", "passage": "b", "label": 1}, {}),
    (
        "feature-extraction",
        {"sentence1": "a", "sentence2": "b", "label": 1},
        {"anchor": "sentence1", "positive": "sentence2"},
    ),
]


@pytest.mark.parametrize(("task", "row", "columns"), _ENCODED)
def test_what_an_encoder_learns(
    task: str | None, row: dict[str, object], columns: dict[str, str]
) -> None:
    assert guess_texts(_records(row), "rows.csv", task) == columns


def test_a_label_is_told_by_how_few_values_it_has() -> None:
    rows = [{"what": f"text number {n}", "kind": n % 3} for n in range(30)]
    found = guess_texts(_records(*rows), "rows.csv", "text-classification")
    assert found == {"text": "what", "label": "kind"}
    with pytest.raises(InputError, match="the text and one for its label"):
        guess_texts(_records({"what": "a text"}), "rows.csv", "text-classification")
