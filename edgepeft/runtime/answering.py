"""What every way to answer with a bundle has in common: from messages to a stream of text.

onnxruntime-genai's tokenizer and templates are never used: the device must be asked with the very
ids the adapter was trained on.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.layout import ANSWER_SCHEMA
from edgepeft.data.control_tokens import policy_of
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row, Tool
from edgepeft.data.template_modes import AUTO, MODES
from edgepeft.data.tool_calls import fitted
from edgepeft.errors import InputError
from edgepeft.guidance.grammar import Grammar
from edgepeft.guidance.matcher import Matcher
from edgepeft.models.tasks import GENERATION
from edgepeft.runtime.adapters import adapter_names
from edgepeft.runtime.answer import Completion, Progress, Said, Stream
from edgepeft.runtime.bounding import Bounding
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.detokenize import spelled
from edgepeft.runtime.guided import Choice
from edgepeft.runtime.logprobs import Score, TokenLogprob, token_logprobs
from edgepeft.runtime.sampling import Sampler, Shift
from edgepeft.runtime.sampling_params import OutOfRange, SamplingFields, SamplingParams
from edgepeft.runtime.search_options import SearchOptions, search_options
from edgepeft.runtime.tool_use import ToolUse
from edgepeft.tool_calling.offered import Offered


@dataclass(frozen=True)
class Request:
    """One answer to make: up to ``room`` tokens after ``prompt_ids``, chosen as ``options`` say.

    ``adapter`` is None for the base. ``continues`` says whether the prompt goes on from an answer given before.
    ``matcher`` follows the answer through its grammar, if it has one. ``shift`` is added to logits, if anything
    is, and ``top`` says how many of the likeliest tokens are wanted with each; None for no log-probabilities.
    """

    prompt_ids: list[int]
    room: int
    options: SearchOptions
    adapter: str | None
    continues: bool
    matcher: Matcher | None = None
    shift: Shift | None = None
    top: int | None = None

    def choice(self, stop_ids: Collection[int]) -> Choice:
        """What chooses its tokens, where onnxruntime-genai doesn't."""
        return Choice(Sampler(self.options, stop_ids, self.shift), self.matcher, self.top)


