"""Step 2: which rows train, which rows judge; and the rows as the model will see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button

from edgepeft.data.column_guess import in_words
from edgepeft.data.held_out import usual_share
from edgepeft.data.template_modes import MODES
from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.draft import Draft
from edgepeft_tui.plain_text import plain, plain_line, visible_line
from edgepeft_tui.raw_recipe import step_of
from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.columns import Columns
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import HANG, marked


class DataStep(Step):
    """Training and test rows, looked over by the checks of a build."""

    title = "Data"
    help = (
        "The model learns from training rows and is measured on test rows. No row should be in both.\n\n"
        "Files are JSONL, JSON, CSV, TSV or Parquet. Rows have messages, a prompt and a completion, an "
        "instruction and an output, or a text. Where a file has other names, choose which of its columns is "
        "which; a first guess is made for you.\n\n"
        "Without a file of test rows, hold some out of the training rows: data.test is then 10% or a number of "
        "rows. In the rows below, the part that is learned is between » and «; the rest is the prompt."
    )

    def __init__(self, draft: Draft, *, id: str) -> None:
        super().__init__(draft, id=id)
        self._seen = ""
        self._rows = ("", 0)
        """The file of training rows that was looked at last, and how many rows it has."""
        self._needed: tuple[tuple[str, ...], list[str]] = ((), [])
        """What columns were needed of, and our names of them."""
        self._guessed: tuple[str, ...] = ()
        """What columns were guessed of last, which is done once: whoever takes a guess back means it."""
        self._filled: dict[str, str] = {}
        """The last guess that was filled in."""

    def content(self) -> ComposeResult:
        """The fields, what the files hold, some rows, the checks."""
        for row in self.rows(
            "data.",
            simple=["data.train", "data.test", "data.system", "data.max_length"],
        ):
            yield row
            if row.field.key == "data.test":
                with Horizontal(id="hold-out"):
                    yield Button("", id="hold-out-some", compact=True)
                yield Columns(self.draft)
        yield from self.rows("task")
        yield Panel("What the model will see", id="rows")
        yield Panel("Checks", id="checks")

    def filled(self) -> None:
        """Say what will be here."""
        self.query_one("#rows", Panel).say("[$muted]Name a training file above.[/]")
        self.query_one("#checks", Panel).say("[$muted]Shown once a file is named.[/]")
        self._seen = ""
        self._offer()

    def enter(self) -> None:
        """Look at the data that is named."""
        super().enter()
        self._offer()
        self.look()

    def changed(self) -> None:
        """Other data: look at it as well."""
        super().changed()
        self._offer()
        self.look()

    def typed(self, key: str) -> None:
        """Look at what was typed, once the keys rest."""
        self._offer()
        self.set_timer(0.5, self.look)

    def _share(self) -> str | None:
        """How much to offer to hold out of the training rows; None where there are none, or test rows already."""
        file, rows = self._rows
        if not rows or file != self.draft.get("data.train") or self.draft.get("data.test"):
            return None
        return usual_share(rows, carried=not self.draft.trains)

    def _offer(self) -> None:
        """Offer to hold test rows out, where there are none yet and it is known of how many."""
        share = self._share()
        for box in self.query("#hold-out"):
            box.display = share is not None
            if share is not None:
                part = share.replace("%", " %")
                words = f"Hold out {part} of the {self._rows[1]} rows"
                box.query_one(Button).label = Text(words)

    @on(Button.Pressed, "#hold-out-some")
    def _hold_out(self, event: Button.Pressed) -> None:
        event.stop()
        share = self._share()
        if share is None:
            return
        self.draft.put("data.test", share)
        row = self.query_one("#row-data--test", FieldRow)
        row.show(share)
        row.begin()
        self.changed()

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Read and check the rows in a process of its own."""
        if not self.ready:
            return
        draft = self.draft
        # An error of another step doesn't keep the rows from being looked at.
        wanted = draft.yaml(without=self._broken())
        if not (draft.get("data.train") or draft.get("data.test")):
            self.filled()
            return
        if wanted == self._seen:
            return
        rows, checks = self.query_one("#rows", Panel), self.query_one("#checks", Panel)
        # What is shown is about to be replaced, also where another look cuts this one off.
        self._seen = ""
        checks.say("[$muted]reading the rows …[/]")
        try:
            facts = await ask("data", "-", "--rows", "3", folder=draft.folder, text=wanted)
        except EdgepeftError as error:
            if self._stands and draft.yaml(without=self._broken()) == wanted:
                said = plain_line(str(error).removeprefix("stdin: "))
                checks.say(marked("invalid", f"[$text-error]{said}[/]"))
                rows.say("[$muted]Shown once the rows can be read.[/]")
                if self._needed[0] != self._source():
                    self._offer_columns((), ())
                self._found(str(error), ())
            return
        if not self._stands or draft.yaml(without=self._broken()) != wanted:
            return
        if "error" in facts and self._fill(facts["guess"]):
            # Another look takes the place of this one, once this one has ended.
            self.call_later(self.changed)
            return
        self._note_file(facts)
        if "error" not in facts:
            self._seen = wanted
            rows.say(rows_markup(facts, draft.get("data.columns")))
            checks.say(checks_markup(facts))
            self._found("", (facts["report"] or {}).get("warnings", ()))
        else:
            chooses = facts["needed"] and not draft.get("data.columns")
            words = "Choose the columns" if chooses else "Shown once the rows can be read"
            rows.say(f"[$muted]{words}.[/]")
            checks.say(marked("invalid", f"[$text-error]{plain_line(facts['error'])}[/]"))
            self._found(facts["error"], ())

    def _source(self) -> tuple[str, ...]:
        """What decides how columns are guessed: the file, the model, the task."""
        file = self.draft.text("data.train") or self.draft.text("data.test")
        return (file, self.draft.text("model"), self.draft.text("task"))

    def _note_file(self, facts: Mapping[str, Any]) -> None:
        """Keep how many rows the file has, and offer its columns where they are or must be chosen."""
        files = facts.get("files", {})
        file = facts["file"] if "error" in facts else files.get("train") or files["test"]
        if "error" in facts or "train" in files:
            self._rows = (self.draft.text("data.train"), file["rows"])
        self._offer()
        said = self.draft.get("data.columns")
        named = list(map(str, said)) if isinstance(said, Mapping) else []
        if "error" in facts or named:
            # In the order in which they were first offered, so that none moves under the cursor.
            source, before = self._needed
            kept = before if source == self._source() else []
            named = list(dict.fromkeys([*kept, *facts.get("needed", ()), *named]))
        self._needed = (self._source(), named)
        self._offer_columns(file["columns"], named)

    def _offer_columns(self, names: Iterable[str], ours: Iterable[str]) -> None:
        offer = self.query_one(Columns).offer(names, ours)
        self.run_worker(offer, exclusive=True, group="parts")

    def _fill(self, guess: Mapping[str, str]) -> bool:
        """Take a guess at the columns into the draft, unless it says what they are; whether it is another now."""
        said = self.draft.get("data.columns")
        if self._guessed == self._source() or (said and said != self._filled):
            return False
        self._guessed = self._source()
        if guess == (said or {}):
            return False
        self._filled = dict(guess)
        self.draft.put("data.columns", dict(guess) or None)
        if guess:
            said = visible_line(in_words(guess))
            self.notify(f"{said}. Others can be chosen above the rows.", markup=False)
        return True

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
    read_as = f"; {in_words(mapping)}" if isinstance(mapping, Mapping) and mapping else ""
    for split, layout in facts["files"].items():
        columns = plain_line(", ".join(map(str, layout["columns"])) + read_as)
        lines.append(
            f"[$muted]{plain_line(split):<6}[/]{HANG}{layout['rows']} rows, "
            f"{plain_line(layout['format'])}, shape {plain_line(layout['shape'])}, columns {columns}"
        )
    if "test" not in facts["files"] and facts["report"] is not None:
        lines.append(
            f"[$muted]test  [/]{HANG}{facts['report']['test_rows']} of these rows, held out"
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
        return marked(
            "warning",
            "Without test rows nothing can be measured. Name data.test, or hold some out.",
        )
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
