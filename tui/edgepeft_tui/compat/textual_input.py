"""A line to type into whose text is shown in other characters than it holds.

Written for textual 8.2. Overrides ``Input._value``, the text that the widget paints and measures. A public way
to say how a value is shown would make this unnecessary.
"""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Input


class ShowingInput(Input):
    """An Input that paints ``shown()``, which has as many characters as its value."""

    def shown(self) -> str:
        """The value as it is painted."""
        return self.value

    @property
    def _value(self) -> Text:
        return Text(self.shown(), no_wrap=True, overflow="ignore", end="")
