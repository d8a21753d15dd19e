"""What every way to answer with a bundle has in common: from messages to a stream of text.

onnxruntime-genai's tokenizer and templates are never used: the device must be asked with the very
ids the adapter was trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepeft.data.control_tokens import policy_of
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.runtime.adapters import adapter_names
from edgepeft.runtime.answer import Completion, Progress, Stream
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.detokenize import spelled
from edgepeft.runtime.search_options import SearchOptions, search_options


@dataclass(frozen=True)
class Request:
    """One answer to make: up to ``room`` tokens after ``prompt_ids``, chosen as ``options`` say.

    ``adapter`` is None for the base. ``continues`` says whether the prompt goes on from an answer given before.
    """

    prompt_ids: list[int]
    room: int
    options: SearchOptions
    adapter: str | None
    continues: bool


class Answerer(ABC):
    """A loaded bundle that answers; several streams at once are safe.

    ``prompter`` makes the ids, ``bundle`` says what is loaded.
    """

    def __init__(self, bundle: Bundle | Path | str) -> None:
        """Open ``bundle``; a path with all its checks. Raises InputError for one that generates no text."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if self.bundle.task != GENERATION:
            raise InputError(
                f"{self.bundle.path}: is for {self.bundle.task}; open it with edgepeft.runtime.Encoder"
            )
        mode = self.bundle.prompt_mode
        template = mode if mode in ("chat", "plain") else "auto"
        asked = self.bundle.manifest["result"].get("prompt") or {}
        self.prompter = Prompter.from_folder(self.bundle.path, template, policy_of(asked))

    @property
    def adapters(self) -> list[str]:
        """The adapters that lie in the bundle now, loaded or not."""
        return adapter_names(self.bundle)

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        adapter: str | None = None,
    ) -> Stream:
        """Answer a prompt or a conversation, piece by piece of text.

        ``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 do not restrict
        sampling, which repeats itself with the same ``seed`` only. The answer ends at a stop
        token, before any of the strings ``stop``, after ``max_new_tokens`` or with the context.
        ``adapter`` names the adapter to answer with, "base" none; by default it is the one last swapped to.

        Raises InputError for a prompt longer than the context, values out of range and messages
        the template refuses; while streaming, EdgepeftError when the runtime fails.
        """
        turns = _conversation(messages, system)
        ids = self.prompter.prompt(turns)
        room = self._room(ids, max_new_tokens)
        options = search_options(
            temperature, top_k, top_p, repetition_penalty, seed, self.bundle.vocab_size
        )
        if isinstance(stop, str) or not all(stop):
            raise InputError("stop: must be a list of strings, none of them empty")
        for text in stop:
            refuse_halves(text, "stop")
        continues = any(turn["role"] == "assistant" for turn in turns)
        request = Request(ids, room, options, self._chosen(adapter), continues)
        progress = Progress(ids)
        return Stream(spelled(self._tokens(request), progress, self.prompter, stop), progress)

    def complete(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        adapter: str | None = None,
    ) -> Completion:
        """The whole answer at once; arguments and errors are those of ``stream``."""
        stream = self.stream(
            messages,
            system=system,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            adapter=adapter,
        )
        for _ in stream:
            pass
        return stream.completion()

    @abstractmethod
    def _tokens(self, request: Request) -> Generator[int, None, None]:
        """The answer's token ids as they come, a stop token among them; nothing happens before the first is
        asked for. Raises EdgepeftError when the runtime fails.
        """

    @abstractmethod
    def _chosen(self, adapter: str | None) -> str | None:
        """The adapter of a call, known to be there; None for the base. Raises InputError."""

    def _room(self, ids: Sequence[int], max_new_tokens: int) -> int:
        """How many tokens may be generated after ``ids``; InputError for ids that cannot be fed."""
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens: must be 1 or more, not {max_new_tokens}")
        # onnxruntime-genai reads beyond its embedding without a word.
        if not ids or min(ids) < 0 or max(ids) >= self.bundle.vocab_size:
            raise InputError(f"prompt: needs one or more token ids below {self.bundle.vocab_size}")
        context = self.bundle.context_length
        if len(ids) >= context:
            raise InputError(
                f"prompt: {len(ids)} tokens leave no room for an answer in a context of {context} "
                f"({self.bundle.path}); shorten it"
            )
        return min(max_new_tokens, context - len(ids))


def _conversation(messages: str | Sequence[Message], system: str | None) -> list[Message]:
    turns: list[Message] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    )
    if system is None:
        return turns
    if turns and turns[0]["role"] == "system":
        raise InputError("system: the messages already begin with a system message; drop one")
    return [{"role": "system", "content": system}, *turns]
