"""Talking with a bundle, with two side by side, or with one beside its base, on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input

from edgepeft.models.tasks import GENERATION
from edgepeft_tui.answer_options import AnswerOptions
from edgepeft_tui.plain_text import title
from edgepeft_tui.speaker import NO_ADAPTER, Speaker
from edgepeft_tui.talk import free_file, save
from edgepeft_tui.voices import PLACEHOLDERS
from edgepeft_tui.widgets.chat_windows import OptionsWindow, SaveWindow
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.page import Page
from edgepeft_tui.widgets.prompt import Prompt
from edgepeft_tui.words import near

_ADAPTER_KEYS = Binding.Group("Adapter", compact=True)
_COPY_KEYS = Binding.Group("Copy", compact=True)


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
            *("ctrl+n,ctrl+l", "forget", "New"),
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
        # One word for two keys, so that every key finds room in 80 columns.
        Binding(
            *("f3", "adapter", "Adapter"),
            id="chat.adapter",
            group=_ADAPTER_KEYS,
            tooltip="Choose another adapter of the bundle",
        ),
        Binding(
            *("f5", "beside_adapter", "Two"),
            id="chat.adapters",
            group=_ADAPTER_KEYS,
            tooltip="Ask a second adapter of the bundle too, or stop asking it",
        ),
        Binding(
            *("f4", "options", "Options"),
            id="chat.options",
            tooltip="Set the system message and how tokens are chosen",
        ),
        Binding(
            *("f7", "copy_answer", "Copy answer"),
            id="chat.copy",
            group=_COPY_KEYS,
            tooltip="Copy the last answer",
        ),
        Binding(
            *("f8", "copy_all", "Copy all"),
            id="chat.copy_all",
            group=_COPY_KEYS,
            tooltip="Copy the whole conversation",
        ),
        Binding(
            *("ctrl+s", "save", "Save"),
            id="chat.save",
            tooltip="Save the conversation as rows of messages",
        ),
        Binding(
            *("f6", "on_cpu", "On the CPU"),
            id="chat.cpu",
            tooltip="Load it on the CPU, if this machine lacks the device it was built for",
        ),
        # There is little to jump to.
        Binding(
            *("ctrl+o", "app.jump", "Jump"),
            show=False,
            id="app.jump",
            tooltip="Go to a control by a letter",
        ),
    ]

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        super().__init__()
        self.speakers = speakers
        self.options = AnswerOptions()

    def body(self) -> ComposeResult:
        """The conversations side by side, the prompt below."""
        with Horizontal(id="chats"):
            for speaker in self.speakers:
                yield Conversation(speaker, self.options)
        yield Prompt(self.wizard_app.asked, PLACEHOLDERS[GENERATION])

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
        if action in ("options", "save"):
            return bool(self._generating)
        if action in ("stop", "forget"):
            return self._answering == (action == "stop")
        return True

    @property
    def _answering(self) -> bool:
        return any(chat.busy for chat in self.conversations)

    @property
    def _generating(self) -> list[Conversation]:
        return [chat for chat in self.conversations if chat.purpose == GENERATION]

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
        self.query_one(Prompt).placeholder = said
        self.refresh_bindings()

    @on(Conversation.Chosen)
    def _chosen(self) -> None:
        self.query_one("#prompt").focus()

    @on(Input.Submitted, "#prompt")
    async def _ask(self, event: Input.Submitted) -> None:
        conversations = self.conversations
        if not event.value.strip() or self._answering:
            return
        if not all(chat.ready or chat.failed for chat in conversations):
            self.notify("Still loading. Ask again in a moment.")
            return
        text = self.query_one(Prompt).take()
        for chat in conversations:
            await chat.ask(text)

    async def _beside(self, speaker: Speaker) -> None:
        await self.query_one("#chats").mount(Conversation(speaker, self.options))
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
            await chat.reset()

    def action_stop(self) -> None:
        """End answers that are being given; the bundle is loaded again."""
        for chat in self.conversations:
            chat.stop()

    # -- options, copies, files ---------------------------------------------------------------------------

    def action_options(self) -> None:
        """Set how answers are made, from the next one on."""
        trained = {chat.trained_system or "" for chat in self._generating}
        self.app.push_screen(OptionsWindow(self.options, trained), self._use)

    async def _use(self, options: AnswerOptions | None) -> None:
        if options is None:
            return
        self.options = options
        self.query_one(Prompt).border_subtitle = title(options.words())
        for chat in self.conversations:
            await chat.use(options)

    def action_copy_answer(self) -> None:
        """Copy the last answer; of two, both with who has given them."""
        answered = [chat for chat in self.conversations if chat.talk.answer]
        said = [chat.talk.answer for chat in answered]
        if len(answered) > 1:
            said = [f"{chat.voice}: {chat.talk.answer}" for chat in answered]
        self._copy(said, "the last answer")

    def action_copy_all(self) -> None:
        """Copy all that was said."""
        said = [chat.talk.text() for chat in self.conversations if chat.talk.messages]
        self._copy(said, "the conversation")

    def _copy(self, said: Sequence[str], what: str) -> None:
        text = "\n\n".join(said)
        if text:
            self.app.copy_to_clipboard(text)
        self.notify(f"Copied {what}." if text else "Nothing was answered yet.")

    def action_save(self) -> None:
        """Save what was said, a conversation a line."""
        rows = [chat.talk.row(chat.system) for chat in self._generating]
        said = [row for row in rows if row is not None]
        if said:
            here = Path.cwd()
            write = partial(save, said, here)
            self.app.push_screen(SaveWindow(free_file("chat", here), write), self._saved)
        else:
            self.notify("Nothing was answered yet.")

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.notify(f"Saved as {near(path)}.", markup=False)

    def action_scroll(self, pages: int) -> None:
        """Scroll every conversation by a page."""
        for chat in self.conversations:
            chat.transcript.scroll_pages(pages)
