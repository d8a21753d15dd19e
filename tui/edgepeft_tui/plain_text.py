"""Text that anyone may have written, as it can be shown: neither the terminal nor Textual obeys anything in it.

Names, rows, recipes, answers and errors may hold escape sequences, overrides of the writing direction, characters
that nobody sees, or what Textual reads as markup. Everything that is shown goes through one of these functions.
"""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter

from edgepeft.utils import terminal_text

_NOTHING = "\u200b"
"""A sign without width, which ``Harmless`` takes away again."""
LONGEST_LINE = 240
"""Characters of a name or of another text of one line that are shown."""


def visible(text: object) -> str:
    """The text with each character that acts on a terminal, or hides, as JSON writes it; lines and tabs stay."""
    return terminal_text.visible(str(text))


def visible_line(text: object) -> str:
    """The same in one line of bounded length."""
    return terminal_text.shortened(text, LONGEST_LINE)


def cut(text: object, width: int) -> str:
    """The same in at most ``width`` characters, the last of them an ellipsis where any are left out."""
    line = visible_line(text)
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"


def plain(text: object) -> str:
    """Text as markup that says the text itself, in as many lines as it has."""
    escaped = visible(text).replace("[", "\\[")
    # A backslash at the end would take what follows of ours for text; Textual knows no other way to part the two.
    return escaped + _NOTHING if escaped.endswith("\\") else escaped


def plain_line(text: object) -> str:
    """The same in one line of bounded length: a name, a place, an error."""
    return plain(visible_line(text))


def title(*parts: object) -> Content:
    """A text for the border of a box, which would read a string as markup."""
    return Content(" · ".join(visible_line(part) for part in parts))


def one_to_one(text: str) -> str:
    """What is shown of a field's text: each hostile sign as ``�``, for the cursor counts signs."""
    return terminal_text.CONTROLS.sub("\ufffd", text).replace("\t", " ").replace("\n", "\ufffd")


class Harmless(LineFilter):
    """The last thing before the terminal: what a widget paints without having asked this module.

    Takes out of every line what acts on a terminal, and keeps the width that the line was laid out for.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without hostile characters."""
        if not any(terminal_text.CONTROLS.search(segment.text) for segment in segments):
            return segments
        return [
            Segment(
                terminal_text.CONTROLS.sub(_of_equal_width, segment.text),
                segment.style,
                segment.control,
            )
            for segment in segments
        ]


def _of_equal_width(match: re.Match[str]) -> str:
    return "\ufffd" * cell_len(match.group())
