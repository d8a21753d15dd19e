"""What can be said about prompts and completions before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.data.answer_checks import answer_warnings
from edgepeft.data.control_checks import LookAlikeRows
from edgepeft.data.encoded import Reading
from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport, need_test_rows, plain, report
from edgepeft.data.row_checks import check_objective, refuse_empty
from edgepeft.data.rows import Row, said
from edgepeft.data.template_checks import require_written
from edgepeft.data.tools import name_of
from edgepeft.errors import InputError


def check_data(
    train: Sequence[Row],
    test: Sequence[Row],
    prompter: Prompter,
    *,
    max_length: int,
    objective: str = "supervised",
    context: int | None = None,
    ids: int | None = None,
) -> DataReport:
    """Measure both splits in tokens and warn of what would spoil training or the report.

    ``train`` may be empty (an adapter that exists needs none); ``max_length`` is in tokens, as is the model's
    ``context``; ``ids`` is how many its embedding has. Raises InputError without test rows, for an empty
    completion, for rows the template refuses or the ``objective`` can't learn, and where nothing is left to
    learn or to measure.
    """
    need_test_rows(test)
    refuse_empty((*train, *test))
    check_objective(objective, train)
    require_written(prompter, (*train, *test))
    learned = [prompter.read(row) for row in train]
    asked = [prompter.read(row) for row in test]
    for reading in (*learned, *asked):
        _check_ids(reading, prompter, ids)
    sizes = [_measured(reading, prompter, objective, max_length) for reading in learned]
    tests = [len(reading.prompt) + len(reading.completion) for reading in asked]
    unlearned = [row for row, (_, kept) in zip(train, sizes, strict=True) if not kept]
    if train and len(unlearned) == len(train):
        raise InputError(_nothing_left(objective, max_length, train[0]))
    return report(
        train,
        test,
        lengths=[size for size, _ in sizes],
        test_lengths=tests,
        cut=unlearned,
        max_length=max_length,
        cuts=objective != "text",
        asked=_prompt,
        content=lambda row: (_prompt(row), plain(row.completion)),
        noun="prompts",
        look_alikes=LookAlikeRows.of((*train, *test), prompter),
        further=[
            *_too_long(tests, test, context),
            *answer_warnings(learned, asked, prompter, objective),
        ],
    )


def _measured(
    reading: Reading, prompter: Prompter, objective: str, max_length: int
) -> tuple[int, bool]:
    """How many tokens a training row has, and whether anything of it is learned."""
    row, size = reading.row, len(reading.prompt) + len(reading.completion)
    if objective == "text":
        return size, size > 1
    if objective == "preference" and row.rejected is not None:
        prompt, other = prompter.split(row.with_answer(row.rejected))
        longest = max(size, len(prompt) + len(other))
        return longest, longest <= max_length
    return size, any(reading.encoded.mask[:max_length])


def _check_ids(reading: Reading, prompter: Prompter, ids: int | None) -> None:
    """Raise InputError for a token that the model has no embedding for."""
    found = [*reading.prompt, *reading.completion]
    if ids is None or max(found, default=0) < ids:
        return
    token = next(token for token in found if token >= ids)
    raise InputError(
        f"{reading.row.where}: the token {prompter.tokenizer.id_to_token(token)!r} has the id {token}, and the "
        f"model's embedding ends at {ids - 1}; name it in data.tokens, or take it out of the tokenizer"
    )


def _nothing_left(objective: str, max_length: int, row: Row) -> str:
    """Why no training row has anything to learn."""
    if objective == "preference":
        return f"data.max_length: no preference row fits into {max_length} tokens; raise it or shorten the rows"
    if objective == "text":
        return f"{row.where}: the texts are too short to learn anything from"
    return (
        f"data.max_length: {max_length} leaves no token of any completion to learn (first: {row.where}); raise "
        "it or "
        "shorten the prompts"
    )


def _too_long(sizes: Sequence[int], test: Sequence[Row], context: int | None) -> list[str]:
    """Test rows that the model can't read; InputError where it can read none."""
    if context is None:
        return []
    long = [row for row, size in zip(test, sizes, strict=True) if size > context and row.messages]
    if len(long) == len(test):
        raise InputError(
            f"data.test: no row fits the model's context of {context} tokens (first: {long[0].where}); shorten "
            "them"
        )
    if not long:
        return []
    return [
        f"{len(long)} of {len(test)} test rows are longer than the model's context of {context} tokens and are "
        "not "
        f"measured (first: {long[0].where})"
    ]


def _prompt(row: Row) -> tuple[str, ...]:
    """What two rows share if they ask the same; a text row is its own prompt."""
    if row.messages is None:
        return ("text", plain(row.completion))
    turns = (f"{turn['role']}: {plain(said(turn))}" for turn in row.prompt_messages)
    return (*turns, *sorted(map(name_of, row.tools)))
