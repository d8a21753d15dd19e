"""What was said in a conversation, as it is shown."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.widgets import Static

from edgepeft_tui.plain_text import plain
from edgepeft_tui.voices import VOICE, voiced, width_of
from edgepeft_tui.widgets.hanging import Hanging, Said
from edgepeft_tui.words import HANG


class Transcript(VerticalScroll):
    """Turns below each other, the last of which may still be coming."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(classes="transcript")
        self._answer: Said | None = None

    async def ask(self, text: str) -> None:
        """Show a question, and below it room for the answer."""
        asked = Static(Hanging(f"[b]{'you':<{VOICE}}[/b]{HANG}{plain(text)}"), classes="turn")
        self._answer = Said("", classes="turn")
        await self.mount(asked, self._answer)

    def answer(self, voice: str, markup: str) -> None:
        """Show what ``voice`` has answered so far."""
        assert self._answer is not None
        # Each line of an answer begins where its first one does.
        head, margin = voiced(voice), " " * width_of(voice)
        lines = [line if HANG in line else f"{HANG}{line}" for line in markup.split("\n")]
        self._answer.say("\n".join([head + lines[0], *(margin + line for line in lines[1:])]))
        self.scroll_end(animate=False)

    async def tell(self, system: str) -> None:
        """Show the system message, before anything is said."""
        told = f"[$muted]{'system':<{VOICE}}{HANG}{plain(system)}[/]"
        await self.mount(Static(Hanging(told), classes="turn"))

    async def note(self, markup: str) -> None:
        """Say what holds from here on."""
        line = Said("", classes="turn")
        await self.mount(line)
        line.say(f"[$muted]from here on {markup}[/]")
        self.scroll_end(animate=False)

    async def clear(self) -> None:
        """Show nothing."""
        self._answer = None
        await self.remove_children()

    def scroll_pages(self, pages: int) -> None:
        """Scroll by so many pages, up if negative."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)
