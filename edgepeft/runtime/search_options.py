"""How tokens are to be chosen, as onnxruntime-genai's keywords say it."""

from __future__ import annotations

from collections.abc import Mapping

from edgepeft.runtime.sampling_params import SamplingParams

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


def search_options(params: SamplingParams, vocab_size: int) -> SearchOptions:
    """``params`` for a model of so many tokens; a ``seed`` is among the options only when one is used."""
    options = {**GREEDY, "repetition_penalty": params.repetition_penalty}
    if params.temperature == 0:
        return options
    options |= {
        "do_sample": True,
        "temperature": params.temperature,
        "top_k": min(params.top_k, vocab_size),
        "top_p": params.top_p,
    }
    if params.seed is not None:
        options["random_seed"] = params.seed
    return options
