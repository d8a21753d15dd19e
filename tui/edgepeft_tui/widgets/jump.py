"""Jump mode: a letter at every control; pressing it goes there."""

from __future__ import annotations

import string
from typing import Any

from textual.app import ComposeResult
from textual.events import Key
from textual.geometry import Offset
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Button, Static


class JumpScreen(ModalScreen[None]):
    """Labels over the screen below."""

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        # What a box has scrolled away would have its letter over something else.
        controls = [
            widget for widget in below.focus_chain if below.find_widget(widget).visible_region.area
        ]
        letters = string.ascii_lowercase + string.digits
        self._targets = dict(zip(letters, controls, strict=False))

    def compose(self) -> ComposeResult:
        """One label a control, at its upper left corner."""
        for letter, widget in self._targets.items():
            label = Static(letter, classes="jump")
            label.absolute_offset = Offset(max(0, widget.region.x - 3), widget.region.y)
            yield label

    def on_key(self, event: Key) -> None:
        """Go where the letter says; any other key goes nowhere."""
        event.stop()
        event.prevent_default()
        target: Widget | None = self._targets.get(event.character or "")
        self.dismiss()
        if target is not None:
            target.focus()
            if isinstance(target, Button):
                self.app.call_after_refresh(target.press)
