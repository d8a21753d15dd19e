"""Which column of a file is what: a choice among the file's own names for each of ours."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import column_field
from edgepeft_tui.widgets.field_row import NOT_SAID, FieldRow
from edgepeft_tui.widgets.making import Maker


class Columns(Vertical):
    """A field for each of our names, none until some are offered."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(id="columns", classes="parts")
        self.draft = draft
        self._names: tuple[str, ...] = ()
        self._ours: tuple[str, ...] = ()
        self._maker = Maker()

    def compose(self) -> Iterable[Widget]:
        """The fields below a caption."""
        if self._ours:
            yield Static("Columns of the file", classes="caption")
        for ours in self._ours:
            field = column_field(ours, self._names)
            yield FieldRow(field, self.draft.text(field.key), label=ours)

    async def offer(self, names: Iterable[str], ours: Iterable[str]) -> None:
        """Offer a file's names for each of ours, and show which are chosen now."""
        # No text stands for saying nothing, as that choice does.
        kept = tuple(name for name in names if name not in ("", NOT_SAID))
        offered = (kept, tuple(ours))
        if offered != (self._names, self._ours):
            self._names, self._ours = offered
            await self._maker.run(self.recompose)
        for row in self.query(FieldRow):
            row.show(self.draft.text(row.field.key))