class Answerer(ABC):
    """A loaded bundle that answers; several streams at once are safe.

    ``prompter`` makes the ids, ``bundle`` says what is loaded, ``tool_use`` reads calls out of answers.
    """

    def __init__(self, bundle: Bundle | Path | str) -> None:
        """Open ``bundle``; a path with all its checks. Raises InputError for one that generates no text."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if self.bundle.task != GENERATION:
            raise InputError(
                f"{self.bundle.path}: is for {self.bundle.task}; open it with edgepeft.runtime.Encoder"
            )
        mode = self.bundle.prompt_mode
        template = mode if mode in MODES else AUTO
        asked = self.bundle.manifest["result"].get("prompt") or {}
        self.prompter = Prompter.from_folder(self.bundle.path, template, policy_of(asked))
        name = str(self.bundle.path)
        self._bounding = Bounding(self.prompter, self.bundle.vocab_size, name)
        self.tool_use = ToolUse(self.prompter, self._bounding, name)

    @property
    def adapters(self) -> list[str]:
        """The adapters that lie in the bundle now, loaded or not."""
        return adapter_names(self.bundle)

    @cached_property
    def grammar(self) -> Grammar | None:
        """What bounds answers where a call doesn't say: the bundle's own schema, if it has one.

        Raises InputError for one that bounds nothing, MissingError without llguidance.
        """
        schema = self.bundle.answer_schema
        if schema is None:
            return None
        return Grammar.json_schema(schema, str(self.bundle.path / ANSWER_SCHEMA))

    def stream(
        self,
        messages: str | Sequence[Message],
        sampling: SamplingParams = SamplingParams(),  # noqa: B008  (it is frozen)
        *,
        system: str | None = None,
        adapter: str | None = None,
        grammar: Grammar | None = None,
        tools: Offered | Sequence[Tool] = (),
        **fields: Unpack[SamplingFields],
    ) -> Stream:
        """Answer a prompt or a conversation, piece by piece of text.

        ``fields`` are those of ``sampling`` that are to be others. ``adapter`` names the adapter to answer with,
        "base" none; by default it is the one last swapped to. ``grammar`` bounds the answer, which ends where it
        is complete, or unfinished after ``max_new_tokens``; by default the bundle's own does, ``FREE`` is none.
        ``tools`` may be called, within a grammar made of them unless ``grammar`` is given; ``Offered`` says
        whether one must be. ``tool_use.parsed`` reads the calls.

        Raises InputError for a prompt longer than the context, values out of range, messages the template
        refuses, tools that it doesn't write and a grammar that the model's vocabulary can't spell, MissingError
        for a grammar without llguidance; while streaming, EdgepeftError when the runtime fails, InputError where
        a grammar takes too much to follow.
        """
        turns = _conversation(messages, system)
        continues = any(turn["role"] == "assistant" for turn in turns)
        offered = tools if isinstance(tools, Offered) else Offered(tuple(tools))
        turns = fitted(turns, offered.tools, "messages", others=True)
        if grammar is None:
            grammar = self.tool_use.grammar(offered) if offered.tools else self.grammar
        return self.stream_ids(
            self.prompter.prompt(turns, offered.tools),
            replace(sampling, **fields),
            adapter=adapter,
            continues=continues,
            grammar=grammar,
        )

    def stream_ids(
        self,
        prompt_ids: list[int],
        sampling: SamplingParams,
        *,
        adapter: str | None = None,
        continues: bool = False,
        grammar: Grammar | None = None,
    ) -> Stream:
        """The same for a prompt that is token ids already, bounded by ``grammar`` alone; ``continues`` says
        whether it goes on from an answer given before, whose cache is then taken up.
        """
        room = self.room(prompt_ids, sampling)
        for token in sampling.logit_bias:
            if token >= self.bundle.vocab_size:
                raise OutOfRange(
                    "logit_bias",
                    f"has the token id {token}, and this model's are below {self.bundle.vocab_size}",
                )
        request = Request(
            prompt_ids,
            room,
            search_options(sampling, self.bundle.vocab_size),
            self._chosen(adapter),
            continues,
            self.matcher(grammar),
            Shift.of(sampling, len(prompt_ids)),
            sampling.logprobs,
        )
        progress = Progress(prompt_ids)
        tokens = self._tokens(request)
        return Stream(spelled(tokens, progress, self.prompter, sampling.stop), progress)

    def complete(
        self,
        messages: str | Sequence[Message],
        sampling: SamplingParams = SamplingParams(),  # noqa: B008  (it is frozen)
        *,
        system: str | None = None,
        adapter: str | None = None,
        grammar: Grammar | None = None,
        tools: Offered | Sequence[Tool] = (),
        **fields: Unpack[SamplingFields],
    ) -> Completion:
        """The whole answer at once; arguments and errors are those of ``stream``."""
        stream = self.stream(
            messages,
            sampling,
            system=system,
            adapter=adapter,
            grammar=grammar,
            tools=tools,
            **fields,
        )
        for _ in stream:
            pass
        return stream.completion()

    def score(
        self,
        prompt: str | Sequence[Message],
        completion: str,
        *,
        system: str | None = None,
        adapter: str | None = None,
        raw: bool = False,
        top: int = 0,
    ) -> Score:
        """How likely the model holds ``completion`` as the answer to a prompt or a conversation, in nats.

        The ids are those of training: through the model's template, with the stop token that ends the answer as
        the last of the completion's. ``raw`` takes both as plain text, the completion right behind the prompt,
        tokenized as one and ended by nothing; a token that lies across the seam is the completion's. ``top``
        is how many of the likeliest tokens come with each. ``adapter`` is that of ``stream``.

        Raises InputError for what is longer than the context and for raw text with nothing before it,
        EdgepeftError when the runtime fails.
        """
        if raw:
            if not isinstance(prompt, str) or system is not None:
                raise InputError("score: raw text is one string, without roles or a system message")
            return self.score_ids(*self.prompter.seam(prompt, completion), adapter=adapter, top=top)
        answer: Message = {"role": "assistant", "content": completion}
        row = Row((*_conversation(prompt, system), answer), None, "score")
        return self.score_ids(*self.prompter.split(row), adapter=adapter, top=top)

    def score_ids(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        *,
        adapter: str | None = None,
        top: int = 0,
    ) -> Score:
        """The same for token ids; raises as ``score``."""
        SamplingParams(logprobs=top)  # for its range
        total, context = len(prompt_ids) + len(completion_ids), self.bundle.context_length
        if not prompt_ids or not completion_ids:
            raise InputError("score: needs one or more tokens, and one or more before them")
        if total > context:
            raise InputError(
                f"score: prompt and completion are {total} tokens, and the context is {context} "
                f"({self.bundle.path}); shorten them"
            )
        self._refuse_foreign([*prompt_ids, *completion_ids])
        tokens: list[TokenLogprob] = []
        chosen = self._chosen(adapter)
        with contextlib.closing(self._rows(prompt_ids, completion_ids, chosen)) as parts:
            for rows in parts:
                wanted = completion_ids[len(tokens) : len(tokens) + len(rows)]
                tokens += token_logprobs(rows, wanted, top)
        return Score(list(prompt_ids), tokens)

    def matcher(self, grammar: Grammar | None) -> Matcher | None:
        """What follows an answer through ``grammar``; None for none. Raises InputError and MissingError."""
        return self._bounding.matcher(grammar)

    @abstractmethod
    def _tokens(self, request: Request) -> Generator[Said, None, None]:
        """The answer's tokens as they come, a stop token among them; nothing happens before the first is
        asked for. Raises EdgepeftError when the runtime fails.
        """

    @abstractmethod
    def _rows(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], adapter: str | None
    ) -> Generator[npt.NDArray[np.float32], None, None]:
        """Logits float32 [n, V] in the places of a completion's tokens, in their order, some at a time. Raises
        EdgepeftError when the runtime fails.
        """

    @abstractmethod
    def _chosen(self, adapter: str | None) -> str | None:
        """The adapter of a call, known to be there; None for the base. Raises InputError."""

    def room(self, ids: Sequence[int], sampling: SamplingParams) -> int:
        """How many tokens may be generated after ``ids``; InputError for ids that cannot be fed."""
        self._refuse_foreign(ids)
        context = self.bundle.context_length
        if len(ids) >= context:
            raise InputError(
                f"prompt: {len(ids)} tokens leave no room for an answer in a context of {context} "
                f"({self.bundle.path}); shorten it"
            )
        return min(sampling.max_new_tokens, context - len(ids))

    def _refuse_foreign(self, ids: Sequence[int]) -> None:
        # onnxruntime-genai reads beyond its embedding without a word.
        if not ids or min(ids) < 0 or max(ids) >= self.bundle.vocab_size:
            raise InputError(f"prompt: needs one or more token ids below {self.bundle.vocab_size}")


def _conversation(messages: str | Sequence[Message], system: str | None) -> list[Message]:
    turns: list[Message] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    )
    if system is None:
        return turns
    if turns and turns[0]["role"] == "system":
        raise InputError("system: the messages already begin with a system message; drop one")
    return [{"role": "system", "content": system}, *turns]
