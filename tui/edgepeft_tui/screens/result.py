"""What a build made: is it the model that was trained, what is in the folder, and ways to try it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable

from edgepeft.evaluation.gates import learned_little
from edgepeft.evaluation.table import table_rows
from edgepeft.utils.quantities import duration, megabytes
from edgepeft_tui.job import Job
from edgepeft_tui.layers import NO_LAYERS, layers_of
from edgepeft_tui.plain_text import cut, plain, plain_line
from edgepeft_tui.records import measures
from edgepeft_tui.result_words import comparison_bars, files, what_to_try, wrong_answers
from edgepeft_tui.run_files import Damaged, read_comparison
from edgepeft_tui.speaker import Speaker, speaker_of
from edgepeft_tui.verdicts import bundle_lines, bundle_name
from edgepeft_tui.widgets.layer_strip import LayerStrip
from edgepeft_tui.widgets.page import TINY, Page, Panel
from edgepeft_tui.widgets.table import fill
from edgepeft_tui.words import HANG, cell, marked

_AROUND = 5
"""Cells beside the table: its bar and its scrollbar, and those of what it lies in."""


class ResultScreen(Page):
    """The fidelity table with its gates, the files, what went wrong, a comparison if there is one."""

    help = (
        "Does the bundle answer as the trained model does? The table shows it in figures, the "
        "gates say it in words. Enter on a row, or l, shows the quantization error of each layer."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("t", "try_it", "Try it", id="result.try", tooltip="Ask the bundle something"),
        Binding(
            *("b", "beside_base", "Base"),
            id="result.base",
            tooltip="Ask the bundle and its base model side by side",
        ),
        Binding(
            *("l", "layers", "Layers"),
            id="result.layers",
            tooltip="Show the quantization error of each layer",
        ),
        Binding("w", "watch_run", "Build", id="result.log", tooltip="Show its stages and log"),
        Binding("c", "copy", "Copy", id="result.copy", tooltip="Copy the bundle's path"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.result: dict[str, Any] = job.result or {}
        self._rows: list[str] = []
        self._fitted = 0

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which run."""
        return f"{self.job.run.name}  ›  result"

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The bundles of the run."""
        found: list[dict[str, Any]] = self.result.get("bundles", [])
        return found

    def body(self) -> ComposeResult:
        """Verdict, table, and the rest below."""
        with VerticalScroll(id="result"):
            yield Panel("Verdict", id="verdict")
            yield Panel("What to try", id="advice")
            yield DataTable(id="fidelity", cursor_type="row", zebra_stripes=True)
            for layers in layers_of(self.job.run, self.bundles):
                yield LayerStrip(layers)
            yield Panel("Size and fidelity", id="comparison")
            yield Panel("Wrong answers", id="wrong-answers")
            yield Panel("Files", id="files")

    def on_mount(self) -> None:
        """Fill the boxes; empty ones are not shown."""
        self.refit()
        self._fill("advice", what_to_try(self.bundles))
        self.query_one("#result").focus()
        self._fill("wrong-answers", wrong_answers(self.bundles))
        self._fill("files", "\n".join(files(self.bundles)))

    def refit(self) -> None:
        """Columns and a picture that there is room for, and measures in words where there is none."""
        if self._fitted == self.app.size.width:
            return
        self._fitted = self.app.size.width
        self.query_one("#verdict", Panel).say("\n".join(self._verdicts()))
        self._fill_table()
        self._fill("comparison", self._comparison())

    def recolour(self) -> None:
        """Marks of the gates in the colours of the theme."""
        self._fill_table()

    def _fill_table(self) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        self._rows.clear()
        if any(bundle["fidelity"] for bundle in self.bundles):
            header, rows = _fitting(*table_rows(self.bundles), self.app.size.width - _AROUND)
            figures = [Text(name, justify="right") for name in header[1:-1]]
            cells = []
            targets, target = {bundle["target"] for bundle in self.bundles}, ""
            little = {bundle_name(b) for b in self.bundles if learned_little(b["fidelity"] or {})}
            full = [name for name, *_ in table_rows(self.bundles)[1]]
            for name, (shown, *row, verdict) in zip(full, rows, strict=True):
                right = [Text(figure, justify="right") for figure in row]
                gates = self._gates(verdict, little=name in little)
                cells.append([Text(shown), *right, gates])
                # An adapter's row stands below that of its bundle.
                target = name if name in targets else target
                self._rows.append(target)
            chosen = table.cursor_row
            fill(table, [Text(header[0]), *figures, Text(header[-1])], cells)
            table.move_cursor(row=chosen, animate=False, scroll=False)
        else:
            table.display = False

    def _gates(self, verdict: str, *, little: bool) -> Text:
        if verdict == "–":
            return Text(verdict)
        passed = "warning" if little else "passed"
        state = passed if verdict == "passed" else "missed"
        return cell(state, verdict, self.app.theme_variables)

    def _fill(self, panel: str, markup: str) -> None:
        box = self.query_one(f"#{panel}", Panel)
        box.display = bool(markup)
        box.say(markup)

    def _verdicts(self) -> Iterable[str]:
        for bundle in self.bundles:
            yield from bundle_lines(bundle)
            if bundle["fidelity"] and self.app.size.width < TINY:
                # The table below has no room for them.
                yield f"  {HANG}{plain_line(measures(bundle['fidelity']))}"
        if self.job.state == "damaged":
            yield marked("damaged", plain_line(self.job.error()))
        elif not self.bundles:
            yield marked("open", "This run has built no bundle. w shows how far it came.")
        seconds = self.result.get("seconds")
        if seconds is not None:
            peak = megabytes(self.result.get("peak_memory_bytes", 0))
            yield f"[$muted]built in {duration(seconds)}, peak memory {peak}[/]"

    def _comparison(self) -> str:
        """Bytes against distance: the picture of ``edgepeft compare``, and a bar for each variant."""
        try:
            entries = read_comparison(self.job.run)
        except Damaged as error:
            return marked("damaged", plain_line(error))
        from edgepeft.pipeline.compare import scatter

        drawn = ""
        # What draws it comes with the extra for exporting; the bars need nothing.
        with contextlib.suppress(ImportError):
            drawn = scatter(entries, min(90, self.app.size.width - 8), 16)
        parts = (f"{plain(drawn)}\n" if drawn else "", comparison_bars(entries))
        return "\n".join(part for part in parts if part)

    def action_try_it(self) -> None:
        """Ask the first bundle, or the first two side by side."""
        if self.bundles:
            self.wizard_app.open_chat([speaker_of(bundle) for bundle in self.bundles[:2]])

    def action_beside_base(self) -> None:
        """Ask the first bundle and its base model the same questions."""
        if self.bundles:
            speaker = speaker_of(self.bundles[0])
            self.wizard_app.open_chat([speaker, Speaker(speaker.bundle, base=True)])

    @on(DataTable.RowSelected)
    def _jump(self, event: DataTable.RowSelected) -> None:
        self.show_layers(self._rows[event.cursor_row])

    def action_layers(self) -> None:
        """Go to the layers, or from those of one bundle to those of the next."""
        strips = list(self.query(LayerStrip))
        at = next((i for i, strip in enumerate(strips) if strip.has_focus), -1)
        self.show_layers(strips[(at + 1) % len(strips)].rounding.name if strips else "")

    def show_layers(self, target: str) -> None:
        """Go to the layers of a bundle, or to the first that are known."""
        strips = list(self.query(LayerStrip))
        if not strips:
            self.notify(NO_LAYERS)
            return
        wanted = next((strip for strip in strips if strip.rounding.name == target), strips[0])
        wanted.focus()
        wanted.scroll_visible(animate=False)

    def action_watch_run(self) -> None:
        """Show how it was built."""
        self.wizard_app.open(f"run:{self.job.run}")

    def action_copy(self) -> None:
        """Put the first bundle's folder into the clipboard."""
        if self.bundles:
            self.app.copy_to_clipboard(self.bundles[0]["path"])
            self.notify(f"Copied: {self.bundles[0]['path']}", markup=False)


_SHORTEST_NAME = 14
_SPARED = (
    *("top-1", "recovery", "macro F1", "span F1", "least cosine", "MB", "tok/s", "texts/s"),
    *("generic KL", "agreement", "retrieval", "task KL", "cosine", "accuracy", "exact match"),
)
"""Columns that give way where the table is wider than its place, the first of them first."""


def _fitting(
    header: list[str], rows: list[list[str]], width: int
) -> tuple[list[str], list[list[str]]]:
    """The table without what can be spared, if it would not fit into ``width``: the gates must be seen."""
    kept = list(range(len(header)))
    # A third of the width is enough to tell models by.
    names = [cut(row[0], max(_SHORTEST_NAME, width // 3)) for row in rows]
    rows = [[name, *row[1:]] for name, row in zip(names, rows, strict=True)]

    def needed() -> int:
        # Every cell has a blank on either side, and a gate's verdict a mark.
        columns = ([header[index], *(row[index] for row in rows)] for index in kept)
        return sum(max(map(len, column)) + 2 for column in columns) + 2

    for name in _SPARED:
        if needed() > width and name in header:
            kept.remove(header.index(name))
    return [header[index] for index in kept], [[row[index] for index in kept] for row in rows]
