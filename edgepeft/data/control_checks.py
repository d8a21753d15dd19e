"""Rows with text that looks like a control token: how many, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edgepeft.data.control_tokens import ControlTokens
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row, spoken
from edgepeft.data.texts import TextEncoder

_SHOWN = 4


@dataclass(frozen=True)
class LookAlikeRows:
    """Rows that hold text like a control token, how many of them are plain text, and what is said of it."""

    rows: int = 0
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Row], reader: Prompter | TextEncoder) -> Self:
        """Look through the texts of ``rows``."""
        control = reader.control
        found = [(row, looks) for row in rows if (looks := _in_row(row, control))]
        texts = [one for one in found if one[0].messages is None]
        turns = [one for one in found if one[0].messages is not None]
        warnings = []
        if turns:
            warnings.append(
                _said(
                    turns,
                    control,
                    "rows contain",
                    "set data.control_tokens: {other} if it is meant so",
                )
            )
        if texts and isinstance(reader, Prompter) and control.as_text:
            mend = "if a chat template rendered these rows, set data.control_tokens: tokens"
            warnings.append(_said(texts, control, "text rows contain", mend))
        elif texts:
            mend = "set data.control_tokens: {other} if it is meant so"
            warnings.append(_said(texts, control, "texts contain", mend))
        return cls(len(found), tuple(warnings))


def _said(
    found: Sequence[tuple[Row, list[str]]], control: ControlTokens, what: str, mend: str
) -> str:
    looks = list(dict.fromkeys(look for _, row in found for look in row))
    more = ", …" if len(looks) > _SHOWN else ""
    taken = "ordinary text" if control.as_text else "the tokens"
    other = "tokens" if control.as_text else "text"
    return (
        f"{len(found)} {what} what looks like a control token ({', '.join(looks[:_SHOWN])}{more}; first: "
        f"{found[0][0].where}): it is read as {taken}; {mend.format(other=other)}"
    )


def _in_row(row: Row, control: ControlTokens) -> list[str]:
    """The look-alikes of a row."""
    if row.messages is None:
        return control.look_alikes(" ".join(filter(None, (row.text, *row.further_texts))))
    turns = [*row.messages, *([row.rejected] if row.rejected else [])]
    said = spoken(turns, row.tools)
    return list(
        dict.fromkeys(look for value, role in said for look in control.look_alikes(value, role))
    )
