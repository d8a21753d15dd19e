"""What can be said about prompts and completions before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport, need_test_rows, plain, report
from edgepeft.data.rows import Row
from edgepeft.errors import InputError


def check_data(
    train: Sequence[Row], test: Sequence[Row], prompter: Prompter, *, max_length: int
) -> DataReport:
    """Measure both splits in tokens and warn of what would spoil training or the report.

    ``train`` may be empty (an adapter that exists needs none); ``max_length`` is in tokens. Raises
    InputError without test rows, for an empty completion, and for rows the template refuses.
    """
    need_test_rows(test)
    for row in (*train, *test):
        if not row.completion.strip():
            raise InputError(f"{row.where}: the completion is empty; fill it in or drop the row")
    sizes = [tuple(map(len, prompter.split(row))) for row in train]
    return report(
        train,
        test,
        lengths=[prompt + completion for prompt, completion in sizes],
        test_lengths=[sum(map(len, prompter.split(row))) for row in test],
        cut=[row for row, (prompt, _) in zip(train, sizes, strict=True) if prompt >= max_length],
        max_length=max_length,
        asked=_prompt,
        content=lambda row: (_prompt(row), plain(row.completion)),
        noun="prompts",
        further=_template_warnings((*train, *test), prompter),
    )


def _template_warnings(rows: Sequence[Row], prompter: Prompter) -> list[str]:
    warnings = []
    if "strftime_now" in (prompter.template_source or ""):
        warnings.append(
            "the chat template writes today's date, so a prompt changes from day to day; "
            "set data.template to a copy with a fixed date"
        )
    stops: list[str] = [prompter.tokenizer.id_to_token(token) or "" for token in prompter.stop_ids]
    ended = [row for row in rows if any(stop and stop in row.completion for stop in stops)]
    if ended:
        warnings.append(
            f"{len(ended)} completions contain an end token and are cut at it (first: "
            f"{ended[0].where}); take it out, edgepeft writes it itself"
        )
    return warnings


def _prompt(row: Row) -> tuple[str, ...]:
    """What two rows share if they ask the same; a text row is its own prompt."""
    if row.messages is None:
        return ("text", plain(row.completion))
    return tuple(f"{turn['role']}: {plain(turn['content'])}" for turn in row.prompt_messages)
