"""What was built on this machine: sorted, filtered, compared, opened, run again, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Input

from edgepeft.errors import EdgepeftError
from edgepeft.history import delete_run, differences
from edgepeft_tui.records import bundles_of, cells_of, differences_markup, measures, sort_key
from edgepeft_tui.widgets.conversation import speaker_of
from edgepeft_tui.widgets.dialogs import HelpWindow, Question
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import cell, near, pairs

COLUMNS = ("", "run", "state", "started", "score", "task KL", "size", "targets", "model")
"""A score is the first measure of a run's task: exact match, accuracy, or how often the right text is found."""
_SORTS = ("started", "run", "state", "score", "size")


class RunsScreen(Page):
    """The history. Space marks a run; with two marked, c shows what their recipes differ in."""

    heading = "runs"
    help = (
        "Every build on this machine. Space marks a run; two marked runs are compared or "
        "tried side by side. Click on a column's head, or o, to sort."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("enter", "look", "Open", id="runs.open", show=False),
        Binding("space", "mark", "Mark", id="runs.mark"),
        Binding(
            "c",
            "compare",
            "Compare",
            id="runs.compare",
            tooltip="What the recipes of two marked runs differ in",
        ),
        Binding("r", "again", "Again", id="runs.again", tooltip="Build what is missing of it"),
        Binding("e", "edit", "Edit", id="runs.edit", tooltip="Its recipe in the wizard"),
        Binding("t", "try_it", "Try", id="runs.try"),
        Binding("x,delete", "delete", "Delete", id="runs.delete"),
        Binding("o", "sort", "Sort", id="runs.sort", show=False),
        Binding("slash", "filter", "Filter", id="runs.filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}
        self.marked: list[str] = []
        self._order = 0
        self._wanted = ""

    def body(self) -> ComposeResult:
        """Filter, table, and what the run under the cursor is."""
        yield Input(
            placeholder="/ filters by name, state, model or target", compact=True, id="runs-filter"
        )
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield Panel("This run", id="about-run")

    def on_mount(self) -> None:
        """Fill the table."""
        table = self.table
        for column in COLUMNS:
            table.add_column(column, key=column)
        table.focus()
        self.read()

    @property
    def table(self) -> DataTable[str | Text]:
        """The table of runs."""
        return self.query_one("#runs", DataTable)

    def on_screen_resume(self) -> None:
        """A run may have ended meanwhile."""
        if self.composed:
            self.read()

    def read(self) -> None:
        """Read the history and show it in the chosen order."""
        self.records = {str(run["path"]): run for run in self.wizard_app.known_runs()}
        self.marked = [path for path in self.marked if path in self.records]
        self._show()

    def _show(self) -> None:
        chosen = [
            run for run in self.records.values() if self._wanted in " ".join(cells_of(run)).lower()
        ]
        by = _SORTS[self._order]
        chosen.sort(key=lambda run: sort_key(run, by), reverse=by in ("started", "score"))
        table, at = self.table, self.table.cursor_row
        table.clear()
        for run in chosen:
            path = str(run["path"])
            sign = "●" if path in self.marked else " "
            cells = cells_of(run)
            state = cell(cells[1], cells[1], self.app.theme_variables)
            table.add_row(sign, Text(cells[0]), state, *map(Text, cells[2:]), key=path)
        table.move_cursor(row=min(at, max(0, len(chosen) - 1)))
        self.heading = f"runs  ›  {len(chosen)} of {len(self.records)}, by {by} (o sorts)"
        self.show_where()
        if not chosen:
            empty = (
                "nothing matches the filter"
                if self.records
                else "No runs yet; the demo on the first screen makes one."
            )
            self.query_one("#about-run", Panel).say(f"[$foreground 60%]{empty}[/]")

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The run under the cursor."""
        if not self.table.row_count:
            return None
        key = self.table.coordinate_to_cell_key(self.table.cursor_coordinate).row_key.value
        return self.records.get(str(key))

    @on(DataTable.RowHighlighted)
    def _about(self) -> None:
        run = self.chosen
        if run is None:
            return
        recipe = run.get("recipe")
        lines = [("folder", near(run["path"])), ("recipe", near(recipe) if recipe else "no file")]
        if run.get("error"):
            lines.append(("error", str(run["error"])))
            lines.append(("log", near(self.wizard_app.jobs.watch(Path(run["path"])).log)))
        for bundle in (run.get("result") or {}).get("bundles", []):
            gates = bundle["gates"]
            verdict = gates if isinstance(gates, str) else "; ".join(gates or ["not measured"])
            said = f"; {measures(bundle['fidelity'])}" if bundle.get("fidelity") else ""
            lines.append((bundle.get("cell", bundle["target"]), f"{verdict}{said}"))
        self.query_one("#about-run", Panel).say(pairs(lines))

    @on(DataTable.RowSelected)
    def _open(self) -> None:
        self.action_look()

    def action_look(self) -> None:
        """Open the result of a run that has one, its stages and log otherwise."""
        run = self.chosen
        if run is not None:
            kind = "result" if run.get("result") else "run"
            self.wizard_app.open(f"{kind}:{run['path']}")

    def action_try_it(self) -> None:
        """Chat with the bundles of the marked runs, or of the one under the cursor."""
        runs = [self.records[path] for path in self.marked] or [self.chosen or {}]
        speakers = [
            speaker_of(bundle)
            for run in runs
            for bundle in bundles_of(run)[: 1 if len(runs) > 1 else 2]
        ]
        if speakers:
            self.wizard_app.open_chat(speakers[:2])
        else:
            self.notify("this run has no bundle to try", severity="warning")

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away; the last two count."""
        run = self.chosen
        if run is None:
            return
        path = str(run["path"])
        if path in self.marked:
            self.marked.remove(path)
        else:
            self.marked = [*self.marked, path][-2:]
        self._show()

    def action_compare(self) -> None:
        """Show what the recipes of the two marked runs differ in."""
        if len(self.marked) != 2:
            self.notify("mark two runs with Space first", severity="warning")
            return
        one, other = (Path(path) for path in self.marked)
        try:
            found = differences(one, other)
        except EdgepeftError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.app.push_screen(
            HelpWindow(f"{one.name} and {other.name}", differences_markup(one, other, found))
        )

    def action_again(self) -> None:
        """Go on with a run, or build what is missing of it."""
        run = self.chosen
        if run is not None and self.wizard_app.resume_run(Path(run["path"])):
            self.wizard_app.open(f"run:{run['path']}")

    def action_edit(self) -> None:
        """Open the run's recipe in the wizard."""
        run = self.chosen
        recipe = str((run or {}).get("recipe") or "")
        if recipe and Path(recipe).is_file():
            self.wizard_app.open(f"recipe:{recipe}")
        else:
            self.notify("the recipe's file is not there any more", severity="warning")

    def action_sort(self) -> None:
        """Sort by the next of the columns that can be sorted by."""
        self._order = (self._order + 1) % len(_SORTS)
        self._show()

    @on(DataTable.HeaderSelected)
    def _sort_by(self, event: DataTable.HeaderSelected) -> None:
        """A click on a column's head sorts by it, where that can be done."""
        if str(event.column_key.value) in _SORTS:
            self._order = _SORTS.index(str(event.column_key.value))
            self._show()

    def action_filter(self) -> None:
        """Go into the filter."""
        self.query_one("#runs-filter").focus()

    @on(Input.Changed, "#runs-filter")
    def _filter(self, event: Input.Changed) -> None:
        self._wanted = event.value.lower().strip()
        self._show()

    @on(Input.Submitted, "#runs-filter")
    def _filtered(self) -> None:
        self.table.focus()

    def action_delete(self) -> None:
        """Delete a run's folder, if the user really means it."""
        run = self.chosen
        if run is None:
            return
        if run.get("state") == "running":
            self.notify("this run is at work; stop it first", severity="warning")
            return
        path = Path(run["path"])

        def answered(yes: bool | None) -> None:
            if yes:
                self.remove_run(path)

        self.app.push_screen(
            Question(f"Delete {near(path)} with its bundles and checkpoints, for good?", "Delete"),
            answered,
        )

    @work(thread=True)
    def remove_run(self, path: Path) -> None:
        """Delete beside the key presses: a checkpoint is large."""
        try:
            delete_run(path)
        except EdgepeftError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
        else:
            self.wizard_app.jobs.forget(path)
        self.app.call_from_thread(self.read)
