"""What follows answers through grammars: one vocabulary for each loaded bundle, made when it is first needed."""

from __future__ import annotations

import threading

from edgepeft.data.prompt import Prompter
from edgepeft.guidance.grammar import FREE, Grammar
from edgepeft.guidance.matcher import Matcher
from edgepeft.guidance.vocabulary import Vocabulary


class Bounding:
    """The vocabulary of one bundle, for grammars. Safe to use from several threads."""

    def __init__(self, prompter: Prompter, width: int, name: str) -> None:
        """``width`` is the number of logits; ``name`` is the bundle's, for errors."""
        self._prompter = prompter
        self._width = width
        self._name = name
        self._vocabulary: Vocabulary | None = None
        self._lock = threading.Lock()

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens as grammars see them. Raises InputError and MissingError as ``Vocabulary`` does."""
        with self._lock:
            if self._vocabulary is None:
                prompter = self._prompter
                self._vocabulary = Vocabulary(
                    prompter.tokenizer, prompter.stop_ids, self._width, self._name
                )
            return self._vocabulary

    def matcher(self, grammar: Grammar | None) -> Matcher | None:
        """What follows an answer through ``grammar``; None for none. Raises InputError and MissingError."""
        if grammar is None or grammar == FREE:
            return None
        return self.vocabulary.matcher(grammar)
