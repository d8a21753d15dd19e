"""Texts for encoders: places of words, cutting, and what the checks say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgepeft.data.formats import read_rows
from edgepeft.data.rows import Row
from edgepeft.data.text_checks import check_texts
from edgepeft.data.texts import WHOLE, TextEncoder, spans_of, words_in
from edgepeft.errors import InputError
from tests.tiny_encoders import write_tiny_encoder


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("texts") / "model", request.param)


def test_the_first_token_of_a_word_begins_it(folder: Path) -> None:
    words = ["Turn", "on", "the", "xylophone", ",", "é", "42", "!"]
    text, spans = " ".join(words), spans_of(words)
    assert [text[start:end] for start, end in spans] == words
    encoded = TextEncoder(folder, WHOLE).encode(text)
    first = encoded.first_tokens(spans)
    places = [encoded.places[at] for at in first if at is not None]
    assert [start for start, _ in places] == [start for start, _ in spans]
    # A long word has several tokens, of which only the first is asked.
    assert len(set(first)) == len(words) < len(encoded.ids) - 2


def test_running_text_is_read_as_its_words_are(folder: Path) -> None:
    text = "Turn on the light, please (room 12)."
    assert [text[a:b] for a, b in words_in(text)] == [
        *("Turn", "on", "the", "light", ",", "please", "(", "room", "12", ")", ".")
    ]
    first = TextEncoder(folder, WHOLE).encode(text).first_tokens(words_in(text))
    assert None not in first
    assert first == sorted(first, key=lambda at: at or 0)


def test_a_text_too_long_keeps_its_ends_and_counts_what_it_lost(folder: Path) -> None:
    whole = TextEncoder(folder, WHOLE).encode("lemon " * 50)
    cut = TextEncoder(folder, 16).encode("lemon " * 50)
    assert whole.lost == 0
    assert len(cut.ids) == 16
    assert (cut.ids[0], cut.ids[-1]) == (whole.ids[0], whole.ids[-1])
    assert cut.lost == len(whole.ids) - 16
    words = spans_of(["lemon"] * 50)
    first = cut.first_tokens(words)
    assert first[0] == 1
    assert first[-1] is None


@pytest.mark.parametrize("second", ["b " * 7, "plum " * 3000, "x" * 9000])
@pytest.mark.parametrize("first", ["a " * 5, "lemon " * 2000, "why? " * 999 + "lemon"])
def test_two_long_texts_are_cut_as_the_library_cuts_them(
    folder: Path, first: str, second: str
) -> None:
    """Which it is not asked for of long ones: it keeps every piece of one with every piece of the other."""
    encoder = TextEncoder(folder, 32)
    found = encoder.encode(first, second)
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = [len(library.encode(text, add_special_tokens=False).ids) for text in (first, second)]
    library.enable_truncation(32)
    wanted = library.encode(first, second)
    assert (found.ids, found.types) == (wanted.ids, wanted.type_ids)
    assert found.lost == sum(own) - wanted.special_tokens_mask.count(0)


def test_checks_of_texts(folder: Path) -> None:
    encoder = TextEncoder(folder, WHOLE)
    train = [Row(None, f"text {n}", f"train line {n}", label="a") for n in range(600)]
    train.append(Row(None, "text 1", "train line 600", label="b"))
    test = [
        Row(None, "Text  1", "test line 1", label="a"),
        Row(None, "lemon " * 40, "t", label="a"),
    ]
    report = check_texts(train, test, encoder, max_length=24)
    assert (report.overlap, report.duplicates, report.truncated) == (1, 0, 0)
    told = " ".join(report.warnings)
    assert "1 training texts have more than one label" in told
    assert "1 of 2 test texts are longer than 24 tokens" in told
    assert "1 of 2 test texts are also training texts (test line 1 and train line 1)" in told
    with pytest.raises(InputError, match="x: the text is empty"):
        check_texts(train, [Row(None, " ", "x", label="a")], encoder, max_length=24)


def test_labels_may_be_names_numbers_or_truth(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a", "label": 3}\n{"text": "b", "label": true}\n{"text": "c", "label": " x "}\n'
    )
    assert [row.label for row in read_rows(path)] == ["3", "true", "x"]
    path = tmp_path / "rows.csv"
    path.write_text("words,kinds\nTurn it on,O O B-state\n")
    (row,) = read_rows(path, columns={"tokens": "words", "tags": "kinds"})
    assert row.words == ("Turn", "it", "on")
    assert row.tags == ("O", "O", "B-state")
    assert row.text == "Turn it on"
