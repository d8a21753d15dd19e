"""Talking with a bundle, with two side by side, or with one beside its bare base, on the same prompts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Static

from edgepeft.cli.tables import megabytes
from edgepeft_tui.answering import BASE_OF
from edgepeft_tui.asking import PYTHON
from edgepeft_tui.widgets.page import Page
from edgepeft_tui.words import mark, plain


class Conversation(Vertical):
    """One bundle, or the base of one, and what was said with it."""

    def __init__(self, place: str) -> None:
        """``place`` is a bundle's folder, behind ``BASE_OF`` where its base is meant."""
        super().__init__(classes="chat")
        self.place = place
        self.voice = "base" if place.startswith(BASE_OF) else "bundle"
        self.messages: list[dict[str, str]] = []
        self._system: str | None = None
        self.busy = False
        self.ready = False
        self._failed = self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._answer: Static | None = None

    def compose(self) -> ComposeResult:
        """The transcript and a line of figures."""
        with VerticalScroll(classes="transcript") as transcript:
            transcript.border_title = f"{self.voice} · {Path(self.place).name}"
            transcript.can_focus = False
        yield Static("loading …", classes="stats")

    def on_mount(self) -> None:
        """Load the bundle."""
        self.load()

    async def on_unmount(self) -> None:
        """End the process; its memory comes back."""
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def say(self, markup: str) -> None:
        """Show a line of figures."""
        self.query_one(".stats", Static).update(markup)

    @work(exclusive=True)
    async def load(self) -> None:
        """Start the process that answers and read what it says until it ends."""
        self.ready = self._failed = self._killed = False
        self._process = await asyncio.create_subprocess_exec(
            *(*PYTHON, "edgepeft_tui.answering", self.place),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                await self._take(json.loads(line))
        await self._process.wait()
        if not self._failed and not self._killed:
            self.busy = False
            self.say(f"{mark('failed')} its process has ended ({self._process.returncode})")

    async def _take(self, said: dict[str, Any]) -> None:
        if "ready" in said:
            ready, self.ready = said["ready"], True
            self._system = ready["system"]
            await self._show_system()
            title = f"{ready['base']} · {ready['target']}"
            self.query_one(".transcript").border_title = title
            warning = f"  {mark('warning')} {plain(ready['warning'])}" if ready["warning"] else ""
            self.say(f"{mark('done')} loaded in {ready['seconds']} s, {self._memory()}{warning}")
        elif "piece" in said and self._answer is not None:
            self.messages[-1]["content"] += said["piece"]
            self._answer.update(self._spoken(plain(self.messages[-1]["content"])))
            self.query_one(".transcript", VerticalScroll).scroll_end(animate=False)
        elif "done" in said:
            done, self.busy = said["done"], False
            cut = "" if done["finish_reason"] == "stop" else ", cut at the limit"
            self.say(
                f"{done['tokens']} tokens, {done['tokens_per_second']:.0f} tokens/s, first after "
                f"{done['first_seconds']:.2f} s{cut}; {self._memory()}"
            )
        elif "error" in said:
            self.busy, self._failed = False, True
            if self.messages and self.messages[-1]["role"] == "assistant":
                # A question without an answer is no part of the conversation.
                del self.messages[-2:]
            self.say(f"{mark('failed')} {plain(said['error'])}")

    def _memory(self) -> str:
        with contextlib.suppress(psutil.Error):
            if self._process is not None:
                return megabytes(psutil.Process(self._process.pid).memory_info().rss)
        return ""

    def _spoken(self, markup: str) -> str:
        return f"[$text-accent]{self.voice:<8}[/]{markup}"

    @property
    def failed(self) -> bool:
        """Whether it could not be loaded, or has ended."""
        return self._process is not None and self._process.returncode is not None

    async def ask(self, text: str) -> None:
        """Put a question; the answer streams in."""
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return
        self.busy = True
        transcript = self.query_one(".transcript", VerticalScroll)
        self._answer = Static(self._spoken("…"), classes="turn")
        await transcript.mount(
            Static(f"[b]you[/b]     {plain(text)}", classes="turn"), self._answer
        )
        transcript.scroll_end(animate=False)
        self.messages.append({"role": "user", "content": text})
        system = [{"role": "system", "content": self._system}] if self._system else []
        line = json.dumps({"messages": [*system, *self.messages]}) + "\n"
        self.messages.append({"role": "assistant", "content": ""})
        with contextlib.suppress(ConnectionError):
            process.stdin.write(line.encode())
            await process.stdin.drain()

    async def reset(self) -> None:
        """Forget what was said."""
        self.messages.clear()
        await self.query(".turn").remove()
        await self._show_system()

    async def _show_system(self) -> None:
        """Say what the model is told before every conversation, as it was in training."""
        if self._system and not self.messages and not self.query(".turn"):
            line = Static(f"[$foreground 60%]system  {plain(self._system)}[/]", classes="turn")
            await self.query_one(".transcript").mount(line)


class ChatScreen(Page):
    """One prompt line, one or two conversations."""

    heading = "try it"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("ctrl+l", "forget", "Forget", id="chat.forget", priority=True),
        Binding("ctrl+g", "stop", "Stop answer", id="chat.stop", priority=True),
        Binding(
            *("ctrl+b", "beside_base", "Beside base"),
            id="chat.base",
            priority=True,
            tooltip="The same prompts to the base without adapter, or no more",
        ),
    ]

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__()
        self.places = places

    def body(self) -> ComposeResult:
        """The conversations side by side, the prompt below."""
        with Horizontal(id="chats"):
            for place in self.places:
                yield Conversation(place)
        yield Input(placeholder="ask something, Enter sends it", id="prompt")

    def on_mount(self) -> None:
        """Begin in the prompt."""
        self.query_one("#prompt").focus()

    @on(Input.Submitted, "#prompt")
    async def _ask(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        conversations = list(self.query(Conversation))
        if not text or any(chat.busy for chat in conversations):
            return
        if not all(chat.ready or chat.failed for chat in conversations):
            self.notify("still loading; ask again in a moment")
            return
        event.input.value = ""
        for chat in conversations:
            await chat.ask(text)

    async def action_beside_base(self) -> None:
        """Put the base beside the bundle, or take it away again; two bundles leave it no room."""
        conversations = list(self.query(Conversation))
        beside = [chat for chat in conversations if chat.voice == "base"]
        if beside:
            await beside[0].remove()
        elif len(conversations) == 1:
            await self.query_one("#chats").mount(Conversation(BASE_OF + conversations[0].place))
        else:
            self.notify("two bundles are side by side already", severity="warning")
        self.query_one("#prompt").focus()

    async def action_forget(self) -> None:
        """Begin the conversation anew."""
        for chat in self.query(Conversation):
            if not chat.busy:
                await chat.reset()

    def action_stop(self) -> None:
        """End answers that are being given; the bundle is loaded again."""
        for chat in self.query(Conversation):
            if chat.busy:
                chat.kill()
                chat.busy = False
                chat.say("stopped; loading again …")
                chat.load()
