"""Step 2: which rows train, which rows judge; and the rows as the model will see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual import work
from textual.app import ComposeResult

from edgepeft.data.formats import SUFFIXES
from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.steps.base import TEXTS, Step
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import HANG, marked, plain


class DataStep(Step):
    """Training and test rows, looked over by the checks of a build."""

    title = "Data"
    help = (
        "Training rows teach, test rows judge: no row should be in both.\n\n"
        "JSONL, JSON, CSV, TSV or Parquet; rows as messages, prompt and completion, instruction and output, "
        "or text. Other column names are mapped with data.columns. Below, what is learned of a row stands "
        "between » and «, in colour where there is colour; the rest is the prompt."
    )

    def content(self) -> ComposeResult:
        """The fields, what the files hold, some rows, the checks."""
        yield from self.rows(
            "data.",
            simple=["data.train", "data.test", "data.system", "data.max_length"],
            browse=["data.train", "data.test", "data.generic"],
        )
        yield from self.rows("task")
        yield Panel("What the model will see", id="rows")
        yield Panel("Checks", id="checks")

    def on_field_row_browse(self, event: FieldRow.Browse) -> None:
        """Pick a file."""
        event.stop()
        suffixes = TEXTS if event.row.field.key == "data.generic" else SUFFIXES
        self.pick_path(event.row, suffixes, folders=False)

    def filled(self) -> None:
        """Say what will be here."""
        self.query_one("#rows", Panel).say("[$foreground 60%]Name a training file above.[/]")
        self.query_one("#checks", Panel).say("[$foreground 60%]They begin with the first file.[/]")
        self._seen = ""

    def enter(self) -> None:
        """Look at the data that is named."""
        super().enter()
        self.look()

    def changed(self) -> None:
        """Other data: look at it as well."""
        super().changed()
        self.look()

    def on_field_row_changed(self, event: FieldRow.Changed) -> None:
        """Look at what was typed; the wizard takes it into the draft first."""
        self.set_timer(0.5, self.look)

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Read and check the rows in a process of its own."""
        if not self.ready:
            return
        draft = self.draft
        wanted = draft.yaml()
        if not (draft.get("data.train") or draft.get("data.test")) or wanted == self._seen:
            return
        rows, checks = self.query_one("#rows", Panel), self.query_one("#checks", Panel)
        checks.say("[$foreground 60%]reading the rows as the model will …[/]")
        try:
            facts = await ask("data", "-", "--rows", "3", folder=draft.folder, text=wanted)
        except EdgepeftError as error:
            checks.say(
                marked("invalid", f"[$text-error]{plain(str(error).removeprefix('stdin: '))}[/]")
            )
            rows.say("[$foreground 60%]once the files can be read[/]")
            return
        self._seen = wanted
        rows.say(rows_markup(facts, draft.get("data.columns") or {}))
        checks.say(checks_markup(facts))


def rows_markup(facts: Mapping[str, Any], mapping: Mapping[str, str]) -> str:
    """Layout of the files and the first rows, the learned part of each marked and coloured.

    ``mapping`` is what the recipe says of columns: our name to theirs.
    """
    lines = []
    read_as = "".join(f"; {ours} is their {theirs}" for ours, theirs in mapping.items())
    for split, layout in facts["files"].items():
        lines.append(
            f"[$foreground 60%]{split:<6}[/]{HANG}{layout['rows']} rows, {layout['format']}, shape "
            f"{layout['shape']}, columns {plain(', '.join(layout['columns']) + read_as)}"
        )
    for row in facts["rows"]:
        lines.append(f"\n[$foreground 60%]{plain(row['where'])}, {row['tokens']} tokens[/]")
        text = ""
        for piece in row["pieces"]:
            shown = plain(piece["text"].rstrip("\n") if piece["learned"] else piece["text"])
            if piece["learned"] and text and facts.get("mode") not in (None, "chat", "plain"):
                text += " "  # a label, not a text that goes on
            text += f"[b $text-success]»{shown}«[/]" if piece["learned"] else shown
        lines.append(text)
    return "\n".join(lines)


def checks_markup(facts: Mapping[str, Any]) -> str:
    """Token histogram, truncation, duplicates, overlap, and the warnings of the checks."""
    report = facts["report"]
    if report is None:
        return marked("warning", "without test rows nothing can be measured: name data.test")
    lengths = report["train_lengths"] or report["test_lengths"]
    most = max(lengths["counts"]) or 1
    lines = []
    for low, high, number in zip(
        lengths["edges"], lengths["edges"][1:], lengths["counts"], strict=False
    ):
        bar = "█" * round(24 * number / most) or ("▏" if number else "")
        lines.append(
            f"[$foreground 60%]{low + 1:>5}-{high:<5}[/] [$primary]{bar}[/] {number or ''}"
        )
    lines.append(
        f"median {lengths['median']} tokens, longest {lengths['longest']}; "
        f"{100 * report['truncated_share']:.1f} % truncated, {report['duplicates']} duplicates, "
        f"{report['overlap']} test prompts also trained on"
    )
    lines += [marked("warning", plain(warning)) for warning in report["warnings"]]
    if not report["warnings"]:
        lines.append(marked("done", "no warnings"))
    return "\n".join(lines)
