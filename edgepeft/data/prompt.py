"""The one way from a row to token ids and a loss mask.

Trainer, calibration, reference, verifier and the runtime on the device all come through here, so
that the model is asked on the device exactly as it was trained. Only the standard library,
tokenizers and jinja2 are imported. Token ids are plain ints; nothing is padded or truncated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from edgepeft.data.rows import Message, Row
from edgepeft.data.templates import ChatTemplate
from edgepeft.data.tokenizer_files import (
    read_chat_template,
    read_eos_ids,
    read_special_tokens,
    read_template_file,
    read_tokenizer,
    vocab_size,
)
from edgepeft.errors import InputError

_PROBE = "edgepeft-probe"


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and, of the same length, 1 where a token is learned or scored."""

    ids: list[int]
    mask: list[int]


class Prompter:
    """Turns rows into token ids for one model; made with `from_folder`.

    ``mode`` is "chat" (through the template) or "plain". ``stop_ids`` end an answer; ``eos_id`` is
    the one appended where the template writes none. ``vocab_size`` is the tokenizer's, added
    tokens included (the model's embedding may be larger). ``template_source`` is the template's
    text, None in plain mode.
    """

    mode: Literal["chat", "plain"]

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        special_tokens: Mapping[str, str],
        eos_ids: Sequence[int],
        name: str,
    ) -> None:
        """``eos_ids`` beyond the tokenizer's own ``eos_token``; ``name`` is used in errors."""
        self.tokenizer = tokenizer
        self.name = name
        self.special_tokens = dict(special_tokens)
        self.mode = "chat" if template else "plain"
        self.template_source = template.source if template else None
        self.vocab_size = vocab_size(tokenizer)
        self.bos_id = self._special_id("bos_token")
        self._template = template
        stops = [self._turn_end(), self._special_id("eos_token"), *eos_ids]
        known = [token for token in stops if token is not None]
        self.eos_id: int | None = known[0] if known else None
        self.stop_ids: frozenset[int] = frozenset(known)

    @classmethod
    def from_folder(cls, folder: Path, template: str = "auto") -> Prompter:
        """Read a model folder's tokenizer, chat template and end tokens.

        ``template`` is "auto" (chat if the folder has a template), "chat", "plain", or the path of
        a jinja file. Raises InputError for a missing or corrupt file and a missing template.
        """
        folder = Path(folder)
        special = read_special_tokens(folder)
        tokenizer = read_tokenizer(folder, special)
        chosen: ChatTemplate | None = None
        if template in ("auto", "chat"):
            found = read_chat_template(folder)
            if found is None and template == "chat":
                raise InputError(
                    f"{folder}: has no chat template; set data.template to plain or to a file"
                )
            chosen = ChatTemplate(*found) if found else None
        elif template != "plain":
            path = Path(template)
            if not path.is_file():
                raise InputError(
                    f"data.template: {template!r} is not auto, chat, plain or an existing file"
                )
            chosen = ChatTemplate(read_template_file(path), str(path))
        eos_ids = read_eos_ids(folder, vocab_size(tokenizer))
        return cls(tokenizer, chosen, special, eos_ids, str(folder))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids up to and including the generation prompt: what the model is asked with.

        Raises InputError if there are no messages or the template refuses them.
        """
        return self._encode_prompt(self._prompt_text(messages))

    def split(self, row: Row) -> tuple[list[int], list[int]]:
        """(prompt ids, completion ids); the completion ends with its stop token.

        The prompt is tokenized alone, so training sees the very ids inference will. A text row has
        no prompt: all its tokens are completion. Raises InputError as `prompt` does, and if the
        model names no end-of-sequence token.
        """
        if row.messages is None:
            return [], self._ended(self.text(row.text or ""), row.where)
        prompt = self._prompt_text(row.prompt_messages, row.where)
        return self._encode_prompt(prompt), self._completion(row, prompt)

    def row(self, row: Row) -> Encoded:
        """Ids and loss mask for training: prompt 0, completion 1; a text row is all 1.

        In a conversation every assistant turn is learned where the template renders the beginning
        of a conversation as the beginning of its rendering, else only the last. The ids are always
        those of `split`, joined.
        """
        prompt, completion = self.split(row)
        mask = [0] * len(prompt)
        if row.messages and self._template:
            self._mark_earlier_turns(row, mask)
        return Encoded(prompt + completion, mask + [1] * len(completion))

    def text(self, text: str) -> list[int]:
        """Ids of plain text, with the BOS the tokenizer adds and without the EOS it may add."""
        encoding = self.tokenizer.encode(text, add_special_tokens=True)
        ids: list[int] = encoding.ids
        added = encoding.special_tokens_mask  # 1 only for what the post-processor put there
        end = len(ids)
        while end and added[end - 1] and ids[end - 1] in self.stop_ids:
            end -= 1
        return ids[:end]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` without special and stop tokens."""
        kept = [token for token in ids if token not in self.stop_ids]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        return text

    def stream(self) -> Callable[[int], str]:
        """A function that takes one id after another and returns the text each one completes.

        The text is empty while a character is still incomplete.
        """
        # Not tokenizers' DecodeStream: with byte fallback it raises on bytes that are no UTF-8,
        # which a model may well say, and the answer would end there.
        context: list[int] = []  # the tokens last emitted: they decide on spaces in between
        pending: list[int] = []

        def push(token: int) -> str:
            pending.append(token)
            before, text = self.decode(context), self.decode(context + pending)
            if text.endswith("\ufffd"):
                return ""
            new = text[len(before) :] if text.startswith(before) else self.decode(pending)
            if new:
                context[:] = pending
                pending.clear()
            return new

        return push

    def describe(self) -> dict[str, Any]:
        """What a manifest records: mode, template hash (or None), stop ids, vocabulary size."""
        source = self.template_source
        digest = hashlib.sha256(source.encode()).hexdigest() if source is not None else None
        return {
            "mode": self.mode,
            "template_sha256": digest,
            "stop_ids": sorted(self.stop_ids),
            "vocab_size": self.vocab_size,
        }

    def _prompt_text(self, messages: Sequence[Message], where: str = "") -> str:
        if not messages:
            raise InputError(f"{where or self.name}: no message to answer; add a user turn")
        if self._template:
            return self._render(messages, generation_prompt=True, where=where)
        return "\n".join(message["content"] for message in messages) + "\n"

    def _encode_prompt(self, text: str) -> list[int]:
        # A template writes its own BOS; only plain text needs the tokenizer's.
        return self._encode(text) if self._template else self.text(text)

    def _completion(self, row: Row, prompt: str) -> list[int]:
        if not self._template:
            return self._ended(self._encode(row.completion), row.where)
        full = self._render(row.messages or (), generation_prompt=False, where=row.where)
        if full.startswith(prompt):
            text = full[len(prompt) :]
        else:
            text = self._closed(row, full)
        return self._ended(self._encode(text), row.where)

    def _closed(self, row: Row, full: str) -> str:
        """The answer and what the template closes a turn with.

        For templates that render a finished turn unlike the one they ask for (reasoning blocks).
        """
        # A probe in the answer's place finds the closing text; searching the answer itself would
        # find a short one inside a special token.
        probe: Message = {"role": "assistant", "content": _PROBE}
        text = self._render((*row.prompt_messages, probe), generation_prompt=False, where=row.where)
        _, found, closing = text.rpartition(_PROBE)
        if not found:
            return row.completion
        trimmed = row.completion.strip() + closing
        kept = row.completion + closing
        return trimmed if full.endswith(trimmed) and not full.endswith(kept) else kept

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

    def _mark_earlier_turns(self, row: Row, mask: list[int]) -> None:
        """Set ``mask`` (over the prompt's tokens) where an earlier assistant turn is learned."""
        messages = row.prompt_messages
        turns = [i for i, turn in enumerate(messages) if i and turn["role"] == "assistant"]
        if not turns:
            return
        prompt = self._prompt_text(messages, row.where)
        spans: list[tuple[int, int]] = []
        for i in turns:
            before = self._prompt_text(messages[:i], row.where)
            after = self._render(messages[: i + 1], generation_prompt=False, where=row.where)
            if not (after.startswith(before) and prompt.startswith(after)):
                return
            spans.append((len(before), len(after)))
        encoding = self.tokenizer.encode(prompt, add_special_tokens=False)
        for start, end in spans:
            inside = [i for i, (a, b) in enumerate(encoding.offsets) if start <= a and b <= end]
            learned = self._first_stop([encoding.ids[i] for i in inside])
            for i in inside[:learned]:
                mask[i] = 1

    def _turn_end(self) -> int | None:
        """The special token the template ends an assistant turn with, if it writes one."""
        if not self._template:
            return None
        probe: list[Message] = [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": _PROBE},
        ]
        try:
            text = self._render(probe, generation_prompt=False)
        except InputError:
            return None  # it may want other messages than these; real ones report their own errors
        _, found, closing = text.rpartition(_PROBE)
        if not found:
            return None
        special = {
            token
            for token, added in self.tokenizer.get_added_tokens_decoder().items()
            if added.special
        }
        return next((token for token in self._encode(closing) if token in special), None)

    def _render(
        self, messages: Sequence[Message], *, generation_prompt: bool, where: str = ""
    ) -> str:
        assert self._template is not None
        return self._template.render(
            messages, self.special_tokens, generation_prompt=generation_prompt, where=where
        )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        token: int | None = self.tokenizer.token_to_id(text) if text else None
        return token
