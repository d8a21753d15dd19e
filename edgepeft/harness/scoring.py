"""How likely the graph that ships holds a text to be, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.decoder_session import GraphSession, Read


class Scored(NamedTuple):
    """Log-likelihood of a continuation in nats, and whether each of its tokens was the likeliest."""

    nats: float
    greedy: bool


@dataclass(frozen=True)
class Fitted:
    """Tokens to read, and those that are to follow the last ones of them; ``cut`` were left out at the front."""

    ids: tuple[int, ...]
    wanted: tuple[int, ...]
    cut: int


class Window:
    """What a bundle can read at once: ``room`` tokens behind ``lead``, which stands before every prompt."""

    def __init__(self, context_length: int, lead: Sequence[int]) -> None:
        self._lead = list(lead)
        self.room = context_length - len(self._lead)

    def bare(self, ids: list[int]) -> list[int]:
        """``ids`` without the lead."""
        count = len(self._lead)
        return ids[count:] if count and ids[:count] == self._lead else ids

    def fit(self, context: list[int], wanted: list[int]) -> Fitted:
        """The end of both that fits; the last of the wanted tokens need not be read.

        Raises InputError for a continuation that does not fit by itself.
        """
        whole = self.bare(context) + wanted
        if len(wanted) > self.room:
            raise InputError(
                f"eval: a continuation of {len(wanted)} tokens does not fit into a context of {self.room}; leave "
                "out the task"
            )
        read = whole[-(self.room + 1) :][:-1]
        cut = len(whole) - 1 - len(read)
        return Fitted((*self._lead, *read), tuple(wanted), cut)

    def prompt(self, ids: list[int], answer: int) -> tuple[list[int], int]:
        """The end of a prompt that leaves room for an answer of so many tokens, and how many were cut off."""
        bare = self.bare(ids)
        kept = bare[-(self.room - answer) :]
        return [*self._lead, *kept], len(bare) - len(kept)


class Scorer:
    """Reads texts with a graph, one after another, ``chunk`` tokens at a time.

    ``width`` is how many of the logits are those of tokens: what a graph has beyond are virtual ones.
    """

    def __init__(self, graph: GraphSession, width: int, chunk: int) -> None:
        self._graph = graph
        self._width = width
        self._chunk = chunk
        self._read: Read | None = None
        self._capacity = 0

    def score(
        self, texts: Sequence[Fitted], done: Callable[[Sequence[int], int], None]
    ) -> list[Scored]:
        """The score of each text, in their order.

        Texts that differ in their last token alone are read once. The longest come first, so that what is too
        much for the memory shows at once. ``done`` is told the places of the texts that were scored, and how many
        tokens were read for them. Raises EdgepeftError when the graph fails.
        """
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, text in enumerate(texts):
            alike.setdefault(text.ids, []).append(place)
        found: dict[int, Scored] = {}
        for ids in sorted(alike, key=len, reverse=True):
            places = alike[ids]
            wanted = [texts[place].wanted for place in places]
            found.update(zip(places, self._scores(ids, wanted), strict=True))
            done(places, len(ids))
        return [found[place] for place in range(len(texts))]

    def _scores(self, ids: tuple[int, ...], wanted: Iterable[tuple[int, ...]]) -> list[Scored]:
        wanted = list(wanted)
        # Up to the last token the texts are the same, so their tokens are those that are read next.
        known = max(max(map(len, wanted)) - 1, 0)
        nats, hits, last = self._nats(ids, known)
        likeliest = int(last.argmax())
        scores = []
        for tokens in wanted:
            if not tokens:
                scores.append(Scored(0.0, True))
                continue
            inner = slice(known - len(tokens) + 1, known)
            scores.append(
                Scored(
                    float(nats[inner].sum() + last[tokens[-1]]),
                    bool(hits[inner].all()) and likeliest == tokens[-1],
                )
            )
        return scores

    def _nats(
        self, ids: tuple[int, ...], known: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Of the last ``known`` tokens the nats and whether each was the likeliest; of the next, nats [width]."""
        first, total = len(ids) - 1 - known, len(ids)
        nats, hits = np.zeros(known), np.zeros(known, bool)
        last = np.zeros(0)
        for start in range(0, total, self._chunk):
            part = ids[start : start + self._chunk]
            logits = self._reader(total)(part, start, total)
            if len(logits) != len(part):
                raise EdgepeftError(
                    f"{self._graph.model_file}: returns logits of the last position only; export it without "
                    "prune_lm_head"
                )
            rows = logits[max(first - start, 0) :, : self._width]
            if not len(rows):
                continue
            begin = max(start, first)
            likely = _log_softmax(rows)
            following = np.asarray(ids[begin + 1 : begin + 1 + len(rows)], np.int64)
            at = slice(begin - first, begin - first + len(following))
            nats[at] = likely[np.arange(len(following)), following]
            hits[at] = likely[: len(following)].argmax(-1) == following
            last = likely[-1].astype(np.float64)
        return nats, hits, last

    def _reader(self, capacity: int) -> Read:
        if self._read is None or capacity > self._capacity:
            self._read = None  # its cache is let go before the next is made
            self._read, self._capacity = self._graph.reader(capacity), capacity
        return self._read


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-probabilities [T, V] of logits; the sums are of double precision."""
    shifted = logits - logits.max(-1, keepdims=True)
    sums = np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)
    likely: npt.NDArray[np.float32] = shifted - np.log(sums).astype(np.float32)
    return likely
