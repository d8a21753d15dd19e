"""Small windows over a screen: help, and a question with yes or no."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from edgepeft_tui.plain_text import plain, title
from edgepeft_tui.widgets.hanging import Hanging


class HelpWindow(ModalScreen[None]):
    """A title and some text; any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter,q", "dismiss", "Close"),
    ]

    def __init__(self, title: str, markup: str) -> None:
        super().__init__()
        self._title, self._markup = title, markup

    def compose(self) -> ComposeResult:
        """The window."""
        with VerticalScroll(classes="window") as window:
            window.border_title = title(self._title)
            window.border_subtitle = "Esc closes"
            yield Static(Hanging(self._markup))


class Question(ModalScreen[bool]):
    """A question before something that can't be undone. The default is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "No"),
        Binding("y", "answer(True)", "Yes"),
    ]

    def __init__(self, question: str, yes: str) -> None:
        super().__init__()
        self._question, self._yes = question, yes

    def compose(self) -> ComposeResult:
        """The question and two buttons, the harmless one first."""
        with Vertical(classes="window"):
            yield Static(plain(self._question))
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", variant="error", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Answer by key."""
        self.dismiss(answer)
