"""The first screen: what one can do, and what is going on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from edgepeft_tui.draft import Draft
from edgepeft_tui.home_words import next_step, run_prompt
from edgepeft_tui.job import ACTIVE, STOPPING
from edgepeft_tui.past_training import past_training
from edgepeft_tui.plain_text import plain_line, visible_line
from edgepeft_tui.verdicts import run_verdict, state_words
from edgepeft_tui.widgets.dialogs import Question
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.widgets.machine import MachinePanel
from edgepeft_tui.widgets.page import Page
from edgepeft_tui.words import HANG, mark

WELCOME = (
    "[b]Fine-tune a model, build it for your device, "
    "and measure that it still answers the same.[/b]"
)
SHOWN_DRAFTS = 3
"""Drafts that stand in the menu before anybody asks for all of them."""
_LATEST_RUNS = 12


class HomeScreen(Page):
    """Where the app begins."""

    heading = "home"
    help = (
        "Start here. The demo builds a small model in minutes. New run asks step by step. "
        "Running and stopped runs are listed first, then the drafts of recipes that were not run."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding(
            *("g", "next", "Go on"), id="home.next", tooltip="Do what the line on top proposes"
        ),
        Binding("n", "go('new')", "New run", id="home.new"),
        Binding("r", "go('runs')", "Runs", id="home.runs"),
        Binding("t", "go('targets')", "Targets", id="home.targets"),
        Binding("d", "go('doctor')", "Doctor", id="home.doctor"),
        Binding(
            *("x,delete", "discard", "Discard"),
            id="home.discard",
            tooltip="Forget the draft under the cursor; a recipe that was saved stays",
        ),
        Binding("q", "app.quit", "Quit", id="home.quit"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.next = next_step([])
        self._drafts: dict[str, Draft] = {}
        self._all_drafts = False
        self._runs: list[dict[str, Any]] = []
        self._at_work: list[tuple[Path, str]] = []
        self._losses: dict[str, list[float]] = {}

    def body(self) -> ComposeResult:
        """The choices, and beside them this machine and its runs where there is room."""
        with Container(id="home"):
            with Vertical(id="choices"):
                yield Static(WELCOME, id="welcome")
                yield Said("", id="next")
                yield OptionList(id="menu")
            with Vertical(id="latest-runs"):
                yield OptionList(id="latest")
                yield Static("No runs yet. The demo is a good first one.", id="no-runs")
            yield MachinePanel("This machine", id="machine")

    def on_mount(self) -> None:
        """Begin on the menu."""
        self.query_one("#latest-runs").border_title = "Latest runs"
        self.refresh_runs()
        self.query_one("#menu").focus()

    def on_screen_resume(self) -> None:
        """Show what has changed since one was here."""
        if self.composed:
            self.refresh_runs()
            machine = self.query_one(MachinePanel)
            if machine.said:
                machine.look()

    def refit(self) -> None:
        """The sparklines take the room there is."""
        self._show_latest()

    def tick(self) -> None:
        """Say how far the runs at work have come; once one has ended, everything."""
        at_work = [run for run in self._runs if run.get("state") in ACTIVE]
        if self._at_work != self._now_at_work():
            self.refresh_runs()
            return
        menu = self.query_one("#menu", OptionList)
        for run in at_work:
            menu.replace_option_prompt(_place(run), self._watched(run))
        if at_work:
            self._show_latest()

    def refresh_runs(self) -> None:
        """List the runs, those that are running first."""
        app = self.wizard_app
        self._runs = runs = app.known_runs()
        self._at_work = self._now_at_work()
        kept = app.drafts.kept()
        self._drafts = {f"draft:{draft.kept_as}": draft for draft in kept}
        newest = (kept[0].name, kept[0].kept_as, app.drafts.moment(kept[0])) if kept else None
        self.next = next_step(runs, newest)
        self.query_one("#next", Said).say(
            f"[$text-accent]Next:[/] {HANG}{self.next.words} [$muted](g)[/]"
        )
        menu = self.query_one("#menu", OptionList)
        before = menu.highlighted
        options = [*self._of_runs(), *self._of_drafts()]
        options += [
            _option("", "Try the demo", "A small model learns to control a smart home", "demo"),
            _option("", "New run", "Choose a model, data, a method and devices", "new"),
            _option("", "Runs", f"{len(runs)} on this machine", "runs"),
            _option("", "Targets", "The devices a bundle can be built for", "targets"),
            _option("", "Doctor", "What is installed, and what is missing", "doctor"),
        ]
        menu.clear_options()
        menu.add_options(options)
        menu.highlighted = min(before or 0, len(options) - 1)
        self._show_latest()
        self.read_losses()

    def _now_at_work(self) -> list[tuple[Path, str]]:
        return [(job.run, job.state) for job in self.wizard_app.jobs.active()]

    def _of_runs(self) -> Iterator[Option]:
        """Choices for what is running, and for what was stopped last."""
        for run in self._runs:
            if run.get("state") in ACTIVE:
                yield Option(self._watched(run), _place(run))
        stopped = next((r for r in self._runs if r.get("state") in ("interrupted", "killed")), None)
        if stopped is not None:
            said = state_words(stopped["state"])
            yield _option("stopped", f"Resume {stopped['name']}", said, _place(stopped))

    def _of_drafts(self) -> Iterator[Option]:
        """Choices for the drafts, the latest few until all are asked for."""
        shown = len(self._drafts) if self._all_drafts else SHOWN_DRAFTS
        for place, draft in islice(self._drafts.items(), shown):
            moment = self.wizard_app.drafts.moment(draft)
            changed = f", {datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}" if moment else ""
            about = f"{draft.get('model') or 'no model yet'}{changed}"
            yield _option("", f"Continue {draft.name}", f"draft: {about}", place)
        if (more := len(self._drafts) - shown) > 0:
            yield _option("", "All drafts", f"{more} more", "drafts")

    def _watched(self, run: Mapping[str, Any]) -> str:
        """A run whose process is there: what it is about."""
        stage = self.wizard_app.jobs.watch(Path(run["path"])).progress.running()
        state, words = run_verdict(run)
        if state != STOPPING:
            doing = f"{stage.name} {stage.step}/{stage.total or '?'}" if stage else "starting"
            words = f"running: {doing}"
        return _prompt(state, f"Watch {run['name']}", words)

    @work(exclusive=True, group="losses")
    async def read_losses(self) -> None:
        """Read the losses of the latest runs in a thread: a long training has left a long history."""
        for run in self._runs[:_LATEST_RUNS]:
            path = str(run["path"])
            if path not in self._losses or run.get("state") in ACTIVE:
                curves, _ = await asyncio.to_thread(past_training, Path(path))
                self._losses[path] = [loss for _, loss in curves.get("loss", ())]
        self._show_latest()

    def _show_latest(self) -> None:
        """The latest runs, as many as there is room for."""
        latest = self.query_one("#latest", OptionList)
        latest.display = bool(self._runs)
        self.query_one("#no-runs").display = not self._runs
        prompts = {
            _place(run): run_prompt(run, self._loss(run), latest.content_size.width - 1)
            for run in self._runs[:_LATEST_RUNS]
        }
        if [option.id for option in latest.options] != list(prompts):
            latest.clear_options()
            latest.add_options([Option(prompt, place) for place, prompt in prompts.items()])
            return
        for place, prompt in prompts.items():
            if latest.get_option(place).prompt != prompt:
                latest.replace_option_prompt(place, prompt)

    def _loss(self, run: Mapping[str, Any]) -> list[float]:
        if run.get("state") in ACTIVE:
            progress = self.wizard_app.jobs.watch(Path(run["path"])).progress
            return [loss for _, loss in progress.curves.get("loss", ())]
        return self._losses.get(str(run["path"]), [])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a draft can be discarded."""
        return action != "discard" or self._chosen_draft is not None

    @property
    def _chosen_draft(self) -> Draft | None:
        """The draft under the cursor of the menu."""
        menu = self.query_one("#menu", OptionList) if self.composed else None
        option = menu.highlighted_option if menu is not None else None
        return self._drafts.get(str(option.id)) if option is not None else None

    @on(OptionList.OptionHighlighted, "#menu")
    def _other_choice(self) -> None:
        self.refresh_bindings()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        """Go where the choice leads."""
        if event.option_id == "drafts":
            self._all_drafts = True
            self.refresh_runs()
        else:
            self.action_go(str(event.option_id))

    def action_go(self, place: str) -> None:
        """Open a screen by its name in the menu."""
        self.wizard_app.open(place)

    def action_next(self) -> None:
        """Do what the line on top proposes."""
        self.wizard_app.open(self.next.place)

    def action_discard(self) -> None:
        """Forget the draft under the cursor, if the user really means it."""
        draft = self._chosen_draft
        if draft is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.wizard_app.drafts.discard(draft)
                self.refresh_runs()

        question = (
            f"Discard the draft {visible_line(draft.name)}? What was not saved of it is gone."
        )
        self.app.push_screen(Question(question, "Discard"), answered)

    def action_leave(self) -> None:
        """There is nothing before this screen."""


def _place(run: Mapping[str, Any]) -> str:
    return f"run:{run['path']}"


def _option(state: str, title: str, about: str, place: str) -> Option:
    return Option(_prompt(state, title, about), place)


def _prompt(state: str, title: str, about: str) -> str:
    """A choice of two lines: its title behind the mark of a state, if it has one, and what it is about."""
    sign = f"{mark(state)} " if state else ""
    return f"{sign}[b]{plain_line(title)}[/b]\n  [$muted]{plain_line(about)}[/]"
