"""A model's vocabulary as llguidance needs it: the bytes of each token, and how a text is cut into tokens."""

from __future__ import annotations

from collections.abc import Collection

from tokenizers import Tokenizer

from edgepeft.errors import InputError, one_line
from edgepeft.guidance.grammar import Grammar, engine, explained, limits
from edgepeft.guidance.matcher import Matcher

_OF_JSON = '{}[]:," 0123456789truefalsn-'


class Vocabulary:
    """The tokens of one model; makes a matcher for each answer. Safe to use from several threads."""

    def __init__(
        self, tokenizer: Tokenizer, stop_ids: Collection[int], width: int, name: str
    ) -> None:
        """``width`` is the number of logits, V; ``name`` stands in errors.

        Raises InputError for a tokenizer whose tokens are no bytes of text or that has no stop token,
        MissingError without llguidance.
        """
        self._name = name
        self._width = width
        self._tokenizer = tokenizer
        self._stops = sorted(token for token in stop_ids if token < width)
        if not self._stops:
            raise InputError(
                f"{name}: names no token that ends an answer, so no grammar can end one"
            )
        lib = engine()
        size = max(width, int(tokenizer.get_vocab_size()))
        try:
            self._tokens = lib.LLTokenizer(tokenizer.to_str(), n_vocab=size, eos_token=self._stops)
        except ValueError as error:
            raise InputError(
                f"{name}: answers can't be bounded with this tokenizer ({one_line(error)[:200]})"
            ) from None

    def parts(self, text: str) -> list[str | int]:
        """A literal taken apart: text, and the ids of tokens in it that no text can be made of."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        found: list[str | int] = []
        last = 0
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if self._tokens.is_special_token(token):
                found += [text[last:start], token] if start > last else [token]
                last = end
        return [*found, text[last:]] if text[last:] else found

    def shown(self) -> list[int]:
        """Tokens that no text can be made of but that an answer shows: markers such as ``<think>``."""
        added = self._tokenizer.get_added_tokens_decoder()
        return sorted(
            token
            for token, one in added.items()
            if not one.special and token < self._width and self._tokens.is_special_token(token)
        )

    def matcher(self, grammar: Grammar) -> Matcher:
        """Follows one answer through ``grammar``.

        Raises InputError for a grammar that can't be compiled, allows nothing, or needs characters that the
        vocabulary can't spell.
        """
        self._require_spelled(grammar)
        inner = engine().LLMatcher(self._tokens, grammar.compiled, log_level=0, limits=limits())
        if inner.is_error():
            raise InputError(f"{grammar.where}: {explained(inner.get_error())}")
        return Matcher(inner, self._stops, self._width, grammar.where)

    def _require_spelled(self, grammar: Grammar) -> None:
        """Raise InputError for a character of the grammar's own text that no tokens make."""
        wanted = grammar.text + (_OF_JSON if grammar.kind == "json_schema" else "")
        for char in dict.fromkeys(wanted):
            if not char.isprintable():
                continue
            if self._tokens.decode_bytes(self._tokens.greedy_tokenize(char)) != char.encode():
                raise InputError(
                    f"{grammar.where}: the vocabulary of {self._name} can't spell {char!r}"
                )
