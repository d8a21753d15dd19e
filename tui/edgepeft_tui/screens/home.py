"""The first screen: what one can do, and what is going on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import mark, pairs, plain

WELCOME = (
    "[b]Take a fine-tuned language model to the device it must run on,\n"
    "and prove that it arrived.[/b]"
)


class HomeScreen(Page):
    """Where the app begins."""

    heading = "home"
    help = (
        "Begin here: the demo builds a small model in minutes, New run asks step by step. "
        "Runs that are at work, or were stopped, stand first."
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
        """List the runs, and first of all those that are at work."""
        app = self.wizard_app
        runs = app.known_runs()
        menu = self.query_one("#menu", OptionList)
        before = menu.highlighted
        options = []
        for record in runs:
            if record.get("state") == "running":
                job = app.jobs.watch(Path(record["path"]))
                stage = job.progress.running()
                doing = f"{stage.name} {stage.step}/{stage.total or '?'}" if stage else "starting"
                title = f"{mark('running')} [b]Watch {plain(record['name'])}[/b]"
                options.append(Option(_two(title, f"running: {doing}"), f"run:{record['path']}"))
        stopped = next((r for r in runs if r.get("state") in ("interrupted", "killed")), None)
        if stopped is not None:
            title = f"{mark('stopped')} [b]Resume {plain(stopped['name'])}[/b]"
            said = f"{stopped['state']}: goes on from what is finished"
            options.append(Option(_two(title, said), f"run:{stopped['path']}"))
        kept = app.kept_draft()
        if kept is not None:
            about = f"{kept.name}: {kept.get('model') or 'no model yet'}"
            options.append(Option(_two("[b]Go on with the draft[/b]", about), "draft"))
        options += [
            Option(
                _two("[b]Try the demo[/b]", "a small model learns to steer a smart home, here"),
                "demo",
            ),
            Option(_two("[b]New run[/b]", "model, data, method, device: step by step"), "new"),
            Option(_two("[b]Runs[/b]", f"{len(runs)} known on this machine"), "runs"),
            Option(_two("[b]Targets[/b]", "the devices a bundle can be built for"), "targets"),
            Option(_two("[b]Doctor[/b]", "what is installed here, and what is missing"), "doctor"),
        ]
        menu.clear_options()
        menu.add_options(options)
        menu.highlighted = min(before or 0, len(options) - 1)
        lines = []
        for run in runs[:8]:
            state, began = str(run.get("state", "")), str(run.get("started", ""))[:16]
            about = plain(f"{state}, {began.replace('T', ' ')}")
            lines.append(f"{mark(state)} {plain(run.get('name', ''))}  [$foreground 60%]{about}[/]")
        self.query_one("#latest", Panel).say(
            "\n".join(lines) or "[$foreground 60%]None yet. The demo is a good first one.[/]"
        )

    @work(thread=True, exclusive=True)
    def look_at_machine(self) -> None:
        """Ask for the hardware beside the key presses: a driver's tool may take its time."""
        from edgepeft.cli.tables import megabytes
        from edgepeft.doctor import hardware

        found = hardware()
        lines = [
            ("processor", f"{found['processor']}, {found['cores']} cores"),
            ("memory", f"{megabytes(found['free_memory_bytes'])} free"),
            ("disk", f"{megabytes(found['free_disk_bytes'])} free"),
            ("gpu", "; ".join(found["gpus"]) or "none seen"),
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


def _two(title: str, about: str) -> str:
    return f"{title}\n  [$foreground 60%]{plain(about)}[/]"
