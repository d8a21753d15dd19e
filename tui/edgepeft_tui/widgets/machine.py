"""This machine, in a box that asks for it once there is room for its answer."""

from __future__ import annotations

from pathlib import Path

from textual import work

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.home_words import machine_lines
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import pairs


class MachinePanel(Panel):
    """What ``edgepeft doctor`` says, in a few lines."""

    def on_show(self) -> None:
        """Ask for it: where the box has no room, nobody wants to know."""
        self.look()

    @work(exclusive=True)
    async def look(self) -> None:
        """Ask in a process of its own: a driver's tool may take its time."""
        if not self.said:
            self.say("[$muted]looking …[/]")
        try:
            facts = await ask("doctor", folder=Path.cwd())
        except EdgepeftError as error:
            self.say(f"[$muted]{plain_line(error)}[/]")
        else:
            self.say(pairs(machine_lines(facts), 10))
