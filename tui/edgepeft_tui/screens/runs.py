"""What was built on this machine: sorted, filtered, compared, opened, run again, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Input

from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.gates import learned_little
from edgepeft.runs.index import delete_run, differences
from edgepeft_tui.job import ACTIVE
from edgepeft_tui.plain_text import cut
from edgepeft_tui.records import cells_of, measures, sort_key
from edgepeft_tui.screens.versus import VersusScreen
from edgepeft_tui.speaker import speaker_of
from edgepeft_tui.verdicts import bundle_name, bundles_of, run_verdict
from edgepeft_tui.widgets.dialogs import Question
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.widgets.table import fill
from edgepeft_tui.words import cell, near, pairs

COLUMNS = ("", "run", "state", "started", "score", "task KL", "size", "targets", "model")
"""A score is the first measure of a run's task: exact match, accuracy or retrieval."""
NARROW_COLUMNS = ("", "run", "state")
"""Those that a narrow screen has room for; what else there is, the box below the table says."""
_SORTS = ("started", "run", "state", "score", "size")


class RunsScreen(Page):
    """The history. Space marks a run; with two marked, c puts them side by side."""

    heading = "runs"
    help = (
        "Every build on this machine. Space marks a run. Two marked runs can be compared, or "
        "tried side by side. Click a column's title, or press o, to sort."
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
            tooltip="Put two marked runs side by side",
        ),
        Binding("r", "again", "Again", id="runs.again", tooltip="Resume it, or build it again"),
        Binding("e", "edit", "Edit", id="runs.edit", tooltip="Open its recipe in the wizard"),
        Binding("t", "try_it", "Try", id="runs.try", tooltip="Ask its bundle something"),
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
        yield Entry(placeholder="/ filters by name, state, model or target", id="runs-filter")
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield Panel("This run", id="about-run")

    def on_mount(self) -> None:
        """Fill the table."""
        self.table.focus()
        self.read()

    @property
    def table(self) -> DataTable[Text]:
        """The table of runs."""
        return self.query_one("#runs", DataTable)

    def on_screen_resume(self) -> None:
        """A run may have ended meanwhile."""
        if self.composed:
            self.read()

    def recolour(self) -> None:
        """Marks in the colours of the theme."""
        self._show()

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
        columns, longest = self._columns()
        rows = []
        for run in chosen:
            sign = "●" if str(run["path"]) in self.marked else " "
            name, _, *rest = (cut(said, longest) for said in cells_of(run))
            verdict, words = run_verdict(run)
            words = cut(words, longest) if columns == NARROW_COLUMNS else words
            state = cell(verdict, words, self.app.theme_variables)
            row = [Text(sign), Text(name), state, *map(Text, rest)]
            rows.append(row[: len(columns)])
        keys = [str(run["path"]) for run in chosen]
        fill(table, [Text(column) for column in columns], rows, keys)
        table.move_cursor(row=min(at, max(0, len(chosen) - 1)))
        self.heading = f"runs  ›  {len(chosen)} of {len(self.records)}, by {by} (o sorts)"
        self.show_where()
        if not chosen:
            empty = (
                "No run matches the filter."
                if self.records
                else "No runs yet. The demo on the first screen makes one."
            )
            self.query_one("#about-run", Panel).say(f"[$muted]{empty}[/]")

    def _columns(self) -> tuple[tuple[str, ...], int]:
        """The columns that there is room for, and the longest that a cell may be."""
        if self.has_class("-tiny"):
            # Beside the sign, every column has a blank on either side and a state its mark.
            return NARROW_COLUMNS, (self.app.size.width - 11) // 2
        return COLUMNS, 28

    def refit(self) -> None:
        """Other columns may fit."""
        self._show()

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
        self.query_one("#about-run", Panel).say(pairs(list(self._facts(run))))

    def _facts(self, run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        recipe = run.get("recipe")
        yield "folder", near(run["path"])
        if self.has_class("-tiny"):
            yield "state", run_verdict(run)[1]
            yield "started", cells_of(run)[2]
        yield "recipe", near(recipe) if recipe else "no file"
        if run.get("error"):
            yield "error", run["error"]
            yield "log", near(self.wizard_app.jobs.watch(Path(run["path"])).log)
        for bundle in bundles_of(run):
            gates, facts = bundle["gates"], bundle["fidelity"]
            verdict = gates if isinstance(gates, str) else "; ".join(gates or ["not measured"])
            said = f"; {measures(facts)}" if facts else ""
            yield bundle_name(bundle), f"{verdict}{said}"
            if little := learned_little(facts or {}):
                yield "", f"! learned little: {little}"

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
        """Ask the bundles of the marked runs, or of the one under the cursor."""
        runs = [self.records[path] for path in self.marked] or [self.chosen or {}]
        speakers = [
            speaker_of(bundle)
            for run in runs
            for bundle in bundles_of(run)[: 1 if len(runs) > 1 else 2]
        ]
        if speakers:
            self.wizard_app.open_chat(speakers[:2])
        else:
            self.notify("This run has no bundle to try.", severity="warning")

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away; the last two count."""
        run = self.chosen
        if run is None:
            return
        path = str(run["path"])
        others = [one for one in self.marked if one != path]
        self.marked = others if len(others) < len(self.marked) else [*others, path][-2:]
        self._show()

    def action_compare(self) -> None:
        """Put the two marked runs side by side."""
        if len(self.marked) != 2:
            self.notify("Mark two runs with Space first.", severity="warning")
            return
        one, other = (Path(path) for path in self.marked)
        try:
            found = differences(one, other)
        except EdgepeftError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        except RecursionError:
            self.notify("A recipe is nested too deeply to compare.", severity="error")
            return
        first, second = (self.records[path] for path in self.marked)
        self.app.push_screen(VersusScreen(first, second, found))

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
            self.notify("The recipe's file is gone.", severity="warning")

    def action_sort(self) -> None:
        """Sort by the next column that can be sorted by."""
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
        if run.get("state") in ACTIVE:
            self.notify("This run is still running. Stop it first.", severity="warning")
            return
        path = Path(run["path"])

        def answered(yes: bool | None) -> None:
            if yes:
                self.remove_run(path)

        self.app.push_screen(
            Question(
                f"Delete {near(path)} with its bundles and checkpoints? This can't be undone.",
                "Delete",
            ),
            answered,
        )

    @work(thread=True)
    def remove_run(self, path: Path) -> None:
        """Delete in a thread: a checkpoint is large."""
        try:
            delete_run(path)
        except EdgepeftError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
        else:
            self.wizard_app.jobs.forget(path)
        self.app.call_from_thread(self.read)
