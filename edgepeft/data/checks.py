"""What can be said about prompts and completions before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepeft.data.answer_checks import answer_warnings
from edgepeft.data.control_checks import LookAlikeRows
from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport, need_test_rows, plain, report
from edgepeft.data.row_checks import check_objective, refuse_empty
from edgepeft.data.rows import Row
from edgepeft.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What rows are held against: ``max_length`` and ``context`` in tokens, and ``ids``, the embedding's rows."""

    max_length: int
    context: int | None = None
    ids: int | None = None


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
    limits = Limits(max_length, context, ids)
    sizes = [_measured(row, prompter, objective, limits) for row in train]
    tests = [_tokens(row, prompter, limits) for row in test]
    unlearned = [row for row, (_, learned) in zip(train, sizes, strict=True) if not learned]
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
            *answer_warnings(train, test, prompter, objective),
        ],
    )


def _measured(row: Row, prompter: Prompter, objective: str, limits: Limits) -> tuple[int, bool]:
    """How many tokens a training row has, and whether anything of it is learned."""
    if objective == "preference" and row.rejected is not None:
        other = _tokens(row.with_answer(row.rejected), prompter, limits)
        longest = max(_tokens(row, prompter, limits), other)
        return longest, longest <= limits.max_length
    encoded = prompter.row(row)
    _check_ids(encoded.ids, row, prompter, limits)
    if objective == "text":
        return len(encoded.ids), len(encoded.ids) > 1
    return len(encoded.ids), any(encoded.mask[: limits.max_length])


def _tokens(row: Row, prompter: Prompter, limits: Limits) -> int:
    prompt, completion = prompter.split(row)
    _check_ids([*prompt, *completion], row, prompter, limits)
    return len(prompt) + len(completion)


def _check_ids(ids: Sequence[int], row: Row, prompter: Prompter, limits: Limits) -> None:
    """Raise InputError for a token that the model has no embedding for."""
    if limits.ids is None or max(ids, default=0) < limits.ids:
        return
    token = next(token for token in ids if token >= limits.ids)
    text = prompter.tokenizer.id_to_token(token)
    raise InputError(
        f"{row.where}: the token {text!r} has the id {token}, and the model's embedding ends at "
        f"{limits.ids - 1}; "
        f"name it in data.tokens, or take it out of the tokenizer"
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
    return tuple(f"{turn['role']}: {plain(turn['content'])}" for turn in row.prompt_messages)
