"""What the steps of the wizard share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Select

from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import all_fields
from edgepeft_tui.widgets.dialogs import Picker
from edgepeft_tui.widgets.field_row import FieldRow

if TYPE_CHECKING:
    from edgepeft_tui.screens.wizard import WizardScreen


class Step(VerticalScroll):
    """One step: fields of the recipe's sections that it is about. ``help`` is what F1 says of it."""

    help = ""
    can_focus = False

    def __init__(self, draft: Draft, *, id: str) -> None:
        super().__init__(id=id)
        self.draft = draft
        self.opened = False
        self.ready = False

    @property
    def wizard(self) -> WizardScreen:
        """The screen this step is on."""
        return cast("WizardScreen", self.screen)

    def compose(self) -> ComposeResult:
        """Nothing until the step is opened: a form of every key takes a second to lay out."""
        if self.opened:
            yield from self.content()

    def content(self) -> ComposeResult:
        """The step's own widgets."""
        yield from ()

    def filled(self) -> None:
        """The widgets are there: put into them what does not come from the draft."""

    async def open(self, *, anew: bool = False) -> None:
        """Make the step's widgets if there are none yet, or ``anew``."""
        if not self.opened or anew:
            self.opened, self.ready = True, False
            await self.recompose()
            self.filled()
            self.ready = True

    def rows(
        self, prefix: str, simple: Iterable[str] = (), browse: Iterable[str] = ()
    ) -> Iterable[FieldRow]:
        """A row for each ``simple`` key below ``prefix``; for others where all are wanted, or wrong ones."""
        shown, paths = list(simple), set(browse)
        below = prefix.removesuffix(".") + "."
        fields = {
            key: spec
            for key, spec in all_fields().items()
            if key == prefix or key.startswith(below)
        }
        ordered = [*(key for key in shown if key in fields), *(k for k in fields if k not in shown)]
        wrong = self.draft.errors()
        for key in ordered:
            if key not in shown and not self.wizard.advanced and key not in wrong:
                continue
            label = key.removeprefix(prefix).replace("_", " ").replace(".", ": ")
            yield FieldRow(
                fields[key], self.draft.text(key), browse=key in paths, label=label or key
            )

    def begin(self) -> None:
        """Put the focus on the step's first control, once it is laid out."""
        self.call_after_refresh(self._focus_first)

    def _focus_first(self) -> None:
        for widget in self.screen.focus_chain:
            if self in widget.ancestors:
                widget.focus()
                return

    def enter(self) -> None:
        """The step is shown: look at what other steps have changed."""
        for row in self.query(FieldRow):
            row.show(self.draft.text(row.field.key))

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """What is wrong with the recipe, for steps that show more of it than their fields do."""

    def planned(self, facts: Mapping[str, Any]) -> None:
        """A plan of the recipe has come."""

    def changed(self) -> None:
        """Tell the wizard that the draft is another."""
        self.wizard.changed()

    def pick_path(self, row: FieldRow, suffixes: tuple[str, ...], *, folders: bool) -> None:
        """Let the user pick a path for a field."""
        value = self.draft.get(row.field.key)
        place = self.draft.resolve(value).parent if isinstance(value, str) else self.draft.folder

        def fits(path: Path) -> bool:
            if path.is_dir():
                return folders and any((path / name).is_file() for name in _MARKERS)
            return path.suffix.lower() in suffixes

        def take(path: Path | None) -> None:
            if path is None:
                return
            self.draft.set_path(row.field.key, path)
            row.show(self.draft.text(row.field.key))
            self.changed()
            row.query("Input, Select").first((Input, Select)).focus()  # type: ignore[call-overload]

        start = place if place.is_dir() else self.draft.folder
        self.app.push_screen(Picker(row.field.key, start, suffixes, fits), take)


_MARKERS = ("config.json", "adapter_config.json")
