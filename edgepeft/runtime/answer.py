"""An answer while it is being made, and when it is done."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from edgepeft.runtime.logprobs import TokenLogprob

FinishReason = Literal["stop", "length", "interrupted"]
"""A stop token or string came; the tokens or the context ran out; the stream was left early."""


class Said(NamedTuple):
    """A token of an answer, and how likely the model held it where that is asked for."""

    id: int
    logprob: TokenLogprob | None = None


@dataclass(frozen=True)
class Completion:
    """One answer. ``ids`` are the answer's token ids without the stop id, ``logprobs`` how likely the model held
    each of them, where that was asked for.

    ``prefill_seconds`` runs until the first token is there, ``decode_seconds`` from then to the
    last one; ``tokens_per_second`` is the speed of decoding, 0 when there was but one token.
    """

    text: str
    prompt_ids: list[int]
    ids: list[int]
    finish_reason: FinishReason
    prefill_seconds: float
    decode_seconds: float
    tokens_per_second: float
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass
class Progress:
    """What a stream has done so far; times are of ``time.perf_counter``, in seconds.

    ``steps`` counts the tokens generated, the stop token included.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    finish_reason: FinishReason = "interrupted"
    started: float = 0.0
    first: float = 0.0
    last: float = 0.0
    steps: int = 0

    def reached(self, steps: int, now: float) -> None:
        """The token number ``steps`` came at ``now``."""
        if not self.steps:
            self.first = now
        self.steps, self.last = steps, now


class Stream(Iterator[str]):
    """The pieces of an answer as they come; made by ``Runtime.stream``.

    The answer's cache and adapter are given back when it has ended or is closed, at the end of a ``with`` too.
    """

    def __init__(self, pieces: Generator[str, None, None], progress: Progress) -> None:
        self._pieces = pieces
        self._progress = progress

    def __next__(self) -> str:
        return next(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End the answer where it is; what has come so far stays in ``completion``."""
        self._pieces.close()

    @property
    def ids(self) -> list[int]:
        """The tokens whose text has come so far."""
        return self._progress.ids

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Those of the tokens whose text has come so far, where they were asked for."""
        return self._progress.logprobs

    @property
    def first_token_seconds(self) -> float | None:
        """Seconds from the first piece being asked for until the first token; None before it is there."""
        done = self._progress
        return done.first - done.started if done.steps else None

    def completion(self) -> Completion:
        """What has come so far; the whole answer once the stream is exhausted."""
        done = self._progress
        decode = done.last - done.first
        return Completion(
            text="".join(done.parts),
            prompt_ids=done.prompt_ids,
            ids=list(done.ids),
            finish_reason=done.finish_reason,
            prefill_seconds=self.first_token_seconds or 0.0,
            decode_seconds=decode,
            tokens_per_second=(done.steps - 1) / decode if done.steps > 1 else 0.0,
            logprobs=list(done.logprobs),
        )
