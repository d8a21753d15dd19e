"""What can be said against rows without a tokenizer: before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.data.rows import Row, said
from edgepeft.errors import InputError


def refuse_empty(rows: Sequence[Row]) -> None:
    """Raise InputError, naming the row, where an answer that is to be learned is empty."""
    for row in rows:
        if not row.completion.strip():
            raise InputError(f"{row.where}: the completion is empty; fill it in or drop the row")
        for place, turn in enumerate(row.prompt_messages):
            learned = turn["role"] == "assistant" and place not in row.unlearned
            if learned and not said(turn).strip():
                raise InputError(
                    f"{row.where}: turn {place + 1} is the assistant's and empty; fill it in, give it weight: "
                    "0, or "
                    "drop the row"
                )


def check_objective(objective: str, rows: Sequence[Row]) -> None:
    """Raise InputError, naming the row, for one that an objective can't learn from."""
    for row in rows:
        if objective == "text" and row.messages is not None:
            raise InputError(
                f"{row.where}: training.objective: text learns rows with a text column; this is a conversation"
            )
        if objective == "preference" and row.rejected is None:
            raise InputError(
                f"{row.where}: training.objective: preference needs prompt, chosen and rejected in every row "
                "(where "
                "other columns are there too, set data.shape: preference)"
            )
