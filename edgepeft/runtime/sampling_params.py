"""How an answer's tokens are chosen and where it ends: fields, defaults and ranges, for all who ask for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from edgepeft.data.plain_text import refuse_halves
from edgepeft.errors import InputError

MAX_SEED = 2**31 - 1
MOST_LOGPROBS = 20
"""Alternatives that come with a token, as many as OpenAI's API has."""

_LIMITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_new_tokens": (lambda value: value >= 1, "1 or more"),
    "temperature": (lambda value: value >= 0, "0 (greedy) or more"),
    "top_k": (lambda value: value >= 0, "0 (any token) or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda value: value > 0, "above 0"),
    "seed": (lambda value: 0 <= (value or 0) <= MAX_SEED, f"from 0 to {MAX_SEED}"),
    "frequency_penalty": (lambda value: -2 <= value <= 2, "from -2 to 2"),
    "presence_penalty": (lambda value: -2 <= value <= 2, "from -2 to 2"),
    "logprobs": (lambda value: 0 <= (value or 0) <= MOST_LOGPROBS, f"from 0 to {MOST_LOGPROBS}"),
}
RANGES: Mapping[str, str] = {name: wanted for name, (_, wanted) in _LIMITS.items()}
"""What the fields that have a range may be, in words."""
HELP: Mapping[str, str] = {
    "max_new_tokens": "Maximum number of tokens of the answer.",
    "temperature": "Sampling temperature; 0: always the most likely token.",
    "top_k": "Sample from the k most likely tokens; 0: from all.",
    "top_p": "Sample from the most likely tokens with total probability p.",
    "repetition_penalty": "Values above 1 discourage repeated tokens.",
    "seed": "Seed for reproducible sampling.",
    "stop": "Stop the answer before this string. Repeatable.",
}
"""What each field is for, as the command line and the wizard say it."""


class OutOfRange(InputError):
    """A field whose value it can't have; ``name`` is the field's and ``said`` what is wrong with it."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}")
        self.name, self.said = name, said


@dataclass(frozen=True)
class SamplingParams:
    """One way to choose tokens.

    ``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 do not restrict sampling, which
    repeats itself with the same ``seed`` only. The answer ends at a stop token, before any of the strings
    ``stop``, after ``max_new_tokens`` or with the context.

    ``frequency_penalty`` is taken off a token's logit for each time it has come in the answer,
    ``presence_penalty`` once where it has come at all, and ``logit_bias`` adds to the logits of the tokens it
    names, as OpenAI's API has them. With ``logprobs`` the answer says how likely the model held each of its
    tokens, and so many of the likeliest in its place: before all of these (see ``edgepeft.runtime.logprobs``).
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raises OutOfRange naming the field, InputError for a stop string that is no text."""
        for name, (holds, wanted) in _LIMITS.items():
            if not holds(getattr(self, name)):
                raise OutOfRange(name, f"must be {wanted}, not {getattr(self, name)}")
        if isinstance(self.stop, str) or not all(self.stop):
            raise OutOfRange("stop", "must be a list of strings, none of them empty")
        for text in self.stop:
            refuse_halves(text, "stop")
        for token, bias in self.logit_bias.items():
            if token < 0 or not -100 <= bias <= 100:
                raise OutOfRange(
                    "logit_bias",
                    f"must be token ids with numbers from -100 to 100, not {token}: {bias}",
                )


class SamplingFields(TypedDict, total=False):
    """Fields of ``SamplingParams`` as keywords of a call."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int | None
    stop: Sequence[str]
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    logprobs: int | None
