"""Step 2: which rows train, which rows judge; and the rows as the model will see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textual import work
from textual.app import ComposeResult

from edgepeft.data.formats import SUFFIXES
from edgepeft.data.template_modes import MODES
from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.plain_text import plain, plain_line
from edgepeft_tui.raw_recipe import step_of
from edgepeft_tui.steps.base import TEXTS, Step
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import HANG, marked


class DataStep(Step):
    """Training and test rows, looked over by the checks of a build."""

    title = "Data"
    help = (
        "The model learns from training rows and is measured on test rows. No row should be in both.\n\n"
        "Files are JSONL, JSON, CSV, TSV or Parquet. Rows have messages, a prompt and a completion, an "
        "instruction and an output, or a text. data.columns maps other names of columns. In the rows below, "
        "the part that is learned is between » and «; the rest is the prompt."
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
        self.query_one("#rows", Panel).say("[$muted]Name a training file above.[/]")
        self.query_one("#checks", Panel).say("[$muted]Shown once a file is named.[/]")
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
        # An error of another step doesn't keep the rows from being looked at.
        wanted = draft.yaml(without=self._broken())
        if not (draft.get("data.train") or draft.get("data.test")) or wanted == self._seen:
            return
        rows, checks = self.query_one("#rows", Panel), self.query_one("#checks", Panel)
        checks.say("[$muted]reading the rows …[/]")
        try:
            facts = await ask("data", "-", "--rows", "3", folder=draft.folder, text=wanted)
        except EdgepeftError as error:
            if self._stands and draft.yaml(without=self._broken()) == wanted:
                said = plain_line(str(error).removeprefix("stdin: "))
                checks.say(marked("invalid", f"[$text-error]{said}[/]"))
                rows.say("[$muted]Shown once the files can be read.[/]")
                self._found(str(error), ())
            return
        if self._stands and draft.yaml(without=self._broken()) == wanted:
            self._seen = wanted
            rows.say(rows_markup(facts, draft.get("data.columns")))
            checks.say(checks_markup(facts))
            self._found("", (facts["report"] or {}).get("warnings", ()))

    def _broken(self) -> set[str]:
        """Top-level keys of other steps that have errors."""
        own = (self.title, "Model")
        return {key.partition(".")[0] for key in self.draft.problems() if step_of(key) not in own}

    def _found(self, error: str, warnings: Iterable[str]) -> None:
        # Errors of other keys are other steps', and found by the plan.
        self.draft.note_look(self.title, error, warnings)
        self.wizard.show_errors()


def rows_markup(facts: Mapping[str, Any], mapping: object) -> str:
    """Layout of the files and the first rows, the learned part of each marked and coloured.

    ``mapping`` is what the recipe says of columns: our name to theirs.
    """
    lines = []
    renamed = mapping.items() if isinstance(mapping, Mapping) else ()
    read_as = "".join(f"; {ours} is read from {theirs}" for ours, theirs in renamed)
    for split, layout in facts["files"].items():
        columns = plain_line(", ".join(map(str, layout["columns"])) + read_as)
        lines.append(
            f"[$muted]{plain_line(split):<6}[/]{HANG}{layout['rows']} rows, "
            f"{plain_line(layout['format'])}, shape {plain_line(layout['shape'])}, columns {columns}"
        )
    for row in facts["rows"]:
        lines.append(f"\n[$muted]{plain_line(row['where'])}, {row['tokens']} tokens[/]")
        text = ""
        for piece in row["pieces"]:
            shown = plain(piece["text"].rstrip("\n") if piece["learned"] else piece["text"])
            if piece["learned"] and text and facts.get("mode") not in (None, *MODES):
                text += " "  # a label, not a text that goes on
            text += f"[b $text-success]»{shown}«[/]" if piece["learned"] else shown
        lines.append(text)
    return "\n".join(lines)


def checks_markup(facts: Mapping[str, Any]) -> str:
    """Token histogram, truncation, duplicates, overlap, and the warnings of the checks."""
    report = facts["report"]
    if report is None:
        return marked("warning", "Without test rows nothing can be measured. Name data.test.")
    lengths = report["train_lengths"] or report["test_lengths"]
    most = max(lengths["counts"]) or 1
    lines = []
    for low, high, number in zip(
        lengths["edges"], lengths["edges"][1:], lengths["counts"], strict=False
    ):
        bar = "█" * round(24 * number / most) or ("▏" if number else "")
        lines.append(f"[$muted]{low + 1:>5}-{high:<5}[/] [$bar]{bar}[/] {number or ''}")
    lines.append(
        f"median {lengths['median']} tokens, longest {lengths['longest']}; "
        f"{100 * report['truncated_share']:.1f} % truncated, {report['duplicates']} duplicates, "
        f"{report['overlap']} test prompts are also training prompts"
    )
    lines += [marked("warning", plain_line(warning)) for warning in report["warnings"]]
    if not report["warnings"]:
        lines.append(marked("done", "no warnings"))
    return "\n".join(lines)
