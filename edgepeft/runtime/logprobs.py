"""How likely a model held tokens to be: natural logarithms of the probabilities that its logits give.

They are those of the model itself, before temperature, penalties, biases, top-k, top-p and any grammar have had
their say, as OpenAI's API has them: log-softmax of the logits as they come out of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TokenLogprob:
    """A token that came and its log-probability in nats; ``top`` has the likeliest tokens in its place as (id,
    nats), the likeliest first.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Score:
    """How likely a model holds the ``tokens`` of a completion after ``prompt_ids``; ``nats`` is their sum."""

    prompt_ids: list[int]
    tokens: list[TokenLogprob]

    @property
    def nats(self) -> float:
        """Log-probability of the completion as a whole."""
        return sum(token.logprob for token in self.tokens)


def token_logprob(logits: npt.NDArray[np.float32], token: int, top: int) -> TokenLogprob:
    """That of a token whose place has the ``logits`` float32 [V], with the ``top`` likeliest tokens."""
    # The whole of the log-softmax is not needed, and a vocabulary is large.
    highest = logits.max()
    total = float(highest) + math.log(np.exp(logits - highest).sum(dtype=np.float64))
    best = np.arange(0)
    if top:
        first = max(len(logits) - top, 0)
        best = np.flatnonzero(logits >= np.partition(logits, first)[first])
        # Of tokens that are as likely those of the lowest ids, in their order.
        best = best[np.lexsort((best, -logits[best]))][:top]
    return TokenLogprob(
        token,
        float(logits[token]) - total,
        tuple((int(at), float(logits[at]) - total) for at in best),
    )


def token_logprobs(
    rows: npt.NDArray[np.float32], tokens: Sequence[int], top: int
) -> list[TokenLogprob]:
    """The same for several tokens, whose places have the ``rows`` float32 [n, V]."""
    return [token_logprob(row, token, top) for row, token in zip(rows, tokens, strict=True)]
