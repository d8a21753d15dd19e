"""Talking with a bundle, with two side by side, or with one beside its base, on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input

from edgepeft.models.tasks import GENERATION
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.voices import PLACEHOLDERS
from edgepeft_tui.widgets.conversation import NO_ADAPTER, Conversation
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.page import Page


class ChatScreen(Page):
    """One prompt line, one or two conversations."""

    heading = "try it"
    help = (
        "What you type goes to every conversation on the screen. A generating model "
        "answers. A classifier shows labels, a tagger marks words, and an embedding model "
        "compares the text with earlier ones."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding(
            *("ctrl+l", "forget", "Clear"),
            id="chat.forget",
            priority=True,
            tooltip="Start a new conversation",
        ),
        Binding(
            *("ctrl+g", "stop", "Stop"), id="chat.stop", priority=True, tooltip="Stop the answer"
        ),
        Binding("pageup", "scroll(-1)", "Scroll up", show=False, id="chat.up"),
        Binding("pagedown", "scroll(1)", "Scroll down", show=False, id="chat.down"),
        Binding(
            *("ctrl+b", "beside_base", "Base"),
            id="chat.base",
            priority=True,
            tooltip="Ask the base model without the adapter too, or stop asking it",
        ),
        Binding(
            *("f3", "adapter", "Adapter"),
            id="chat.adapter",
            tooltip="Choose another adapter of the bundle",
        ),
        Binding(
            *("f5", "beside_adapter", "Two"),
            id="chat.adapters",
            tooltip="Ask a second adapter of the bundle too, or stop asking it",
        ),
        Binding(
            *("f6", "on_cpu", "On the CPU"),
            id="chat.cpu",
            tooltip="Load it on the CPU, if this machine lacks the device it was built for",
        ),
    ]

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        super().__init__()
        self.speakers = speakers

    def body(self) -> ComposeResult:
        """The conversations side by side, the prompt below."""
        with Horizontal(id="chats"):
            for speaker in self.speakers:
                yield Conversation(speaker)
        yield Entry(placeholder=PLACEHOLDERS[GENERATION], id="prompt", compact=False)

    def on_mount(self) -> None:
        """Begin in the prompt."""
        self.query_one("#prompt").focus()

    @property
    def conversations(self) -> list[Conversation]:
        """Those on the screen, left to right."""
        return list(self.query(Conversation))

    @property
    def _swappable(self) -> list[Conversation]:
        return [chat for chat in self.conversations if chat.adapters]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer adapters only where there are some."""
        if action in ("adapter", "beside_adapter"):
            return bool(self._swappable)
        if action == "on_cpu":
            return bool(self._elsewhere)
        return True

    @property
    def _elsewhere(self) -> list[Conversation]:
        """Bundles that could not be loaded for the device they were built for."""
        chats = self.conversations
        return [
            c for c in chats if c.failed and not c.ready and not c.provider and not c.speaker.base
        ]

    @on(Conversation.Ready)
    def _ready(self) -> None:
        tasks = {chat.purpose for chat in self.conversations}
        said = "type a text, Enter sends it"
        if len(tasks) == 1:
            said = PLACEHOLDERS.get(tasks.pop(), said)
        self.query_one("#prompt", Input).placeholder = said
        self.refresh_bindings()

    @on(Conversation.Chosen)
    def _chosen(self) -> None:
        self.query_one("#prompt").focus()

    @on(Input.Submitted, "#prompt")
    async def _ask(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        conversations = self.conversations
        if not text or any(chat.busy for chat in conversations):
            return
        if not all(chat.ready or chat.failed for chat in conversations):
            self.notify("Still loading. Ask again in a moment.")
            return
        event.input.value = ""
        for chat in conversations:
            await chat.ask(text)

    async def _beside(self, speaker: Speaker) -> None:
        await self.query_one("#chats").mount(Conversation(speaker))
        self.query_one("#prompt").focus()

    async def action_beside_base(self) -> None:
        """Put the base beside the bundle, or take it away again; two bundles leave it no room."""
        conversations = self.conversations
        beside = [chat for chat in conversations if chat.speaker.base]
        if len(conversations) > 1 and not beside:
            self.notify("There are two conversations already.", severity="warning")
        elif len(conversations) > 1:
            await beside[0].remove()
            self.refresh_bindings()
        elif conversations[0].purpose != GENERATION:
            self.notify("An encoder's base model has no task to ask it for.", severity="warning")
        else:
            await self._beside(Speaker(conversations[0].speaker.bundle, base=True))

    def action_adapter(self) -> None:
        """Open the list of adapters; again, that of the conversation beside."""
        chats = self._swappable
        inside = [index for index, chat in enumerate(chats) if chat.has_focus_within]
        choice = chats[(inside[0] + 1) % len(chats) if inside else 0].choice
        choice.focus()
        choice.action_show_overlay()

    async def action_beside_adapter(self) -> None:
        """Put another adapter of the same bundle beside, or take it away again."""
        conversations = self.conversations
        if len(conversations) > 1:
            if conversations[0].speaker.bundle != conversations[1].speaker.bundle:
                self.notify("There are two bundles already.", severity="warning")
                return
            await conversations[1].remove()
            self.refresh_bindings()
            return
        chat = conversations[0]
        names = [*(str(adapter["name"]) for adapter in chat.adapters or ()), NO_ADAPTER]
        other = next(name for name in names if name != chat.adapter)
        await self._beside(replace(chat.speaker, adapter=other))

    def action_on_cpu(self) -> None:
        """Load what could not be loaded as built, as ``edgepeft run --provider cpu`` does."""
        for chat in self._elsewhere:
            chat.provider = "cpu"
            chat.say("loading …")
            chat.load()

    async def action_forget(self) -> None:
        """Start a new conversation."""
        for chat in self.conversations:
            if not chat.busy:
                await chat.reset()

    def action_stop(self) -> None:
        """End answers that are being given; the bundle is loaded again."""
        for chat in self.conversations:
            if chat.busy:
                chat.kill()
                chat.busy = False
                chat.say("stopped; loading again …")
                chat.load()

    def action_scroll(self, pages: int) -> None:
        """Scroll every conversation by a page."""
        for chat in self.conversations:
            chat.scroll_pages(pages)
