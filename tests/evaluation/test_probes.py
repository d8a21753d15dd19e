"""What models are measured on: which rows, which tokens, and nothing beyond the context."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from edgepeft.calibration.corpora import calibration_text, evaluation_text
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation.probes import (
    GENERIC_WINDOW,
    GENERIC_WINDOWS,
    TASK_ROWS,
    Probe,
    Question,
    check_asked,
    generic_probes,
    generic_text,
    task_probes,
    task_questions,
)
from tests.tiny import CHATML, write_tiny_tokenizer


@pytest.fixture(scope="module")
def prompter(tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def row(prompt: str, completion: str, number: int = 1) -> Row:
    turns = (
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion},
    )
    return Row(turns, None, f"test.jsonl line {number}")  # type: ignore[arg-type]


def text(content: str) -> Row:
    return Row(None, content, "test.jsonl line 1")


def test_a_probe_is_scored_from_its_start() -> None:
    probe = Probe("task", [5, 6, 7, 8, 9], 3)
    assert probe.scored == 2
    # Position 2 predicts token 3, position 3 token 4.
    assert [5, 6, 7, 8, 9][probe.positions] == [7, 8]


def test_questions_are_the_prompters_and_their_text_is_what_a_person_sees(
    prompter: Prompter,
) -> None:
    (question,) = task_questions([row("Hi", " blue \n")], prompter, 512)
    assert question.text == "blue"
    assert prompter.decode(question.prompt).endswith("assistant\n")
    assert question.completion[-1] in prompter.stop_ids


def test_rows_longer_than_the_context_are_left_out(prompter: Prompter) -> None:
    rows = [row("Hi", "yes", 1), row("word " * 100, "yes", 2)]
    (short,) = task_questions(rows[:1], prompter, 512)
    length = len(short.prompt) + len(short.completion)
    for context, kept in ((512, 2), (100, 1), (length, 1), (length - 1, 0)):
        questions = task_questions(rows, prompter, context)
        assert [question.where[-1] for question in questions] == ["1", "2"][:kept]


def test_conversations_without_room_are_not_taken_for_plain_text(prompter: Prompter) -> None:
    rows = [row("word " * 100, "yes")]
    assert task_probes(rows, task_questions(rows, prompter, 50), prompter, 50) == []


def test_probes_are_the_first_questions_and_questions_are_all_rows(prompter: Prompter) -> None:
    rows = [row(f"Number {n}", "yes", n) for n in range(TASK_ROWS + 9)]
    questions = task_questions(rows, prompter, 512)
    probes = task_probes(rows, questions, prompter, 512)
    assert len(questions) == TASK_ROWS + 9
    assert len(probes) == TASK_ROWS
    for probe, question in zip(probes, questions, strict=False):
        assert probe.ids == question.prompt + question.completion
        assert (probe.kind, probe.start) == ("task", len(question.prompt))


def test_plain_text_is_scored_from_its_second_token(prompter: Prompter) -> None:
    rows = [text("What is the colour of the sky today?"), text("word " * 900)]
    assert task_questions(rows, prompter, 512) == []
    first, second = task_probes(rows, [], prompter, 512)
    assert first.ids == prompter.row(rows[0]).ids
    assert (first.start, second.start) == (1, 1)
    assert len(second.ids) == GENERIC_WINDOW


def test_generic_text_is_cut_into_windows(prompter: Prompter) -> None:
    content = "The quick brown fox jumps over the lazy dog. " * 400
    ids = prompter.text(content)
    probes = generic_probes(prompter, 512, content)
    assert len(probes) == GENERIC_WINDOWS
    assert [i for probe in probes for i in probe.ids] == ids[: GENERIC_WINDOW * GENERIC_WINDOWS]
    assert {(probe.kind, probe.start) for probe in probes} == {("generic", 1)}
    assert all(len(probe.ids) == 64 for probe in generic_probes(prompter, 64, content))


@pytest.mark.parametrize("content", ["", "a"])
def test_generic_text_that_is_too_short(prompter: Prompter, content: str) -> None:
    with pytest.raises(InputError, match=r"data\.generic: the text is too short"):
        generic_probes(prompter, 512, content)


def test_generic_text_is_the_recipes_or_the_one_that_ships(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Own text, größer.", encoding="utf-8")
    assert generic_text(path) == "Own text, größer."
    assert generic_text(None) == evaluation_text()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"data\.generic: .*own\.txt: cannot be read as text"):
        generic_text(path)


def test_the_texts_that_ship_share_no_sentence() -> None:
    """Calibration must not see what bundles are measured on."""
    sentences = [
        {sentence.strip() for sentence in content.replace("\n", " ").split(".")} - {""}
        for content in (calibration_text(), evaluation_text())
    ]
    assert min(map(len, sentences)) > 20
    assert not sentences[0] & sentences[1]


def test_a_bundle_that_asks_otherwise_is_no_bundle_that_was_measured(tmp_path: Path) -> None:
    own = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "own"))
    turns = ({"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "c"})
    questions = task_questions([Row(turns, None, "test.jsonl line 1")], own, 512)  # type: ignore[arg-type]
    stored = [Question(**entry) for entry in json.loads(json.dumps([asdict(q) for q in questions]))]
    check_asked(stored, own, [])
    same = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "same"))
    check_asked(stored, same, [])
    other = CHATML.replace("assistant\n' }}{% endif %}", "assistant ' }}{% endif %}")
    for wrong, lead in (
        (Prompter.from_folder(write_tiny_tokenizer(tmp_path / "other", template=other)), []),
        (Prompter.from_folder(tmp_path / "same", "plain"), []),
        (Prompter.from_folder(tmp_path / "same", "auto", "tokens"), []),
        (same, [7]),
    ):
        with pytest.raises(
            EdgepeftError, match=r"test\.jsonl line 1: the bundle's tokenizer and template"
        ):
            check_asked(stored, wrong, lead)
