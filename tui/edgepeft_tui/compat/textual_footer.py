"""The footer, made anew only where it would say something else.

Written for textual 8.2. Overrides ``Footer.bindings_changed``, which the footer subscribes to the screen's
signal and which makes all its widgets anew at every change of focus. A footer that compares by itself would
make this unnecessary.
"""

from __future__ import annotations

from typing import Any

from textual.screen import Screen
from textual.widgets import Footer


class KeyBar(Footer):
    """The footer, made anew only when it would say something else: Textual does so at every change of focus."""

    _said: tuple[object, ...] = ()

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """See whether other keys are to be shown."""
        said = tuple(
            (binding.key, binding.description, enabled)
            for _, binding, enabled, _ in screen.active_bindings.values()
            if binding.show
        )
        if said != self._said:
            self._said = said
            super().bindings_changed(screen)
