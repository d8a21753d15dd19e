"""What the steps of the wizard share."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from edgepeft.config.recipe import Recipe
from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import all_fields, field_at, is_list_of_sections
from edgepeft_tui.path_fields import path_kind
from edgepeft_tui.raw_recipe import step_of
from edgepeft_tui.typed_paths import is_there, typed_path
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.making import Maker
from edgepeft_tui.widgets.parts import Parts
from edgepeft_tui.widgets.picker import Picker

if TYPE_CHECKING:
    from edgepeft_tui.screens.wizard import WizardScreen


class Step(VerticalScroll):
    """One step: fields of the recipe's sections that it is about. ``help`` is what F1 says of it.

    ``title`` is its name on the rail. Sections that are the step's and that ``content`` does not name come last.
    """

    title = ""
    help = ""
    can_focus = False

    def __init__(self, draft: Draft, *, id: str) -> None:
        super().__init__(id=id)
        self.draft = draft
        self.opened = False
        self._made = False
        self._maker = Maker()
        self._named: set[str] = set()

    @property
    def wizard(self) -> WizardScreen:
        """The screen this step is on."""
        return cast("WizardScreen", self.screen)

    @property
    def ready(self) -> bool:
        """Whether the step's widgets are there: made, not being made anew, not being taken down.

        Messages and workers come when they come, so whatever looks for a widget asks this before it does.
        """
        return self._made and self._stands

    @property
    def _stands(self) -> bool:
        # Textual takes a screen down from its leaves; the screen says so first by no longer being displayed.
        return self.is_attached and self.screen.display

    def compose(self) -> ComposeResult:
        """Nothing until the step is opened: a form of every key takes a second to lay out."""
        if self.opened:
            self._named.clear()
            yield from self.content()
            yield from self._further()

    def content(self) -> ComposeResult:
        """The step's own widgets."""
        yield from ()

    def _further(self) -> Iterable[Widget]:
        """Sections of the recipe that are this step's, and that nothing else in the wizard knows of."""
        for top in Recipe.model_fields:
            if top in self._named or step_of(top) != self.title:
                continue
            if is_list_of_sections(top):
                rows: list[Widget] = [self.parts(top)] if self.shows(top) else []
            else:
                rows = [*self.rows(top if top in all_fields() else f"{top}.")]
            if rows:
                yield Static(top.replace("_", " ").capitalize(), classes="caption")
                yield from rows

    def shows(self, key: str, simple: Container[str] = ()) -> bool:
        """Whether a key is to be seen: all are where all are wanted, else the few, and wrong ones."""
        return key in simple or self.wizard.advanced or key in self.draft.errors()

    def parts(self, listed: str, *, grows: bool = True) -> Parts:
        """The parts of a list of sections; what the recipe says of them is seen."""
        self._named.add(listed)

        def shown(key: str) -> bool:
            spec = field_at(key)
            said = self.draft.get(key) is not None or (spec is not None and spec.required)
            return (said and not self.seen_elsewhere(key)) or self.shows(key)

        return Parts(self.draft, listed, shown, grows=grows)

    def seen_elsewhere(self, key: str) -> bool:
        """Whether what the recipe says at a key of a part can be seen and changed without its field."""
        return False

    def filled(self) -> None:
        """The widgets are there: fill them with what does not come from the draft."""

    async def open(self) -> None:
        """Make the step's widgets, unless they are there and ``opened`` still holds."""
        await self._maker.run(self._make)

    async def _make(self) -> None:
        if self.opened:
            return
        self.opened, self._made = True, False
        await self.recompose()
        if self._stands and self.opened:  # else it is to be made once more
            self.filled()
            self._made = True

    def rows(self, prefix: str, simple: Iterable[str] = ()) -> Iterable[FieldRow]:
        """A row for each ``simple`` key below ``prefix``; for others where all are wanted, or wrong ones."""
        shown = list(simple)
        self._named.add(prefix.partition(".")[0])
        below = prefix.removesuffix(".") + "."
        fields = {
            key: spec
            for key, spec in all_fields().items()
            if key == prefix or key.startswith(below)
        }
        ordered = [*(key for key in shown if key in fields), *(k for k in fields if k not in shown)]
        for key in ordered:
            if not self.shows(key, shown):
                continue
            label = key.removeprefix(prefix).replace("_", " ").replace(".", ": ")
            yield FieldRow.of(self.draft, fields[key], label or key)

    def begin(self) -> None:
        """Put the focus on the step's first control, once it is laid out."""
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        if self.ready:
            first = self.first()
            if first is not None:
                first.focus()
        if self._stands and self.wizard.current is self:
            self.wizard.begun()

    def first(self) -> Widget | None:
        """The control to begin with."""
        return next((w for w in self.screen.focus_chain if self in w.ancestors), None)

    def enter(self) -> None:
        """The step is shown: look at what other steps have changed."""
        for row in self.query(FieldRow):
            row.show(self.draft.text(row.field.key))

    def typed(self, key: str) -> None:
        """Something was typed into this step's field of ``key``, and the draft has it."""

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """What is wrong with the recipe, for steps that show more of it than their fields do."""

    def planned(self, facts: Mapping[str, Any]) -> None:
        """A plan of the recipe has come."""

    def changed(self) -> None:
        """Tell the wizard that the draft is another."""
        if self._stands:
            self.wizard.changed()

    def on_field_row_browse(self, event: FieldRow.Browse) -> None:
        """Let the user pick a path for a field."""
        event.stop()
        row, kind = event.row, path_kind(event.row.field.key)
        if kind is None:
            return
        value = self.draft.get(row.field.key)
        place = typed_path(value, self.draft.folder) if isinstance(value, str) else None

        def take(path: Path | None) -> None:
            if path is None:
                return
            self.draft.set_path(row.field.key, path)
            row.show(self.draft.text(row.field.key))
            self.changed()
            row.begin()

        start = place.parent if place is not None and is_there(place.parent) else self.draft.folder
        self.app.push_screen(Picker(row.field.key, start, kind), take)
