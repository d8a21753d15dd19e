"""A list of sections in a form: each part's keys, a button for one more, one to take the last away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual import on
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Static

from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import part_fields
from edgepeft_tui.plain_text import visible_line
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.making import Maker


class Parts(Vertical):
    """The parts that the draft has of ``listed``; keys that ``shows`` turns down are left out."""

    class Changed(Message):
        """The list is longer or shorter."""

    def __init__(
        self,
        draft: Draft,
        listed: str,
        shows: Callable[[str], bool],
        *,
        grows: bool = True,
    ) -> None:
        """``grows`` says whether parts can be added here."""
        super().__init__(id=f"parts-{listed}", classes="parts")
        self.draft = draft
        self.listed = listed
        self._shows = shows
        self._grows = grows
        self._maker = Maker()

    def compose(self) -> Iterable[Widget]:
        """Fields of every part, then the buttons."""
        for index in range(self.draft.parts(self.listed)):
            prefix = f"{self.listed}.{index}."
            shown = {
                key: spec
                for key, spec in part_fields(self.listed, index).items()
                if self._shows(key)
            }
            name = self.draft.text(prefix + "name") or f"{self.listed} {index + 1}"
            if shown:
                yield Static(visible_line(name), classes="part", markup=False)
            for key, spec in shown.items():
                label = key.removeprefix(prefix).replace("_", " ").replace(".", ": ")
                yield FieldRow.of(self.draft, spec, label)
        if self._grows:
            with Horizontal(classes="buttons"):
                yield Button("Add", classes="add", compact=True)
                if self.draft.parts(self.listed):
                    yield Button("Remove last", classes="drop", compact=True)

    @on(Button.Pressed, ".add, .drop")
    async def _change(self, event: Button.Pressed) -> None:
        event.stop()
        adds = event.button.has_class("add")
        (self.draft.add_part if adds else self.draft.drop_part)(self.listed)
        await self.remake()
        last = f"{self.listed}.{self.draft.parts(self.listed) - 1}."
        rows = [row for row in self.query(FieldRow) if adds and row.field.key.startswith(last)]
        if rows:
            rows[0].begin()
        else:
            # None is there if the step has been made anew meanwhile.
            self.query(".add").focus()
        self.post_message(self.Changed())

    async def remake(self) -> None:
        """Make the fields anew: the list is another."""
        await self._maker.run(self.recompose)
