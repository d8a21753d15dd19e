"""One answer's way through a grammar: which tokens may come next, and which must."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.guidance.grammar import NO_TEXT, explained


class Matcher:
    """Follows one answer; made by ``Vocabulary.matcher``. For one thread at a time."""

    def __init__(self, inner: Any, stop_ids: list[int], width: int, where: str) -> None:
        """``inner`` is llguidance's; ``width`` the number of logits, V; ``where`` stands in errors."""
        self._inner = inner
        self._stops = stop_ids
        self._width = width
        self._where = where

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._inner.is_accepting())

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, bool [V]; a stop token where the answer may end.

        Raises InputError where following the grammar takes too much, or the vocabulary has no token that goes on.
        """
        words = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        self._require_sound()
        bits = np.unpackbits(words, bitorder="little", count=self._width)
        mask = bits.view(np.bool_)
        ends = bool(mask[self._stops].any())
        # llguidance answers with the stop tokens, too, where it finds nothing else.
        if (ends and not self._inner.is_accepting()) or not (ends or mask.any()):
            raise InputError(f"{self._where}: {NO_TEXT}")
        return mask

    def bounded(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A copy of ``logits`` float32 [V] with -inf for the tokens that may not come. Raises as ``allowed``."""
        return np.where(self.allowed(), logits, np.float32(-np.inf))

    def take(self, token: int) -> None:
        """The answer goes on with ``token``. Raises EdgepeftError for one that may not come."""
        if token in self._stops and self._inner.is_stopped():
            return
        if not self._inner.consume_token(token):
            if "doesn't satisfy the grammar" not in self._inner.get_error():
                # It takes too much to follow, which is the grammar's matter.
                self._require_sound()
            raise EdgepeftError(
                f"{self._where}: the answer left its grammar with token {token}; this is a fault of edgepeft"
            )

    def forced(self) -> list[int]:
        """The tokens that must come next, whatever the model says, as the tokenizer itself would cut their text;
        none where there is a choice. A stop token where nothing more may come.
        """
        if self._inner.is_stopped():
            self._require_sound()
            return self._stops[:1]
        found: list[int] = self._inner.compute_ff_tokens()
        self._require_sound()
        # Past the logits' end, and at a stop token, the mask decides.
        kept = next(
            (at for at, token in enumerate(found) if token >= self._width or token in self._stops),
            len(found),
        )
        return found[:kept]

    def _require_sound(self) -> None:
        if self._inner.is_error():
            raise InputError(f"{self._where}: {explained(self._inner.get_error())}")
