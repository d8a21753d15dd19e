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

from edgepeft.tasks import GENERATION
from edgepeft_tui.widgets.conversation import NO_ADAPTER, PLACEHOLDERS, Conversation, Speaker
from edgepeft_tui.widgets.page import Page


class ChatScreen(Page):
    """One prompt line, one or two conversations."""

    heading = "try it"
    help = (
        "What you type goes to every conversation on the screen: a model that generates "
        "answers, a classifier names labels, a tagger marks words, an embedding model "
        "compares texts with those before."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("ctrl+l", "forget", "Forget", id="chat.forget", priority=True),
        Binding("ctrl+g", "stop", "Stop", id="chat.stop", priority=True),
        Binding(
            *("ctrl+b", "beside_base", "Base"),
            id="chat.base",
            priority=True,
            tooltip="The same prompts to the base without adapter, or no more",
        ),
        Binding(
            *("f3", "adapter", "Adapter"),
            id="chat.adapter",
            tooltip="Answer with another of the bundle's adapters",
        ),
        Binding(
            *("f5", "beside_adapter", "Two"),
            id="chat.adapters",
            tooltip="The same prompts to another adapter of the bundle, or no more",
        ),
        Binding(
            *("f6", "on_cpu", "On the CPU"),
            id="chat.cpu",
            tooltip="Load it for the CPU, where the device it was built for is not here",
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
        yield Input(placeholder=PLACEHOLDERS[GENERATION], id="prompt")

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
        said = "a text, Enter reads it"
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
            self.notify("still loading; ask again in a moment")
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
            self.notify("two are side by side already", severity="warning")
        elif len(conversations) > 1:
            await beside[0].remove()
            self.refresh_bindings()
        elif conversations[0].purpose != GENERATION:
            self.notify("an encoder's base has no task to be asked about", severity="warning")
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
                self.notify("two bundles are side by side already", severity="warning")
                return
            await conversations[1].remove()
            self.refresh_bindings()
            return
        chat = conversations[0]
        names = [*(str(adapter["name"]) for adapter in chat.adapters or ()), NO_ADAPTER]
        other = next(name for name in names if name != chat.adapter)
        await self._beside(replace(chat.speaker, adapter=other))

    def action_on_cpu(self) -> None:
        """Load what could not be loaded as it was built, as ``edgepeft run --provider cpu`` does."""
        for chat in self._elsewhere:
            chat.provider = "cpu"
            chat.say("loading …")
            chat.load()

    async def action_forget(self) -> None:
        """Begin the conversation anew."""
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
