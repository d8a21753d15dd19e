"""Choosing a token from logits as onnxruntime-genai does, for bundles that plain onnxruntime answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgepeft.runtime.sampling_params import SamplingParams
from edgepeft.runtime.search_options import SearchOptions


@dataclass(frozen=True, eq=False)
class Shift:
    """What is added to logits before a token is chosen, which no option of onnxruntime-genai's says.

    ``frequency`` and ``presence`` are the penalties of ``SamplingParams``, for which a token counts from
    ``start`` on, where the answer begins; ``biases`` float32 [n] are those of the tokens ``biased`` int64 [n].
    """

    frequency: float
    presence: float
    biased: npt.NDArray[np.int64]
    biases: npt.NDArray[np.float32]
    start: int

    @classmethod
    def of(cls, params: SamplingParams, start: int) -> Shift | None:
        """That of an answer whose first token is the ``start``-th of its sequence; None for nothing to add."""
        penalties, bias = (params.frequency_penalty, params.presence_penalty), params.logit_bias
        if not any(penalties) and not bias:
            return None
        biased, biases = np.array(list(bias), np.int64), np.array(list(bias.values()), np.float32)
        return cls(*penalties, biased, biases, start)

    def __call__(
        self, logits: npt.NDArray[np.float32], ids: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """A copy of ``logits`` float32 [V] for the token after ``ids``, with all that is added."""
        shifted = logits.copy()
        said, times = np.unique(np.asarray(ids[self.start :], np.int64), return_counts=True)
        shifted[said] -= (self.frequency * times + self.presence).astype(np.float32)
        shifted[self.biased] += self.biases
        return shifted


class Sampler:
    """Chooses by one set of options; ``random_seed`` among them makes it repeatable."""

    def __init__(
        self, options: SearchOptions, stop_ids: Collection[int], shift: Shift | None = None
    ) -> None:
        self._options = options
        self._shift = shift
        self._stops = sorted(stop_ids)
        seed = options.get("random_seed")
        self._random = np.random.default_rng(None if seed is None else int(seed))

    def choose(self, logits: npt.NDArray[np.float32], ids: Sequence[int]) -> int:
        """The token after ``ids``, of which ``logits`` float32 [V] say how likely each is."""
        options = self._options
        if self._shift is not None:
            logits = self._shift(logits, ids)
        penalty = options.get("repetition_penalty", 1.0)
        shortest = int(options.get("min_length", 0))
        if penalty != 1.0 or len(ids) < shortest:
            logits = logits.copy()
        if penalty != 1.0:
            seen = np.unique(ids)
            logits[seen] = np.where(
                logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty
            )
        if len(ids) < shortest:
            logits[self._stops] = -np.inf
        if not options.get("do_sample"):
            return int(logits.argmax())
        return self._draw(logits.astype(np.float64))

    def _draw(self, logits: npt.NDArray[np.float64]) -> int:
        order = np.argsort(-logits, kind="stable")
        top_k = int(self._options.get("top_k", 0))
        order = order[: top_k or None]
        # Divided afterwards, so that no temperature, however low, makes the likeliest infinite.
        with np.errstate(over="ignore"):
            odds = np.exp((logits[order] - logits[order[0]]) / self._options["temperature"])
        odds /= odds.sum()
        # The least number of tokens that reach the share together, the likeliest first.
        kept = int(np.searchsorted(odds.cumsum(), self._options.get("top_p", 1.0))) + 1
        order, odds = order[:kept], odds[:kept]
        return int(self._random.choice(order, p=odds / odds.sum()))
