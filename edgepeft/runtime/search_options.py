"""How tokens are to be chosen, as onnxruntime-genai's keywords say it."""

from __future__ import annotations

from collections.abc import Mapping

from edgepeft.errors import InputError

SearchOptions = Mapping[str, float | bool]
"""Keywords of onnxruntime-genai's ``set_search_options``, all but ``max_length``."""

# Whatever a genai_config.json says of searching is overridden: only edgepeft's arguments count.
GREEDY: SearchOptions = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
}

_MAX_SEED = 2**31 - 1


def search_options(
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
    seed: int | None,
    vocab_size: int,
) -> SearchOptions:
    """Check how tokens are to be chosen; a ``seed`` is among the options only when one is used.

    Raises InputError naming the value that is out of range.
    """
    _require(temperature >= 0, "temperature", "0 (greedy) or more", temperature)
    _require(top_k >= 0, "top_k", "0 (any token) or more", top_k)
    _require(0 < top_p <= 1, "top_p", "above 0 and at most 1", top_p)
    _require(repetition_penalty > 0, "repetition_penalty", "above 0", repetition_penalty)
    options = {**GREEDY, "repetition_penalty": repetition_penalty}
    if temperature == 0:
        return options
    options |= {
        "do_sample": True,
        "temperature": temperature,
        "top_k": min(top_k, vocab_size),
        "top_p": top_p,
    }
    if seed is not None:
        _require(0 <= seed <= _MAX_SEED, "seed", f"from 0 to {_MAX_SEED}", seed)
        options["random_seed"] = seed
    return options


def _require(holds: bool, name: str, wanted: str, value: float) -> None:
    if not holds:
        raise InputError(f"{name}: must be {wanted}, not {value}")
