"""Rows as token ids: what an example is learned or scored by, and where its learned turns lie."""

from __future__ import annotations

from dataclasses import dataclass

from edgepeft.data.rows import Row


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and, of the same length, 1 where a token is learned or scored."""

    ids: list[int]
    mask: list[int]


@dataclass(frozen=True)
class Reading:
    """A row's token ids, and the places in its prompt of each earlier assistant turn that is learned.

    ``earlier`` is None where the template renders such turns otherwise once they are answered: they can't be
    learned then.
    """

    row: Row
    prompt: list[int]
    completion: list[int]
    earlier: list[list[int]] | None

    @property
    def encoded(self) -> Encoded:
        """All ids, and which of them are learned."""
        mask = [0] * len(self.prompt) + [1] * len(self.completion)
        for turn in self.earlier or ():
            for place in turn:
                mask[place] = 1
        return Encoded(self.prompt + self.completion, mask)
