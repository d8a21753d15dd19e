"""Keys that come faster than the app can follow: each one finds what the key before it has left."""

from __future__ import annotations

from collections import deque

from textual import on
from textual.app import App
from textual.events import Event, Key, Paste
from textual.message import Message
from textual.message_pump import MessagePump

from edgepeft_tui.widgets.page import Page

ROUNDS = 3
"""Times that a key's way is followed: a field tells of a change behind the key, and its row behind that."""

PATIENCE = 0.3
"""Seconds to wait for a key whose widget was taken away with it."""


class _Handled(Message):
    """Sent after a key along the key's way, so that it arrives once the key was handled."""

    def __init__(self, turn: int, target: MessagePump, rounds: int = ROUNDS) -> None:
        super().__init__()
        self.turn, self.target, self.rounds = turn, target, rounds

    def again(self) -> bool:
        """Go the way once more; false if it was gone often enough, or its widget is gone."""
        rounds = self.rounds - 1
        return rounds > 0 and self.target.post_message(_Handled(self.turn, self.target, rounds))


class TypedAhead(App[None]):
    """An app that takes what is typed in turn, and none of it while a page is ``opening``.

    Textual gives a key to the widget in focus when the key comes. A key before it may still be on its way to
    moving the focus or opening another step, and what was typed for that would reach a field of before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[Event] = deque()
        self._turn = 0
        self._under_way = False

    @property
    def behind(self) -> bool:
        """Whether something that was typed is yet to be taken or handled."""
        return bool(self._typed) or self._under_way

    async def on_event(self, event: Event) -> None:
        """Take an event; what is typed, in turn."""
        if isinstance(event, Key | Paste) and not event.is_forwarded:
            self._typed.append(event)
            await self._take()
        else:
            await super().on_event(event)

    async def _take(self) -> None:
        while self._typed and not self._under_way and not self._opens():
            target = self.focused or self.screen
            self._turn += 1
            await super().on_event(self._typed.popleft())
            self._under_way = target.post_message(_Handled(self._turn, target))
            if self._under_way:
                self.set_timer(PATIENCE, lambda turn=self._turn: self._settle(turn))

    def _opens(self) -> bool:
        return not self.screen_stack or (isinstance(self.screen, Page) and self.screen.opening)

    @on(_Handled)
    async def _next(self, event: _Handled) -> None:
        if not event.again():
            await self._settle(event.turn)

    async def _settle(self, turn: int) -> None:
        if turn == self._turn:
            self._under_way = False
            await self._take()

    async def opened(self, page: Page) -> None:
        """A page has opened what it was opening: what was typed meanwhile is for it."""
        page.opening = False
        await self._take()
