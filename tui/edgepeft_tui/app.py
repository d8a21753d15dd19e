"""The application: it owns the jobs, the drafts and the user's state; screens only show them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.filter import LineFilter
from textual.screen import Screen

from edgepeft.errors import EdgepeftError
from edgepeft.utils.terminal_text import ENCODING_ERRORS
from edgepeft_tui.colours import as_it_is, of_256, readable_variables
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import build_arguments
from edgepeft_tui.drafts import Drafts
from edgepeft_tui.job import STOPPING, Job
from edgepeft_tui.jobs import Jobs
from edgepeft_tui.places import PLACES, binding_ids, go
from edgepeft_tui.plain_text import Harmless, visible, visible_line
from edgepeft_tui.run_files import known_records
from edgepeft_tui.screens.home import HomeScreen
from edgepeft_tui.state import State, read_keymap
from edgepeft_tui.themes import DARK, LIGHT, THEMES
from edgepeft_tui.typed_ahead import TypedAhead
from edgepeft_tui.verdicts import run_verdict, state_words
from edgepeft_tui.widgets.jump import JumpScreen
from edgepeft_tui.widgets.page import TINY, Page

if TYPE_CHECKING:
    from edgepeft_tui.speaker import Speaker

COLLECT = (20_000, 20, 100)
"""Allocations before a collection of the young, collections of those before one of the older, and of all."""

WATCH_SECONDS = 0.5
"""How often jobs are looked at. It bounds how often a curve is drawn."""


_HARMLESS = Harmless()


def tame_collector() -> None:
    """Let the garbage collector pause keys less: for a process that holds nothing but the app.

    A collection of everything takes tenths of a second, which a key press would wait for; what is loaded now
    stays, and most of what comes is freed without the collector.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT)


