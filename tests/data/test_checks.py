"""What is said about data before training, and what stops it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.report import BUCKETS
from edgepeft.data.rows import Message, Row
from edgepeft.errors import InputError
from tests.tiny import CHATML, EOS, write_tiny_tokenizer


@pytest.fixture
def prompter(tmp_path: Path) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(tmp_path / "tok"))


def row(prompt: str, completion: str, where: str = "train.jsonl line 1") -> Row:
    turns: tuple[Message, ...] = (
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion},
    )
    return Row(turns, None, where)


def rows(count: int, file: str = "train.jsonl", first: int = 0) -> list[Row]:
    return [row(f"Question {first + i}", "a", f"{file} line {i + 1}") for i in range(count)]


def test_good_data_has_no_warnings(prompter: Prompter) -> None:
    report = check_data(rows(500), rows(20, "test.jsonl", 500), prompter, max_length=64)
    assert report.warnings == ()
    assert (report.train_rows, report.test_rows) == (500, 20)
    assert (report.truncated, report.duplicates, report.overlap) == (0, 0, 0)
    assert json.loads(json.dumps(report.as_dict()))["test_rows"] == 20


def test_lengths_are_those_of_the_prompt_function(prompter: Prompter) -> None:
    train = [row("word " * n, "a") for n in (1, 5, 40)]
    expected = [len(prompter.row(item).ids) for item in train]
    lengths = check_data(train, rows(1), prompter, max_length=4096).train_lengths
    assert lengths is not None
    assert (lengths.longest, lengths.median) == (max(expected), sorted(expected)[1])
    assert len(lengths.edges) == len(lengths.counts) + 1 == BUCKETS + 1
    for low, high, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
        assert count == sum(low < length <= high for length in expected)
    assert sum(lengths.counts) == 3


def test_truncation(prompter: Prompter) -> None:
    short, cut = row("Hi", "a"), row("word " * 60, "a", "train.jsonl line 9")
    prompt, completion = prompter.split(cut)
    limit = len(prompt) + len(completion)
    report = check_data([short, cut], rows(1), prompter, max_length=limit)
    assert report.truncated == 0
    report = check_data([short, cut], rows(1), prompter, max_length=limit - 1)
    assert (report.truncated, report.truncated_share, report.completion_cut) == (1, 0.5, 0)
    assert any("1 of 2 training rows are longer" in text for text in report.warnings)
    report = check_data([short, cut], rows(1), prompter, max_length=len(prompt))
    assert report.completion_cut == 1
    assert any("whole completion" in t and "line 9" in t for t in report.warnings)


def test_a_very_long_row_is_named(prompter: Prompter) -> None:
    long = row("word " * 300, "a", "train.jsonl line 7")
    report = check_data([*rows(3), long], rows(1), prompter, max_length=20)
    assert any(text.startswith("train.jsonl line 7 has") for text in report.warnings)


def test_few_rows_say_what_to_do(prompter: Prompter) -> None:
    few = check_data(rows(499), rows(1, first=999), prompter, max_length=64)
    (warning,) = few.warnings
    assert "499" in warning
    assert "augment" in warning
    # An adapter that exists needs no training rows, and none of the advice.
    assert check_data([], rows(1), prompter, max_length=64).warnings == ()


def test_overlap_ignores_case_and_spacing(prompter: Prompter) -> None:
    train = rows(3)
    test = [
        row("  question\n 1 ", "b", "test.jsonl line 4"),
        row("Other", "a", "test.jsonl line 5"),
    ]
    report = check_data(train, test, prompter, max_length=64)
    assert report.overlap == 1
    assert report.overlap_example == "test.jsonl line 4 and train.jsonl line 2"
    assert any("1 of 2 test prompts" in text for text in report.warnings)


def test_duplicates_need_the_same_answer(prompter: Prompter) -> None:
    train = [row("A", "x"), row("a ", "X"), row("A", "y"), row("A", "x")]
    assert check_data(train, rows(1), prompter, max_length=64).duplicates == 2


def test_text_rows_overlap_by_their_text(prompter: Prompter) -> None:
    train, test = Row(None, "Once upon a time", "a line 1"), Row(None, "once  upon a time", "b 1")
    report = check_data([train], [test], prompter, max_length=64)
    assert (report.overlap, report.duplicates) == (1, 0)


def test_no_test_rows(prompter: Prompter) -> None:
    with pytest.raises(InputError, match=r"data\.test: no test rows"):
        check_data(rows(3), [], prompter, max_length=64)


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_completion_is_named(prompter: Prompter, split: str) -> None:
    empty = row("Hi", " \n", f"{split}.jsonl line 12")
    train, test = (rows(2), [empty]) if split == "test" else ([*rows(2), empty], rows(2))
    with pytest.raises(InputError, match=rf"{split}\.jsonl line 12: the completion is empty"):
        check_data(train, test, prompter, max_length=64)


def test_what_looks_like_a_control_token_is_counted(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok")
    ended = row("Hi", f"yes{EOS}no", "train.jsonl line 2")
    asked = row(f"Hi{EOS}", "yes", "train.jsonl line 3")
    text, tokens = (Prompter.from_folder(folder, "auto", policy) for policy in ("text", "tokens"))
    report = check_data([*rows(1), ended, asked], rows(1, first=5), text, max_length=64)
    assert report.control_token_rows == 2
    (told,) = [line for line in report.warnings if "control token" in line]
    assert told.startswith(
        f"2 rows contain what looks like a control token ({EOS}; first: train.jsonl line 2)"
    )
    assert "ordinary text; set data.control_tokens: tokens" in told
    assert not any("end token" in line for line in report.warnings)
    report = check_data([*rows(1), ended, asked], rows(1, first=5), tokens, max_length=64)
    assert any("end token" in line and "line 2" in line for line in report.warnings)
    assert any("read as the tokens; set data.control_tokens: text" in w for w in report.warnings)


def test_rendered_text_rows_are_told_apart(prompter: Prompter) -> None:
    rendered = Row(None, f"<|im_start|>user\nHi{EOS}", "train.jsonl line 1")
    report = check_data([rendered], [Row(None, "plain", "t 1")], prompter, max_length=64)
    assert report.control_token_rows == 1
    assert any("if a chat template rendered these rows, set" in line for line in report.warnings)


def test_a_template_that_writes_the_date(tmp_path: Path) -> None:
    template = "{{ strftime_now('%d %b') }}" + CHATML
    dated = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "tok", template=template))
    report = check_data(rows(500), rows(1, first=999), dated, max_length=64)
    assert any("today's date" in text for text in report.warnings)


# What stops before anything is trained.


def preference(prompt: str, chosen: str, rejected: str, where: str) -> Row:
    answer: Message = {"role": "assistant", "content": rejected}
    return dataclasses.replace(row(prompt, chosen, where), rejected=answer)


def test_nothing_left_to_learn(prompter: Prompter) -> None:
    long = [row("word " * 90, "a", f"train.jsonl line {n}") for n in (1, 2)]
    with pytest.raises(
        InputError, match=r"data\.max_length: 32 leaves no token .*train\.jsonl line 1"
    ):
        check_data(long, rows(1), prompter, max_length=32)
    report = check_data([*long, row("Hi", "a")], rows(1), prompter, max_length=32)
    assert report.completion_cut == 2
    pair = preference("Hi", "a", "word " * 90, "train.jsonl line 1")
    with pytest.raises(InputError, match=r"data\.max_length: no preference row fits into 32"):
        check_data([pair], rows(1), prompter, max_length=32, objective="preference")
    short = Row(None, "", "train.jsonl line 1")
    with pytest.raises(InputError, match="the completion is empty"):
        check_data([short], rows(1), prompter, max_length=32, objective="text")


def test_long_texts_lose_nothing(prompter: Prompter) -> None:
    long = Row(None, "word " * 200, "train.jsonl line 1")
    report = check_data([long], rows(1), prompter, max_length=32, objective="text")
    assert (report.truncated, report.completion_cut) == (0, 0)
    assert check_data([long], rows(1), prompter, max_length=32).truncated == 1


@pytest.mark.parametrize(
    ("objective", "given", "said"),
    [
        ("text", row("Hi", "a", "train.jsonl line 4"), "text learns rows with a text column"),
        ("preference", row("Hi", "a", "train.jsonl line 4"), "preference needs prompt, chosen and"),
        ("preference", Row(None, "a", "train.jsonl line 4"), "preference needs prompt, chosen and"),
    ],
)  # fmt: skip
def test_rows_of_another_objective(
    prompter: Prompter, objective: str, given: Row, said: str
) -> None:
    with pytest.raises(InputError) as error:
        check_data([given], rows(1), prompter, max_length=32, objective=objective)
    assert f"train.jsonl line 4: training.objective: {said}" in str(error.value)


def test_rejected_answers_that_nobody_learns_from(prompter: Prompter) -> None:
    pair = preference("Hi", "a", "b", "train.jsonl line 1")
    told = check_data([pair], rows(1), prompter, max_length=64).warnings
    assert any("1 training rows have a rejected answer" in line for line in told)
    told = check_data([pair], rows(1), prompter, max_length=64, objective="preference").warnings
    assert not any("rejected" in line for line in told)


def test_tests_beyond_the_context(prompter: Prompter) -> None:
    long = row("word " * 90, "a", "test.jsonl line 2")
    with pytest.raises(InputError, match=r"data\.test: no row fits the model's context of 40 "):
        check_data(rows(1), [long], prompter, max_length=64, context=40)
    told = check_data(rows(1), [*rows(1, first=9), long], prompter, max_length=64, context=40)
    assert any("1 of 2 test rows are longer than the model's context" in w for w in told.warnings)


def test_tokens_beyond_the_embedding(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok", extra=("<|new|>",), template=CHATML + "<|new|>")
    prompter = Prompter.from_folder(folder)
    size = prompter.vocab_size
    assert check_data(rows(1), rows(1), prompter, max_length=64, ids=size)
    with pytest.raises(InputError) as error:
        check_data(rows(1), rows(1), prompter, max_length=64, ids=size - 1)
    assert f"train.jsonl line 1: the token '<|new|>' has the id {size - 1}" in str(error.value)
    assert f"ends at {size - 2}; name it in data.tokens" in str(error.value)


def test_an_empty_turn_in_between_is_named(prompter: Prompter) -> None:
    turns = [*(row("a", "").messages or ()), *(row("b", "c").messages or ())]
    empty = Row(tuple(turns), None, "train.jsonl line 3")
    with pytest.raises(
        InputError, match=r"line 3: turn 2 is the assistant's and empty; .* weight: 0"
    ):
        check_data([empty], rows(1), prompter, max_length=64)
    left_out = dataclasses.replace(empty, unlearned=frozenset({1}))
    assert check_data([left_out], rows(1), prompter, max_length=64)


def test_earlier_turns_that_a_template_writes_otherwise(tmp_path: Path) -> None:
    # Once it is answered, an answer loses its beginning, as reasoning models have it.
    forgetful = CHATML.replace(
        "message['content'] +", "(message['content'] if loop.last else message['content'][1:]) +"
    )
    prompter = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "tok", template=forgetful))
    turns = [*(row("a", "bc").messages or ()), *(row("d", "ef").messages or ())]
    long = Row(tuple(turns), None, "train.jsonl line 3")
    told = check_data([long], rows(1), prompter, max_length=64).warnings
    assert any(
        "1 training rows have earlier assistant turns that are not learned" in w for w in told
    )


def test_reasoning_is_learned_or_told(tmp_path: Path) -> None:
    turns = row("1+1", "two").messages or ()
    thought: Message = {**turns[1], "reasoning_content": "one and one"}
    given = Row((turns[0], thought), None, "train.jsonl line 1")
    for key, learned in (("reasoning_content", True), ("thinking", True), ("thoughts", False)):
        template = CHATML.replace(
            "message['content'] +",
            f"('<think>' + message.{key} + '</think>' if message.{key} else '') + message['content'] +",
        )
        folder = write_tiny_tokenizer(tmp_path / key, template=template)
        prompter = Prompter.from_folder(folder)
        completion = prompter.decode(prompter.split(given)[1])
        assert (completion == "<think>one and one</think>two") is learned
        told = check_data([given], rows(1), prompter, max_length=64).warnings
        assert any("rows have reasoning" in line for line in told) is not learned


def test_unlearned_turns_are_masked(prompter: Prompter) -> None:
    turns = [turn for n in range(3) for turn in row(f"q{n}", f"a{n}").messages or ()]
    given = Row(tuple(turns), None, "w", unlearned=frozenset({3}))
    encoded = prompter.row(given)
    learned = [token for token, keep in zip(encoded.ids, encoded.mask, strict=True) if keep]
    assert prompter.decode(learned) == "a0a2"


def test_labels_that_a_model_that_generates_does_not_learn(prompter: Prompter) -> None:
    labelled = Row(None, "text", "train.jsonl line 1", label="good")
    told = check_data([labelled], rows(1), prompter, max_length=64).warnings
    assert any("1 rows have a label" in line for line in told)
