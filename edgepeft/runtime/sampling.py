"""How an answer's tokens are chosen from logits: greedily, or drawn with a seed of the answer's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import InputError

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 do not restrict a draw, which
    repeats itself with the same ``seed`` only. Raises InputError naming the value that is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        _require(self.temperature >= 0, "temperature", "0 (greedy) or more", self.temperature)
        _require(self.top_k >= 0, "top_k", "0 (any token) or more", self.top_k)
        _require(0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self.top_p)
        penalty = self.repetition_penalty
        _require(penalty > 0, "repetition_penalty", "above 0", penalty)
        if self.temperature and self.seed is not None:
            _require(0 <= self.seed <= MAX_SEED, "seed", f"from 0 to {MAX_SEED}", self.seed)


class Chooser:
    """Chooses the tokens of one answer; what it draws hangs on its own seed and logits alone."""

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int]) -> None:
        """``prompt_ids`` count as said already where repetition is penalized."""
        self._how = sampling
        self._said = set(prompt_ids)
        self._draw = np.random.default_rng(sampling.seed)

    def __call__(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token after ``logits`` [vocabulary], which are left as they are."""
        how = self._how
        if how.repetition_penalty != 1.0:
            logits = logits.copy()
            said = np.fromiter(self._said, np.int64, len(self._said))
            values, penalty = logits[said], np.float32(how.repetition_penalty)
            logits[said] = np.where(values > 0, values / penalty, values * penalty)
        token = int(logits.argmax()) if how.temperature == 0 else self._drawn(logits)
        self._said.add(token)
        return token

    def _drawn(self, logits: npt.NDArray[np.float32]) -> int:
        how = self._how
        scores = logits.astype(np.float64) / how.temperature
        order = np.argsort(-scores, kind="stable")[: how.top_k or None]
        shares: npt.NDArray[Any] = np.exp(scores[order] - scores[order[0]])
        shares /= shares.sum()
        # The token that brings the sum to top_p is still among those drawn from.
        kept = int(np.searchsorted(np.cumsum(shares), how.top_p)) + 1
        shares = shares[:kept] / shares[:kept].sum()
        return int(self._draw.choice(order[:kept], p=shares))


def _require(holds: bool, name: str, wanted: str, value: float) -> None:
    if not holds:
        raise InputError(f"{name}: must be {wanted}, not {value}")
