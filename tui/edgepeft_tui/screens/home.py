"""The first screen: what one can do, and what is going on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from edgepeft_tui.job import ACTIVE, STOPPING
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.verdicts import run_verdict, state_words
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import HANG, mark, pairs

WELCOME = (
    "[b]Fine-tune a model, build it for your device,\n"
    "and measure that it still answers the same.[/b]"
)


class HomeScreen(Page):
    """Where the app begins."""

    heading = "home"
    help = (
        "Start here. The demo builds a small model in minutes. New run asks step by step. "
        "Running and stopped runs are listed first."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding("n", "go('new')", "New run", id="home.new"),
        Binding("r", "go('runs')", "Runs", id="home.runs"),
        Binding("t", "go('targets')", "Targets", id="home.targets"),
        Binding("d", "go('doctor')", "Doctor", id="home.doctor"),
        Binding("q", "app.quit", "Quit", id="home.quit"),
    ]

    def body(self) -> ComposeResult:
        """The choices, and beside them this machine's runs where there is room."""
        with Horizontal():
            with Vertical(id="choices"):
                yield Static(WELCOME, id="welcome")
                yield OptionList(id="menu")
            with Vertical(id="aside"):
                yield Panel("Latest runs", id="latest")
                yield Panel("This machine", id="machine")

    def on_mount(self) -> None:
        """Begin on the menu."""
        self.refresh_runs()
        self.query_one("#menu").focus()
        self.look_at_machine()

    def on_screen_resume(self) -> None:
        """Show what has changed since one was here."""
        if self.composed:
            self.refresh_runs()

    def refresh_runs(self) -> None:
        """List the runs, those that are running first."""
        app = self.wizard_app
        runs = app.known_runs()
        menu = self.query_one("#menu", OptionList)
        before = menu.highlighted
        options = [self._at_work(run) for run in runs if run.get("state") in ACTIVE]
        stopped = next((r for r in runs if r.get("state") in ("interrupted", "killed")), None)
        if stopped is not None:
            said = state_words(stopped["state"])
            options.append(_option("stopped", f"Resume {stopped['name']}", said, _place(stopped)))
        kept = app.kept_draft()
        if kept is not None:
            about = f"{kept.name}: {kept.get('model') or 'no model yet'}"
            options.append(_option("", "Continue draft", about, "draft"))
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
        lines = []
        for run in runs[:8]:
            state, words = run_verdict(run)
            began = str(run.get("started", ""))[:16].replace("T", " ")
            about = plain_line(f"{words}, {began}" if began else words)
            name = plain_line(run.get("name", ""))
            lines.append(f"{mark(state)} {HANG}{name}  [$muted]{about}[/]")
        self.query_one("#latest", Panel).say(
            "\n".join(lines) or "[$muted]No runs yet. The demo is a good first one.[/]"
        )

    def _at_work(self, run: Mapping[str, Any]) -> Option:
        """A run whose process is there: what it is about."""
        job = self.wizard_app.jobs.watch(Path(run["path"]))
        stage = job.progress.running()
        state, words = run_verdict(run)
        if state != STOPPING:
            doing = f"{stage.name} {stage.step}/{stage.total or '?'}" if stage else "starting"
            words = f"running: {doing}"
        return _option(state, f"Watch {run['name']}", words, _place(run))

    @work(thread=True, exclusive=True)
    def look_at_machine(self) -> None:
        """Ask for the hardware in a thread: a driver's tool may take its time."""
        from edgepeft.utils.environment import hardware
        from edgepeft.utils.quantities import megabytes

        found = hardware()
        lines = [
            ("processor", f"{found['processor']}, {found['cores']} cores"),
            ("memory", f"{megabytes(found['free_memory_bytes'])} free"),
            ("disk", f"{megabytes(found['free_disk_bytes'])} free"),
            ("gpu", "; ".join(found["gpus"]) or "none found"),
        ]
        self.app.call_from_thread(self.query_one("#machine", Panel).say, pairs(lines, 10))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go where the choice leads."""
        self.action_go(str(event.option_id))

    def action_go(self, place: str) -> None:
        """Open a screen by its name in the menu."""
        self.wizard_app.open(place)

    def action_leave(self) -> None:
        """There is nothing before this screen."""


def _place(run: Mapping[str, Any]) -> str:
    return f"run:{run['path']}"


def _option(state: str, title: str, about: str, place: str) -> Option:
    """A choice of two lines: its title behind the mark of a state, if it has one, and what it is about."""
    sign = f"{mark(state)} " if state else ""
    return Option(f"{sign}[b]{plain_line(title)}[/b]\n  [$muted]{plain_line(about)}[/]", place)