class EdgepeftApp(TypedAhead):
    """The wizard. ``draft`` is a recipe to open first."""

    TITLE = "edgepeft"
    CSS_PATH = "styles.tcss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        *((0, "-tiny"), (TINY, "-narrow"), (120, "-wide"), (136, "-roomy")),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, id="app.quit"),
        Binding("ctrl+o", "jump", "Jump", id="app.jump", tooltip="Go to a control by a letter"),
        Binding(
            *("ctrl+t", "light", "Light/dark"),
            show=False,
            id="app.light",
            tooltip="The light theme or the dark one",
        ),
        Binding("f2", "go('runs')", "Runs", show=False, id="app.runs"),
    ]

    def __init__(self, draft: Draft | None = None, state: State | None = None) -> None:
        super().__init__()
        self.state = state or State()
        self.jobs = Jobs(self.state.folder)
        self.drafts = Drafts(self.state)
        self.asked: list[str] = []
        """Questions of this session's chats, the latest last."""
        self._opened = draft
        for theme in THEMES:
            self.register_theme(theme)
        for theme in self.available_themes.values():
            # Colours that the terminal chooses can't be held to any contrast.
            if theme.ansi:
                self.unregister_theme(theme.name)
        wanted = self.state.get("theme")
        # Before anything is painted, so that the style sheet is read once.
        known = isinstance(wanted, str) and wanted in self.available_themes
        self.set_reactive(EdgepeftApp.theme, wanted if known else DARK)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_css_variables(self) -> dict[str, str]:
        """The theme's colours, made readable."""
        variables = super().get_css_variables()
        few = self.console.color_system == "256"
        self.theme_variables = readable_variables(variables, of_256 if few else as_it_is)
        return self.theme_variables

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every painted line goes through."""
        return [*super().get_line_filters(), _HARMLESS]

    def notify(self, message: str, *, title: str = "", **options: Any) -> None:
        """Show a notice, of which nothing is obeyed."""
        super().notify(visible(message), title=visible_line(title), **options)

    def copy_to_clipboard(self, text: str) -> None:
        """Put text into the terminal's clipboard; a half of a character, which has no UTF-8, as an escape."""
        super().copy_to_clipboard(text.encode(errors=ENCODING_ERRORS).decode())

    def on_mount(self) -> None:
        """The first screen, the watch over jobs."""
        self.theme_changed_signal.subscribe(self, lambda theme: self.state.put("theme", theme.name))
        self.push_screen(HomeScreen())
        if self._opened is not None:
            self.open_draft(self._opened)
        self._tell_damage()
        self.set_interval(WATCH_SECONDS, self.watch_jobs)

    def _tell_damage(self) -> None:
        """Say what is not taken up of the last session, and why."""
        for said in (self.state.damaged, *self.drafts.damaged):
            if said:
                self.notify(said, severity="warning", markup=False)

    def use_keymap(self) -> None:
        """Take the user's own keys. Raises InputError for a file that names an action there isn't."""
        keymap = read_keymap(set(binding_ids(type(self))))
        if keymap:
            self.set_keymap(keymap)

    # -- jobs ---------------------------------------------------------------------------------------------

    def watch_jobs(self) -> None:
        """Read what the jobs have said; tell the screen that is shown, and the user of what has ended."""
        for job in self.jobs.look():
            self.tell_end(job)
        # The last tick may come when the app is closing and has no screen any more.
        screen = self.screen_stack[-1] if self.screen_stack else None
        if isinstance(screen, Page) and screen.composed:
            # A tick may fall between the removal of a screen's widgets and of the screen.
            with contextlib.suppress(NoMatches):
                screen.show_busy()
                screen.tick()

    def tell_end(self, job: Job) -> None:
        """Tell the user how a job has ended."""
        name, state = job.run.name, job.state
        verdict, words = run_verdict(job.record)
        if state in ("done", "gate missed"):
            severity = "information" if verdict == "done" else "warning"
            self.notify(f"{name}: {words}", severity=severity, markup=False)
        elif state == "interrupted":
            self.notify(f"{name}: {state_words(state)}", markup=False)
        else:
            self.notify(job.error(), title=f"{name} failed", severity="error", markup=False)

    def start_run(self, draft: Draft) -> None:
        """Build a saved draft and watch it."""
        self._note_model(draft)
        if self._start(build_arguments(draft), draft.run, Path.cwd()):
            self.drafts.discard(draft)
            # The recipe is saved and the draft done with: back leads home, not to its form.
            self.pop_screen()
            self.open_run(draft.run)

    def resume_run(self, run: Path) -> bool:
        """Go on with a run as it was begun; whatever is finished is reused."""
        return self._start(["build", str(run)], run, Path.cwd())

    def _start(self, arguments: list[str], run: Path, folder: Path) -> bool:
        try:
            self.jobs.start(arguments, run, folder)
        except EdgepeftError as error:
            self.notify(str(error), severity="error", markup=False)
            return False
        return True

    def known_runs(self) -> list[dict[str, Any]]:
        """The runs known on this machine and those below runs/, newest first; running ones are watched."""
        found = known_records(Path("runs"))
        for record in found:
            if record.get("state") == "running":
                job = self.jobs.watch(Path(record["path"]))
                if job.state == STOPPING:
                    record |= {"state": STOPPING, "waits": job.waits_for()}
        return found

    # -- models -------------------------------------------------------------------------------------------

    def recent_models(self) -> list[str]:
        """Models used lately, newest first."""
        kept = self.state.get("models", [])
        return (
            [name for name in kept if isinstance(name, str)][:6] if isinstance(kept, list) else []
        )

    def _note_model(self, draft: Draft) -> None:
        name = str(draft.get("model"))
        name = str(draft.existing(name) or name)
        self.state.put("models", [name, *(m for m in self.recent_models() if m != name)][:6])

    # -- places -------------------------------------------------------------------------------------------

    def open(self, place: str) -> None:
        """Open a screen by its name in ``places``; what can't be opened is said."""
        try:
            go(self, place)
        except EdgepeftError as error:
            self.notify(str(error), severity="error", markup=False)

    def open_draft(self, draft: Draft, step: str = "Model") -> None:
        """Open the wizard on a draft."""
        from edgepeft_tui.screens.wizard import WizardScreen

        self.drafts.begin(draft)
        self.push_screen(WizardScreen(draft, step))

    def open_chat(self, speakers: Sequence[Speaker]) -> None:
        """Talk with one or two, side by side."""
        from edgepeft_tui.screens.chat import ChatScreen

        self.push_screen(ChatScreen(speakers))

    def open_run(self, run: Path) -> None:
        """Watch a run, wherever it was started."""
        from edgepeft_tui.screens.run import RunScreen

        self.push_screen(RunScreen(self.jobs.watch(run)))

    def action_go(self, place: str) -> None:
        """Open a screen by name."""
        self.open(place)

    def action_light(self) -> None:
        """Change between a light and a dark theme."""
        self.theme = LIGHT if self.current_theme.dark else DARK

    def action_jump(self) -> None:
        """Show a letter at every control of the screen; pressing it goes there."""
        if not isinstance(self.screen, JumpScreen):
            self.push_screen(JumpScreen(self.screen))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every place and every action of the screen that is shown, besides Textual's own."""
        for title, place, about in PLACES:
            yield SystemCommand(title, about, lambda place=place: self.open(place))
        seen = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            # What leads to a place stands among the places already.
            leads = binding.action.partition("(")[0].rpartition(".")[2] == "go"
            if binding.id and binding.description and binding.action not in seen and not leads:
                seen.add(binding.action)
                yield SystemCommand(
                    binding.description,
                    f"{binding.tooltip or 'on this screen'} ({self.get_key_display(binding)})",
                    lambda active=active: self.call_later(
                        self.run_action, active.binding.action, active.node
                    ),
                )
        yield from super().get_system_commands(screen)
