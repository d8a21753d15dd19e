"""What a task asks of an answer: its ``generation_kwargs`` as the runtime's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.errors import InputError
from edgepeft.runtime.sampling_params import SamplingParams

MOST_TOKENS = 256
"""Tokens of an answer where a task doesn't say."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("top_k", "top_p", "repetition_penalty")
_NEUTRAL: Mapping[str, Any] = {
    "num_beams": 1,
    "min_p": 0,
    "use_cache": True,
    "num_return_sequences": 1,
}
"""Settings that a bundle's runtime lacks, and the value of each that asks for nothing."""


def sampling_of(settings: Mapping[str, Any], seed: int | None, task: str) -> SamplingParams:
    """How a task's answers are made. Raises InputError for a setting that the runtime lacks, or out of range."""
    left = {name: value for name, value in settings.items() if value is not None}
    lengths = [left.pop(name) for name in _LENGTHS if name in left]
    until = left.pop("until", [])
    stop = [until] if isinstance(until, str) else list(until)
    temperature = float(left.pop("temperature", 1.0 if left.get("do_sample") else 0.0))
    if left.pop("do_sample", temperature > 0) is False:
        temperature = 0.0
    further = {name: left.pop(name) for name in _SAMPLING if name in left}
    for name, value in left.items():
        if _NEUTRAL.get(name, ...) != value:
            raise InputError(
                f"{task}: generation_kwargs.{name}: a bundle's runtime has no such setting; leave it out of the "
                "task, or leave out the task"
            )
    try:
        return SamplingParams(
            max_new_tokens=int(lengths[0]) if lengths else MOST_TOKENS,
            temperature=temperature,
            seed=seed if temperature else None,
            stop=[text for text in stop if text],
            **further,
        )
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{task}: generation_kwargs: {error}") from None
