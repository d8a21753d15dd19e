"""What a build made: is it the model that was trained, what is in the folder, and ways to try it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable

from edgepeft.cli.progress import duration
from edgepeft.cli.tables import megabytes
from edgepeft.comparison import RECORD as COMPARISON
from edgepeft.comparison import vocabulary_of
from edgepeft.fidelity.report import number, table_rows
from edgepeft_tui.jobs import Job
from edgepeft_tui.layers import layers_of
from edgepeft_tui.widgets.conversation import Speaker, speaker_of
from edgepeft_tui.widgets.layer_strip import LayerStrip
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import HANG, cell, mark, marked, near, plain, size

_WIDE_ENOUGH = 96
"""Cells in which every column of the fidelity table has room."""


class ResultScreen(Page):
    """The fidelity table with its gates, the files, what went wrong, a comparison if there is one."""

    help = (
        "Is the bundle the model that was trained? The table says so in figures, the gates in "
        "words. Enter on a row, or l, leads to the layers that rounding has moved most."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("t", "try_it", "Try it", id="result.try"),
        Binding("b", "beside_base", "Base", id="result.base", tooltip="Ask bundle and bare base"),
        Binding(
            "l",
            "layers",
            "Layers",
            id="result.layers",
            tooltip="Which layers rounding has moved most",
        ),
        Binding("w", "watch_run", "Build", id="result.log", tooltip="Its stages and its log"),
        Binding("c", "copy", "Copy", id="result.copy", tooltip="The bundle's path"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.result: dict[str, Any] = job.result or {}
        self._rows: list[str] = []

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
            yield DataTable(id="fidelity", cursor_type="row", zebra_stripes=True)
            for layers in layers_of(self.job.run, self.bundles):
                yield LayerStrip(layers)
            yield Panel("Sizes against fidelity", id="comparison")
            yield Panel("Answers that differ", id="wrong-answers")
            yield Panel("Files", id="files")

    def on_mount(self) -> None:
        """Fill the boxes; those with nothing to say stay away."""
        self.query_one("#verdict", Panel).say("\n".join(self._verdicts()))
        table: DataTable[str | Text] = self.query_one(DataTable)
        if any(bundle["fidelity"] for bundle in self.bundles):
            header, rows = _fitting(*table_rows(self.bundles), self.app.size.width)
            figures = [Text(name, justify="right") for name in header[1:-1]]
            table.add_columns(header[0], *figures, header[-1])
            targets, target = {bundle["target"] for bundle in self.bundles}, ""
            for name, *row, verdict in rows:
                right = [Text(figure, justify="right") for figure in row]
                table.add_row(Text(name), *right, self._gates(verdict))
                # An adapter's row stands below that of its bundle.
                target = name if name in targets else target
                self._rows.append(target)
        else:
            table.display = False
        self.query_one("#result").focus()
        self._fill("comparison", self._comparison())
        self._fill("wrong-answers", _wrong(self.bundles))
        self._fill("files", "\n".join(_files(self.bundles)))

    def _gates(self, verdict: str) -> Text:
        if verdict == "–":
            return Text(verdict)
        state = "passed" if verdict == "passed" else "missed"
        return cell(state, verdict, self.app.theme_variables)

    def _fill(self, panel: str, markup: str) -> None:
        box = self.query_one(f"#{panel}", Panel)
        box.display = bool(markup)
        box.say(markup)

    def _verdicts(self) -> Iterable[str]:
        for bundle in self.bundles:
            name, gates = bundle.get("cell", bundle["target"]), bundle["gates"]
            if gates == "passed":
                yield f"{mark('passed')} [b]{name}[/b] answers as the model that was trained"
            elif gates is None:
                yield f"{mark('open')} [b]{name}[/b] was not measured"
            else:
                yield f"{mark('missed')} [b]{name}[/b] does not hold what was asked:"
                yield from (f"    {HANG}{plain(gate)}" for gate in gates)
                yield "    [$foreground 60%]l shows which layers rounding has moved most[/]"
            for adapter in bundle.get("adapters", ()):
                if adapter["gates"] == "passed":
                    yield f"  {mark('passed')} with the adapter {plain(adapter['name'])} too"
        if not self.bundles:
            yield marked("open", "this run has built no bundle; w shows how far it came")
        seconds = self.result.get("seconds")
        if seconds is not None:
            peak = megabytes(self.result.get("peak_memory_bytes", 0))
            yield f"[$foreground 60%]built in {duration(seconds)}, at most {peak} of memory[/]"

    def _comparison(self) -> str:
        """Bytes against distance: the picture of ``edgepeft compare``, and a bar for each variant."""
        try:
            read = json.loads((self.job.run / COMPARISON).read_text(encoding="utf-8"))
            entries = read["entries"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        from edgepeft.comparison import scatter

        drawn = ""
        # What draws it comes with the extra for exporting; the bars need nothing.
        with contextlib.suppress(ImportError):
            drawn = scatter(entries, min(90, self.app.size.width - 8), 16)
        parts = (f"{plain(drawn)}\n" if drawn else "", comparison_bars(entries))
        return "\n".join(part for part in parts if part)

    def action_try_it(self) -> None:
        """Chat with the bundle under the cursor; with all of them where there are two."""
        if self.bundles:
            self.wizard_app.open_chat([speaker_of(bundle) for bundle in self.bundles[:2]])

    def action_beside_base(self) -> None:
        """Chat with the first bundle and with the base it began as, on the same prompts."""
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
            self.notify("only calibrated rounding (gptq) measures layers; this run has none")
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
            self.notify(f"copied: {self.bundles[0]['path']}", markup=False)


def _fitting(
    header: list[str], rows: list[list[str]], width: int
) -> tuple[list[str], list[list[str]]]:
    """The table without what can be spared where it would not fit: the gates must be seen."""
    spared = {"top-1", "recovery"} if width < _WIDE_ENOUGH else set()
    kept = [index for index, name in enumerate(header) if name not in spared]
    return [header[index] for index in kept], [[row[index] for index in kept] for row in rows]


def comparison_bars(entries: Sequence[Mapping[str, Any]]) -> str:
    """The variants of a comparison, smallest first, each with its distance from the reference as a bar."""
    measured = [entry for entry in entries if "fidelity" in entry]
    if not measured:
        return ""
    measured.sort(key=lambda entry: int(entry["bytes"]))
    distance = vocabulary_of(measured).distance
    most = max(distance.of(entry["fidelity"]) for entry in measured) or 1.0
    names = [" ".join(str(value) for value in entry["values"].values()) for entry in measured]
    width = min(28, max(map(len, names)))
    numbers = [entries.index(entry) + 1 for entry in measured]
    lines = [f"[$foreground 60%] # {'variant':<{width}}      size  {distance.title}[/]"]
    for index, name, entry in zip(numbers, names, measured, strict=True):
        loss = distance.of(entry["fidelity"])
        bar = "█" * max(1, round(24 * loss / most))
        gate = "passed" if entry["gates"] == "passed" else "missed"
        lines.append(
            f"{index:>2} {plain(name[:width]):<{width}} {megabytes(entry['bytes']):>9}  [$primary]{bar}[/] "
            f"{number(loss)} {mark(gate)}"
        )
    return "\n".join(lines)


def _wrong(bundles: Sequence[Mapping[str, Any]]) -> str:
    """Answers of bundles, and of the adapters in them, that are not the reference's; a few of each."""
    lines: list[str] = []
    for bundle in bundles:
        parts = [(bundle["target"], bundle)]
        parts += [(f"{bundle['target']}, {a['name']}", a) for a in bundle.get("adapters", ())]
        for name, part in parts:
            for answer in ((part["fidelity"] or {}).get("wrong") or [])[:3]:
                lines.append(f"[$foreground 60%]{plain(name)}, {plain(answer['where'])}[/]")
                lines.append(f"  wanted {HANG}{plain(answer['wanted'])}")
                lines.append(f"  got    {HANG}{plain(answer['got'])}")
    return "\n".join(lines)


def _files(bundles: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for bundle in bundles:
        folder = Path(bundle["path"])
        yield f"[b]{plain(near(folder))}[/b]  {megabytes(bundle['bytes'])}"
        if not folder.is_dir():
            yield f"  {mark('failed')} the folder is gone"
            continue
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            bytes_of = size(path.stat().st_size)
            yield f"  [$foreground 60%]{bytes_of:>10}[/]  {HANG}{plain(path.relative_to(folder))}"
