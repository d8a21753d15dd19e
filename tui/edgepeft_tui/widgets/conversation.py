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
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static

from edgepeft.data.rows import Message as Turn
from edgepeft.models.tasks import GENERATION
from edgepeft.utils.quantities import megabytes
from edgepeft_tui.answer_options import AnswerOptions
from edgepeft_tui.asking import PYTHON, message_in
from edgepeft_tui.compat.textual_select import Dropdown
from edgepeft_tui.plain_text import plain, plain_line, title
from edgepeft_tui.readings import reading_markup
from edgepeft_tui.speaker import NO_ADAPTER, Speaker
from edgepeft_tui.talk import Talk
from edgepeft_tui.voices import described, figures
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.widgets.transcript import Transcript
from edgepeft_tui.words import marked

_NONE = ("base, no adapter", NO_ADAPTER)


class Conversation(Vertical):
    """A transcript, a choice of adapters for a bundle that has them, and a line of figures."""

    class Ready(Message):
        """It can be asked now, or it has ended."""

    class Chosen(Message):
        """Another adapter was chosen."""

    busy = reactive(False, bindings=True)
    """Whether an answer is being given."""

    def __init__(self, speaker: Speaker, options: AnswerOptions) -> None:
        super().__init__(classes="chat")
        self.speaker = speaker
        self.purpose = GENERATION
        self.adapter = speaker.adapter
        self.adapters: Sequence[Mapping[str, Any]] | None = None
        self.talk = Talk()
        self.options = options
        self.ready = False
        self.provider: str | None = None
        self.trained_system: str | None = None
        self._loaded = self._killed = False
        self._process: asyncio.subprocess.Process | None = None

    @property
    def messages(self) -> list[Turn]:
        """What was said, without the system message."""
        return self.talk.messages

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
            yield Dropdown([_NONE], allow_blank=False, compact=True)
        transcript = Transcript()
        transcript.border_title = title(self.voice, self.speaker.bundle.name)
        yield transcript
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
                said = message_in(line)
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
            case {"piece": piece} if self.busy:
                self.talk.hear(piece)
                self._show(plain(self.talk.answer))
            case {"done": done}:
                self.busy = False
                self.say(figures(done) + self._memory())
            case {"reading": reading} if self.busy:
                self.busy = False
                self.talk.hear(json.dumps(reading))
                self._show(reading_markup(self.talk.question, reading))
                self.say(f"read in {reading['seconds']:.3f} s{self._memory()}")
            case {"error": error}:
                self._drop_question()
                self.say(marked("failed", plain_line(error)))

    async def _begin(self, ready: dict[str, Any]) -> None:
        self.ready = self._loaded = True
        self.purpose, self.trained_system = ready["task"], ready["system"]
        self._offer(ready["adapters"])
        if not self.query(".turn"):
            await self._show_system()
        where = [f"on {self.provider}"] if self.provider else []
        self.transcript.border_title = title(ready["base"], ready["target"], *where)
        warning = "\n" + marked("warning", plain_line(ready["warning"])) if ready["warning"] else ""
        self.say(marked("done", f"loaded in {ready['seconds']} s{self._memory()}") + warning)
        self.post_message(self.Ready())

    def _drop_question(self) -> None:
        if self.busy:
            self.busy = False
            self.talk.drop()
            self._show("[$muted]no answer[/]")

    def _show(self, markup: str) -> None:
        self.transcript.answer(self.voice, markup)

    def _memory(self) -> str:
        with contextlib.suppress(psutil.Error):
            if self._process is not None:
                return f"; {megabytes(psutil.Process(self._process.pid).memory_info().rss)}"
        return ""

    @property
    def failed(self) -> bool:
        """Whether it could not be loaded, or has ended."""
        return self._process is not None and self._process.returncode is not None

    @property
    def transcript(self) -> Transcript:
        """Where it is shown what was said."""
        return self.query_one(Transcript)

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
        with (choice := self.choice).prevent(Dropdown.Changed):
            choice.set_options([*options, _NONE])
            choice.value = self.adapter

    @property
    def choice(self) -> Dropdown:
        """The list of adapters."""
        return self.query_one(Dropdown)

    @on(Dropdown.Changed)
    async def _choose(self, event: Dropdown.Changed) -> None:
        event.stop()
        chosen = self.choice.value
        # The list also says what it held before there was anything to choose.
        if self.adapters is None or event.value != chosen or chosen == self.adapter:
            return
        self.adapter = str(chosen)
        if self.talk.messages:
            about = "without adapter" if self.adapter == NO_ADAPTER else f"with {self.adapter}"
            await self.transcript.note(plain_line(about))
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
        question = self._question(text)
        await self.transcript.ask(text)
        self.talk.ask(text, self.voice)
        self.busy = True
        self._show("…")
        await self._send(question)

    def _question(self, text: str) -> dict[str, Any]:
        if self.purpose != GENERATION:
            return {"text": text}
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = {"role": "user", "content": text}
        chosen = {"adapter": self.adapter} if self.adapters is not None else {}
        messages = [*system, *self.talk.messages, asked]
        return {"messages": messages, "sampling": dict(self.options.sampling), **chosen}

    def stop(self) -> None:
        """End the answer that is being given, which stays as far as it has come; load the bundle again."""
        if self.busy:
            self.kill()
            if not self.talk.answer:
                self._drop_question()
            self.busy = False
            self.say("stopped; loading again …")
            self.load()

    async def _send(self, question: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write((json.dumps(question) + "\n").encode())
            await self._process.stdin.drain()

    async def reset(self) -> None:
        """Drop what was said."""
        self.talk.clear()
        await self._show_system()
        if self.ready and not self.failed:
            await self._send({"forget": True})

    @property
    def system(self) -> str | None:
        """What the model is told before the conversation: that of its training, unless another was set."""
        chosen = self.options.system
        return self.trained_system if chosen is None else chosen

    async def use(self, options: AnswerOptions) -> None:
        """Make answers as ``options`` say from here on."""
        before, self.options = self.system, options
        if (self.system or "") == (before or ""):
            return
        if not self.talk.messages:
            await self._show_system()
        else:
            told = f"told: {plain(self.system)}" if self.system else "told nothing beforehand"
            await self.transcript.note(told)

    async def _show_system(self) -> None:
        """Show the system message alone, which comes before every conversation."""
        await self.transcript.clear()
        if self.system and self.purpose == GENERATION:
            await self.transcript.tell(self.system)
