"""What every full screen has: a line on top that says where one is and what is running, and the footer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.screen import Screen
from textual.widgets import Static

from edgepeft_tui.compat.textual_footer import KeyBar
from edgepeft_tui.job import STOPPING
from edgepeft_tui.plain_text import plain, plain_line, title
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.words import mark, pairs

if TYPE_CHECKING:
    from edgepeft_tui.app import EdgepeftApp


TINY = 60
"""Cells of width below which a screen is tiny: what has columns leaves some out."""


class Page(Screen[None]):
    """A screen of the app. Subclasses name ``heading`` and compose their body in ``body``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding(
            "f1", "help", "Help", show=False, id="page.help", tooltip="What this screen is for"
        ),
    ]
    heading = ""
    help = ""
    """What F1 says of the screen, above its keys."""
    opening = False
    """Whether the app keeps what is typed until it is told that the screen ``opened``."""
    composed = False
    """Whether every widget is there; timers of the app may tick before."""
    _where = ""
    _busy = ""

    @property
    def wizard_app(self) -> EdgepeftApp:
        """The app, with its jobs and its state."""
        return cast("EdgepeftApp", self.app)

    def compose(self) -> ComposeResult:
        """The line on top, the body, the footer."""
        with Horizontal(id="topline"):
            yield Static("", id="where")
            yield Static("", id="busy")
        with Container(id="body"):
            yield from self.body()
        yield KeyBar(compact=True)

    def body(self) -> ComposeResult:
        """The screen's own widgets."""
        yield from ()

    def on_mount(self) -> None:
        """From now on the widgets can be written to."""
        self.composed = True
        self.app.theme_changed_signal.subscribe(self, lambda theme: self.recolour())
        self.show_where()
        self.show_busy()

    def on_screen_resume(self) -> None:
        """Say anew what is running; on the first time the widgets may not be there yet."""
        if self.composed:
            self.show_where()
            self.show_busy()

    def on_resize(self) -> None:
        """Use the room there is now, and keep what is in focus in sight."""
        if self.composed:
            self.call_after_refresh(self._refit)

    def _refit(self) -> None:
        self.refit()
        if self.focused is not None:
            self.focused.scroll_visible(animate=False)

    def show_where(self) -> None:
        """Write the heading."""
        where = f"[b]edgepeft[/b]  {plain_line(self.heading)}"
        if where != self._where:
            self._where = where
            self.query_one("#where", Static).update(where, layout=False)

    def show_busy(self) -> None:
        """Say what is running, however far it is."""
        parts = []
        for job in self.wizard_app.jobs.active():
            stage = job.progress.running()
            doing = "starting"
            if stage is not None:
                doing = f"{stage.name} {stage.step}/{stage.total}" if stage.total else stage.name
            if job.state == STOPPING:
                doing = STOPPING
            parts.append(f"{mark(job.state)} {plain_line(f'{job.run.name}: {doing}')}")
        busy = "  ".join(parts)
        if busy != self._busy:
            self._busy = busy
            self.query_one("#busy", Static).update(busy)

    def recolour(self) -> None:
        """Paint anew what was given its colours, and not their names: the theme is another."""

    def refit(self) -> None:
        """Choose anew what was chosen for the room there was: the screen has another size."""

    def tick(self) -> None:
        """Show what is new of a job; called twice a second."""

    def action_help(self) -> None:
        """What the screen is for, and every key that does something on it."""
        from edgepeft_tui.widgets.dialogs import HelpWindow

        keys: dict[str, tuple[str, str]] = {}
        for active in self.active_bindings.values():
            binding = active.binding
            if binding.id and binding.description and active.enabled:
                about = (
                    f"{binding.description}: {binding.tooltip}"
                    if binding.tooltip
                    else binding.description
                )
                keys.setdefault(binding.action, (self.app.get_key_display(binding), about))
        lines = pairs(list(keys.values()), 8)
        self.app.push_screen(
            HelpWindow(self.heading or "help", f"{plain(self.help)}\n\n{lines}".lstrip())
        )

    def action_leave(self) -> None:
        """Go back to the screen before."""
        self.app.pop_screen()


class Panel(Said):
    """A box named in its border, filled with markup."""

    def __init__(self, name: str, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes)
        self.border_title = title(name)
