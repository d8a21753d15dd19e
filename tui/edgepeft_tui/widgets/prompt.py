"""The line that questions are typed into, which recalls earlier ones as a shell does."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from edgepeft_tui.widgets.entry import Entry


class Prompt(Entry):
    """``asked`` are the earlier questions, the latest last; what is being typed waits behind them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "recall(-1)", "Earlier question", show=False, id="chat.earlier"),
        Binding("down", "recall(1)", "Later question", show=False, id="chat.later"),
    ]

    def __init__(self, asked: list[str], placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="prompt", compact=False)
        self._asked = asked
        self._at = len(asked)
        self._typed = ""

    def take(self) -> str:
        """The question that was typed; the line is empty again, and the question the latest of the earlier."""
        text = self.value.strip()
        if text and self._asked[-1:] != [text]:
            self._asked.append(text)
        self._at, self._typed, self.value = len(self._asked), "", ""
        return text

    def action_recall(self, by: int) -> None:
        """Show an earlier question, or a later one, and behind the last what was being typed."""
        to = self._at + by
        if not 0 <= to <= len(self._asked):
            return
        if self._at == len(self._asked):
            self._typed = self.value
        self._at = to
        self.value = self._typed if to == len(self._asked) else self._asked[to]
        self.cursor_position = len(self.value)
