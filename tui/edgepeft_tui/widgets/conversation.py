"""One bundle, or the bare base of one, in a process of its own, and what was said with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Select, Static

from edgepeft.models.tasks import GENERATION
from edgepeft.utils.quantities import megabytes
from edgepeft_tui.asking import PYTHON
from edgepeft_tui.plain_text import plain, plain_line, title
from edgepeft_tui.readings import reading_markup
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.voices import VOICE, described, voiced, width_of
from edgepeft_tui.widgets.hanging import Hanging, Said
from edgepeft_tui.words import HANG, marked

NO_ADAPTER = "base"
"""What the runtime calls a hot-swap bundle without adapter."""
_NONE = ("base, no adapter", NO_ADAPTER)


class Conversation(Vertical):
    """A transcript, a choice of adapters for a bundle that has them, and a line of figures."""

    class Ready(Message):
        """It can be asked now, or it has ended."""

    class Chosen(Message):
        """Another adapter was chosen."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__(classes="chat")
        self.speaker = speaker
        self.purpose = GENERATION
        self.adapter = speaker.adapter
        self.adapters: Sequence[Mapping[str, Any]] | None = None
        self.messages: list[dict[str, str]] = []
        self.busy = False
        self.ready = False
        self.provider: str | None = None
        self._system: str | None = None
        self._loaded = self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._answer: Said | None = None

    @property
    def voice(self) -> str:
        """What its answers are headed with."""
        if self.speaker.base:
            return "base"
        return self.adapter or "bundle"

    def compose(self) -> ComposeResult:
        """The choice, hidden where there is none, the transcript and the figures."""
        with Horizontal(classes="field adapters"):
            yield Static("adapter", classes="label")
            yield Select([_NONE], allow_blank=False, compact=True)
        with VerticalScroll(classes="transcript") as transcript:
            transcript.border_title = title(self.voice, self.speaker.bundle.name)
            transcript.can_focus = False
        yield Said("loading …", classes="stats")

    def on_mount(self) -> None:
        """Load the bundle."""
        self.query_one(".adapters").display = False
        self.load()

    async def on_unmount(self) -> None:
        """End the process; its memory comes back."""
        self.kill()
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def say(self, markup: str) -> None:
        """Show a line of figures."""
        self.query_one(".stats", Said).say(markup)

    @work(exclusive=True)
    async def load(self) -> None:
        """Start the process that answers and read what it says until it ends."""
        self.ready = self._loaded = self._killed = False
        process = self._process = await asyncio.create_subprocess_exec(
            *(*PYTHON, "edgepeft_tui.answering", self.speaker.place),
            *([self.provider] if self.provider else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=1 << 24,
        )
        assert process.stdout is not None
        said_why = False
        # A line that is longer than any of ours is what a library has printed.
        with contextlib.suppress(ValueError):
            async for line in process.stdout:
                said = _message(line)
                said_why = "error" in said and not self._loaded
                await self._take(said)
        await process.wait()
        self.post_message(self.Ready())
        if not said_why and not self._killed:
            self._drop_question()
            self.say(marked("failed", f"the process has ended (status {process.returncode})"))

    async def _take(self, said: dict[str, Any]) -> None:
        match said:
            case {"ready": ready}:
                await self._begin(ready)
            case {"piece": piece} if self._answer is not None:
                self.messages[-1]["content"] += piece
                self._show(plain(self.messages[-1]["content"]))
            case {"done": done}:
                self.busy = False
                cut = "" if done["finish_reason"] == "stop" else ", cut at the limit"
                self.say(
                    f"{done['tokens']} tokens, {done['tokens_per_second']:.0f} tokens/s, first token "
                    f"after {done['first_seconds']:.2f} s{cut}{self._memory()}"
                )
            case {"reading": reading}:
                self.busy = False
                self.messages[-1]["content"] = json.dumps(reading)
                self._show(reading_markup(self.messages[-2]["content"], reading))
                self.say(f"read in {reading['seconds']:.3f} s{self._memory()}")
            case {"error": error}:
                self._drop_question()
                self.say(marked("failed", plain_line(error)))

    async def _begin(self, ready: dict[str, Any]) -> None:
        self.ready = self._loaded = True
        self.purpose, self._system = ready["task"], ready["system"]
        self._offer(ready["adapters"])
        await self._show_system()
        where = [f"on {self.provider}"] if self.provider else []
        named = title(ready["base"], ready["target"], *where)
        self.query_one(".transcript").border_title = named
        warning = "\n" + marked("warning", plain_line(ready["warning"])) if ready["warning"] else ""
        self.say(marked("done", f"loaded in {ready['seconds']} s{self._memory()}") + warning)
        self.post_message(self.Ready())

    def _drop_question(self) -> None:
        self.busy = False
        if self.messages and self.messages[-1]["role"] == "assistant":
            # A question without an answer is no part of the conversation.
            del self.messages[-2:]
            self._show("[$muted]no answer[/]")

    def _show(self, markup: str) -> None:
        assert self._answer is not None
        # Each line of an answer begins where its first one does.
        lines = markup.split("\n")
        head = voiced(self.voice)
        margin = " " * width_of(self.voice)
        shown = [line if HANG in line else f"{HANG}{line}" for line in lines]
        self._answer.say("\n".join([head + shown[0], *(margin + line for line in shown[1:])]))
        self.query_one(".transcript", VerticalScroll).scroll_end(animate=False)

    def _memory(self) -> str:
        with contextlib.suppress(psutil.Error):
            if self._process is not None:
                return f"; {megabytes(psutil.Process(self._process.pid).memory_info().rss)}"
        return ""

    @property
    def failed(self) -> bool:
        """Whether it could not be loaded, or has ended."""
        return self._process is not None and self._process.returncode is not None

    def scroll_pages(self, pages: int) -> None:
        """Scroll what was said by so many pages, up if negative."""
        transcript = self.query_one(".transcript", VerticalScroll)
        transcript.scroll_relative(y=pages * max(1, transcript.size.height - 1), animate=False)

    # -- adapters -----------------------------------------------------------------------------------------

    def _offer(self, adapters: Sequence[Mapping[str, Any]] | None) -> None:
        """Show the adapters of a hot-swap bundle; one is chosen, as whoever trained it means to talk to it."""
        self.adapters = adapters
        self.query_one(".adapters").display = adapters is not None
        if adapters is None:
            return
        names = [str(adapter["name"]) for adapter in adapters]
        if self.adapter not in (*names, NO_ADAPTER):
            self.adapter = names[0] if names else NO_ADAPTER
        # A prompt that is a string would be read as markup.
        options = [(Text(described(adapter)), str(adapter["name"])) for adapter in adapters]
        choice = self.choice
        with choice.prevent(Select.Changed):
            choice.set_options([*options, _NONE])
            choice.value = self.adapter

    @property
    def choice(self) -> Select[str]:
        """The list of adapters."""
        return self.query_one(Select)

    @on(Select.Changed)
    async def _choose(self, event: Select.Changed) -> None:
        event.stop()
        chosen = self.choice.value
        # The list also says what it held before there was anything to choose.
        if self.adapters is None or event.value != chosen or chosen == self.adapter:
            return
        self.adapter = str(chosen)
        if self.messages:
            about = "without adapter" if self.adapter == NO_ADAPTER else f"with {self.adapter}"
            line = Said("", classes="turn")
            await self.query_one(".transcript").mount(line)
            line.say(f"[$muted]from here on {plain_line(about)}[/]")
        warning = next(
            (a["warning"] for a in self.adapters or () if a["name"] == self.adapter), None
        )
        self.say(marked("warning", plain_line(warning)) if warning else "")
        self.post_message(self.Chosen())

    # -- asking -------------------------------------------------------------------------------------------

    async def ask(self, text: str) -> None:
        """Put a question; the answer streams in."""
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return
        self.busy = True
        transcript = self.query_one(".transcript", VerticalScroll)
        asked = Static(Hanging(f"[b]{'you':<{VOICE}}[/b]{HANG}{plain(text)}"), classes="turn")
        self._answer = Said("", classes="turn")
        await transcript.mount(asked, self._answer)
        self._show("…")
        self.messages.append({"role": "user", "content": text})
        await self._send(self._question(text))
        self.messages.append({"role": "assistant", "content": ""})

    def _question(self, text: str) -> dict[str, Any]:
        if self.purpose != GENERATION:
            return {"text": text}
        system = [{"role": "system", "content": self._system}] if self._system else []
        chosen = {"adapter": self.adapter} if self.adapters is not None else {}
        return {"messages": [*system, *self.messages], **chosen}

    async def _send(self, question: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write((json.dumps(question) + "\n").encode())
            await self._process.stdin.drain()

    async def reset(self) -> None:
        """Drop what was said."""
        self.messages.clear()
        await self.query(".turn").remove()
        await self._show_system()
        if self.ready and not self.failed:
            await self._send({"forget": True})

    async def _show_system(self) -> None:
        """Show the system message of the training, which comes before every conversation."""
        if (
            self._system
            and not self.messages
            and not self.query(".turn")
            and self.purpose == GENERATION
        ):
            told = f"[$muted]{'system':<{VOICE}}{HANG}{plain(self._system)}[/]"
            await self.query_one(".transcript").mount(Static(Hanging(told), classes="turn"))


def _message(line: bytes) -> dict[str, Any]:
    """What the answering process says in a line; nothing where a library has printed something."""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(line)
        return said if isinstance(said, dict) else {}
    return {}
