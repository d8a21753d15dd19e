"""What text must be before a tokenizer reads it: whole characters."""

from __future__ import annotations

import re

from edgepeft.errors import InputError

_HALVES = re.compile("[\ud800-\udfff]")
# Python keeps the bytes of arguments and names that are no UTF-8 as these.
_BYTES = re.compile("[\udc80-\udcff]")


def refuse_halves(text: str, what: str) -> None:
    """Raise InputError for a text with half of a character, or bytes that are no UTF-8; ``what`` names it."""
    if text.isascii() or not _HALVES.search(text):
        return
    if not re.search("[\ud800-\udc7f\udd00-\udfff]", text) and _BYTES.search(text):
        raise InputError(f"{what} holds bytes that are not UTF-8; save it as UTF-8")
    raise InputError(f"{what} holds half of a character (a lone \\u surrogate); repair it")
