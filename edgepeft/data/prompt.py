"""The one way from a row to token ids and a loss mask.

Trainer, calibration, reference, verifier and the runtime on the device all come through here, so
that the model is asked on the device exactly as it was trained. Only the standard library,
tokenizers and jinja2 are imported. Token ids are plain ints; nothing is padded or truncated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgepeft.data.answer_text import pieces_of
from edgepeft.data.control_tokens import ControlTokens, Policy, Tokens
from edgepeft.data.encoded import Encoded, Reading
from edgepeft.data.generation_prompt import Asking, asking
from edgepeft.data.look_alikes import Rendered
from edgepeft.data.message_parts import reading_text
from edgepeft.data.rendering import Renderer
from edgepeft.data.rows import Message, Row, Tool
from edgepeft.data.template_modes import AUTO, Mode
from edgepeft.data.templates import ChatTemplate
from edgepeft.data.tokenizer_files import (
    read_chat_template,
    read_control_tokens,
    read_eos_ids,
    read_special_tokens,
    read_template_file,
    read_tokenizer,
    vocab_size,
)
from edgepeft.data.written_answer import PROBE, written_answer
from edgepeft.errors import InputError


class Prompter:
    """Turns rows into token ids for one model; made with `from_folder`.

    ``mode`` is "chat" (through the template) or "plain". ``stop_ids`` end an answer; ``eos_id`` is
    the one appended where the template writes none. ``vocab_size`` is the tokenizer's, added
    tokens included (the model's embedding may be larger). ``template_source`` is the template's
    text, None in plain mode, made to read text where it reads parts; ``asking`` says whether a generation prompt
    had to be added to it.
    ``control`` knows the control tokens: text that looks like one is text, unless the policy is "tokens".
    ``renderer`` makes the texts that are encoded.
    """

    mode: Mode

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        special_tokens: Mapping[str, str],
        eos_ids: Sequence[int],
        name: str,
        control_tokens: Policy = "text",
        further: Sequence[str] = (),
    ) -> None:
        """``eos_ids`` and ``further`` control tokens beyond the tokenizer's own; ``name`` is used in errors."""
        self.tokenizer = tokenizer
        self.name = name
        self.special_tokens = dict(special_tokens)
        self.mode = "chat" if template else "plain"
        if template is not None:
            template = reading_text(template, self.special_tokens)
        self.asking: Asking | None = asking(template, self.special_tokens) if template else None
        template = self.asking.template if self.asking else None
        self.template_source = template.source if template else None
        self.vocab_size = vocab_size(tokenizer)
        self.bos_id = self._special_id("bos_token")
        ends = [tokenizer.id_to_token(token) or "" for token in eos_ids]
        self.control = ControlTokens(
            tokenizer,
            written=template.written if template else "",
            further=[*further, *ends],
            unknown=self.special_tokens.get("unk_token"),
            as_text=control_tokens == "text",
        )
        self._chat = template is not None
        self.renderer = Renderer(template, self.special_tokens, self.control, name)
        stops = [self._turn_end(), self._special_id("eos_token"), *eos_ids]
        known = [token for token in stops if token is not None]
        self.eos_id: int | None = known[0] if known else None
        self.stop_ids: frozenset[int] = frozenset(known)

    @classmethod
    def from_folder(
        cls, folder: Path, template: str = AUTO, control_tokens: Policy = "text"
    ) -> Prompter:
        """Read a model folder's tokenizer, chat template and end tokens.

        ``template`` is "auto" (chat if the folder has a template), "chat", "plain", or the path of
        a jinja file. Raises InputError for a missing or corrupt file and a missing template.
        """
        folder = Path(folder)
        special = read_special_tokens(folder)
        tokenizer = read_tokenizer(folder, special)
        chosen: ChatTemplate | None = None
        if template in (AUTO, "chat"):
            found = read_chat_template(folder)
            if found is None and template == "chat":
                raise InputError(
                    f"{folder}: has no chat template; set data.template to plain or to a file"
                )
            chosen = ChatTemplate(*found) if found else None
        elif template != "plain":
            chosen = ChatTemplate(read_template_file(Path(template)), template)
        eos_ids = read_eos_ids(folder, vocab_size(tokenizer))
        further = read_control_tokens(folder)
        return cls(tokenizer, chosen, special, eos_ids, str(folder), control_tokens, further)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[int]:
        """Ids up to and including the generation prompt: what the model is asked with, and what it may call.

        Raises InputError if there are no messages or the template refuses them.
        """
        return self.encoded(self.renderer.prompt(messages, tools=tools))

    def encoded(self, prompt: Rendered) -> list[int]:
        """Ids of a prompt that ``renderer`` made, or of one with more behind it."""
        # A template writes its own BOS; only plain text needs the tokenizer's.
        return self._encode(prompt) if self._chat else self._plain(prompt)

    def split(self, row: Row) -> tuple[list[int], list[int]]:
        """(prompt ids, completion ids); the completion ends with its stop token.

        The prompt is tokenized alone, so training sees the very ids inference will. A text row has
        no prompt: all its tokens are completion, whatever control tokens it holds. Raises
        InputError as `prompt` does, and if the model names no end-of-sequence token.
        """
        if row.messages is None:
            ids = self.text(row.text or "")
            return [], ids if ids and ids[-1] in self.stop_ids else self._ended(ids, row.where)
        prompt = self.renderer.prompt(row.prompt_messages, row.where, row.tools)
        return self.encoded(prompt), self._ended(
            self._encode(written_answer(self.renderer, row, prompt)), row.where
        )

    def row(self, row: Row) -> Encoded:
        """Ids and loss mask for training: prompt 0, completion 1; a text row is all 1.

        In a conversation every assistant turn is learned (but those that the row says are not)
        where the template renders the beginning of a conversation as the beginning of its
        rendering, else only the last. The ids are always those of `split`, joined.
        """
        return self.read(row).encoded

    def read(self, row: Row) -> Reading:
        """A row's prompt and completion, and what of the prompt is learned. Raises as `split` does."""
        return Reading(row, *self.split(row), self._earlier_turns(row))

    def text(self, text: str) -> list[int]:
        """Ids of plain text, with the BOS the tokenizer adds and without the EOS it may add."""
        return self._plain(self.control.rendered(text))

    def seam(self, text: str, following: str) -> tuple[list[int], list[int]]:
        """Ids of plain text and of what follows it, tokenized as one text and parted where the first ends.

        A token across the seam belongs to what follows.
        """
        tokens = self.control.encode(self.control.rendered(text + following), whole=True)
        count = next(
            (
                at
                for at, ((_, end), around) in enumerate(
                    zip(tokens.places, tokens.around, strict=True)
                )
                if end > len(text) and not around
            ),
            len(tokens.ids),
        )
        whole = self._without_end(tokens)
        return whole[:count], whole[count:]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` without special and stop tokens."""
        kept = [token for token in ids if token not in self.stop_ids]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        return text

    def stream(self) -> Callable[[int], str]:
        """A function that takes one id after another and returns the text each one completes.

        The text is empty while a character is still incomplete.
        """
        return pieces_of(self.decode)

    def describe(self) -> dict[str, Any]:
        """What a manifest records: mode, template hash (or None), stop ids, vocabulary size, and whether
        look-alikes of control tokens are text.
        """
        source = self.template_source
        digest = hashlib.sha256(source.encode()).hexdigest() if source is not None else None
        return {
            "mode": self.mode,
            "template_sha256": digest,
            "stop_ids": sorted(self.stop_ids),
            "vocab_size": self.vocab_size,
            "control_tokens": "text" if self.control.as_text else "tokens",
        }

    def _plain(self, text: Rendered) -> list[int]:
        return self._without_end(self.control.encode(text, whole=True))

    def _without_end(self, tokens: Tokens) -> list[int]:
        """Ids without the EOS that the tokenizer may have added."""
        ids, end = tokens.ids, len(tokens.ids)
        # `around` is 1 only for what the post-processor put there.
        while end and tokens.around[end - 1] and ids[end - 1] in self.stop_ids:
            end -= 1
        return ids[:end]

    def answer_text(self, row: Row) -> str:
        """What a row's answer is as text, markers included, up to where it ends. Raises as `split` does."""
        prompt = self.renderer.prompt(row.prompt_messages, row.where, row.tools)
        text = written_answer(self.renderer, row, prompt).text
        stops = filter(None, map(self.tokenizer.id_to_token, self.stop_ids))
        return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)]

    def spelled(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` with its special tokens, but without stop tokens."""
        kept = [token for token in ids if token not in self.stop_ids]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False)
        return text

    def _ended(self, ids: list[int], where: str) -> list[int]:
        """``ids`` up to their first stop token, which is appended if there is none."""
        length = self._first_stop(ids)
        if length is not None:
            return ids[:length]
        if self.eos_id is None:
            raise InputError(
                f"{self.name}: no end-of-sequence token for {where}; "
                "name eos_token in tokenizer_config.json"
            )
        return [*ids, self.eos_id]

    def _first_stop(self, ids: Sequence[int]) -> int | None:
        """How many ids there are up to and including the first stop token, if there is one."""
        return next((i for i, token in enumerate(ids, 1) if token in self.stop_ids), None)

    def _earlier_turns(self, row: Row) -> list[list[int]] | None:
        """Places among the prompt's tokens of each earlier assistant turn that is learned; None if none can."""
        messages = row.prompt_messages
        turns = [
            place
            for place, turn in enumerate(messages)
            if place and turn["role"] == "assistant" and place not in row.unlearned
        ]
        if not turns or not self._chat:
            return None if turns else []
        prompt = self.renderer.prompt(messages, row.where, row.tools)
        spans: list[tuple[int, int]] = []
        for place in turns:
            before = self.renderer.prompt(messages[:place], row.where, row.tools).text
            after = self.renderer.conversation(messages[: place + 1], row.where, row.tools).text
            if not (after.startswith(before) and prompt.text.startswith(after)):
                return None
            spans.append((len(before), len(after)))
        tokens = self.control.encode(prompt)
        found = []
        for start, end in spans:
            inside = [i for i, (a, b) in enumerate(tokens.places) if start <= a and b <= end]
            learned = self._first_stop([tokens.ids[i] for i in inside])
            found.append(inside[:learned])
        return found

    def _turn_end(self) -> int | None:
        """The special token the template ends an assistant turn with, if it writes one."""
        if not self._chat:
            return None
        probe: list[Message] = [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": PROBE},
        ]
        try:
            text = self.renderer.conversation(probe).text
        except InputError:
            return None  # it may want other messages than these; real ones report their own errors
        _, found, closing = text.rpartition(PROBE)
        if not found:
            return None
        special = {
            token
            for token, added in self.tokenizer.get_added_tokens_decoder().items()
            if added.special
        }
        return next((token for token in self._encode(Rendered(closing)) if token in special), None)

    def _encode(self, text: Rendered) -> list[int]:
        return self.control.encode(text).ids

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        token: int | None = self.tokenizer.token_to_id(text) if text else None
        return token
