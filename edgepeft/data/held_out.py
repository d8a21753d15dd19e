"""Test rows that are taken from the training rows, so that nothing which is asked stands on both sides."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepeft.data.rows import Row, said
from edgepeft.errors import InputError
from edgepeft.utils.scalars import MOST

MOST_TESTED = 200
"""Rows that gates and report use at most by default: no more need be held out."""
_SHARE = re.compile(r"\s*(?P<number>[+-]?\d+(\.\d+)?)\s*(?P<percent>%?)\s*")


@dataclass(frozen=True)
class HeldOut:
    """How much of a file is held out: a ``fraction`` of its rows, or a number of ``rows``."""

    fraction: float | None = None
    rows: int | None = None

    @classmethod
    def parse(cls, text: str) -> HeldOut | None:
        """``10%`` or ``50``; None for any other text, which is the name of a file.

        Raises ValueError for what holds out nothing, or all there is.
        """
        found = _SHARE.fullmatch(text)
        if found is None:
            return None
        number = float(found["number"])
        if not found["percent"]:
            if not 1 <= number <= MOST or number != int(number):
                raise ValueError(
                    f"{text.strip()} is no number of rows; give 1 or more, a share such as 10%, or a file"
                )
            return cls(rows=int(number))
        if not 0 < number < 100:
            raise ValueError(
                f"{text.strip()} leaves no rows to {'learn' if number >= 100 else 'measure on'}; give a share "
                "between 0% and 100%, as 10%"
            )
        return cls(fraction=number / 100)

    def count(self, total: int) -> int:
        """Rows to hold out of ``total``."""
        return self.rows if self.rows is not None else max(1, round((self.fraction or 0) * total))


def usual_share(rows: int, *, carried: bool) -> str | None:
    """What to write as data.test to hold out the usual part of so many rows; None where all are for the test.

    An adapter that is ``carried`` over needs rows for calibration alone, a trained one as many as it can get.
    """
    if carried:
        return None if rows < 40 else "50%" if rows <= 2 * MOST_TESTED else str(MOST_TESTED)
    return "20%" if rows < 100 else "10%" if rows <= 10 * MOST_TESTED else str(MOST_TESTED)


def hold_out(
    rows: Sequence[Row], asked: HeldOut, seed: int, said: str
) -> tuple[list[Row], list[Row]]:
    """Training rows, in the file's order, and test rows in an order of chance.

    Rows that ask the same stay together, so there may be a few test rows less than asked. Which ones goes by what
    they ask and by ``seed``: neither their order in the file nor rows that are added move a row to the other side
    of a share by themselves. Raises InputError, naming the share as ``said``, where one side would be empty.
    """
    wanted = asked.count(len(rows))
    if wanted >= len(rows):
        raise InputError(
            f"data.test: {said} of {len(rows)} row{'s' * (len(rows) != 1)} leaves none to learn; hold out fewer, "
            "or name a file"
        )
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_asked(row), []).append(index)
    held: list[int] = []
    for key in sorted(groups, key=lambda key: _order(key, seed)):
        if len(held) + len(groups[key]) <= wanted:
            held += groups[key]
        if len(held) == wanted:
            break
    if not held:
        raise InputError(
            f"data.test: {said}: too many of the {len(rows)} rows ask the same to hold any out; name a file of "
            "test rows"
        )
    taken = set(held)
    training = [row for index, row in enumerate(rows) if index not in taken]
    return training, [rows[index] for index in held]


def _asked(row: Row) -> str:
    """What a row asks, however it is spaced: rows alike in this are not told apart by a test."""
    if row.messages:
        turns = [(turn["role"], " ".join(said(turn).split())) for turn in row.prompt_messages]
        return json.dumps(turns)
    return " ".join((row.text or " ".join(row.words or ())).split())


def _order(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogatepass")).digest()
