"""A choice of one in a list that opens, which may be taken away while it is still being made.

Written for textual 8.2. ``Select`` fills its list when it is mounted and raises NoMatches if it was taken down,
or the app ended, before its own parts were made: a form made anew twice in a row would end the app. A check of
Textual's own there, as its ``_watch_expanded`` has, would make this unnecessary.
"""

from __future__ import annotations

from contextlib import suppress

from textual.css.query import NoMatches
from textual.widgets import Select


class Dropdown(Select[str]):
    """Textual's Select, which doesn't mind being taken away early."""

    def _setup_options_renderables(self) -> None:
        with suppress(NoMatches):
            super()._setup_options_renderables()
