"""Loading a bundle into the runtime it is laid out for, and saying how that should choose tokens."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from edgepeft.bundle.layout import GENAI
from edgepeft.errors import EdgepeftError, InputError, MissingError, one_line
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU, find_adapter, register_with_genai
from edgepeft.utils.threads import chosen_threads

if TYPE_CHECKING:
    import onnxruntime_genai as og

    from edgepeft.runtime.plain import PlainModel

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

# onnxruntime's names to onnxruntime-genai's, and whether the latter names the device after it.
_PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "DML",
    "WebGpuExecutionProvider": "WebGPU",
    "NvTensorRTRTXExecutionProvider": "NvTensorRtRtx",
    "OpenVINOExecutionProvider": "OpenVINO",
    "QNNExecutionProvider": "QNN",
}
_FINDABLE = frozenset(_PROVIDERS) - {"OpenVINOExecutionProvider", "QNNExecutionProvider"}
_NAMED_DEVICES = frozenset({"cuda", "DML", "WebGPU"})
_MAX_SEED = 2**31 - 1

SOFTWARE_CHUNK = 16
"""Tokens of a prompt that a software adapter is given at once."""


def load_model(
    bundle: Bundle, stop_ids: Collection[int], *, threads: int | None, provider: str | None
) -> og.Model | PlainModel:
    """Load ``bundle``'s graph with ``stop_ids`` as the tokens that end an answer.

    A bundle laid out without onnxruntime-genai goes to plain onnxruntime. Raises MissingError without the
    runtime or the provider, InputError for a provider that has no name here, EdgepeftError when the model does
    not load or loads on another device.
    """
    if GENAI not in bundle.runtimes:
        from edgepeft.runtime.plain import PlainModel

        return PlainModel(bundle, stop_ids, threads=threads, provider=provider)
    try:
        import onnxruntime_genai as og
    except ImportError as error:
        raise MissingError(
            "needs onnxruntime-genai: pip install 'edgepeft[cpu]' or 'edgepeft[cuda]'"
        ) from error
    # Left alone, onnxruntime-genai takes half of the processors it sees.
    options = {"intra_op_num_threads": chosen_threads(threads)}
    model = {"eos_token_id": sorted(stop_ids), "decoder": {"session_options": options}}
    full = provider_name(provider or bundle.provider)
    wanted = _PROVIDERS[full]
    search: dict[str, Any] = {}
    if full != CPU and full in _FINDABLE:
        try:
            if find_adapter(full).software:
                # WebGPU's kernel for 32 tokens and more at once needs wider subgroups than software has.
                search["chunk_size"] = SOFTWARE_CHUNK
        except MissingError as error:
            raise MissingError(
                f"{bundle.path}: {error}; or ask for another provider (--provider cpu)"
            ) from error
        register_with_genai(full)
    try:
        config = og.Config(str(bundle.path))
        config.overlay(json.dumps({"model": model, "search": search}))
        if provider is not None:
            config.clear_providers()
            if wanted != "cpu":
                config.append_provider(wanted)
        loaded = og.Model(config)
    except RuntimeError as error:
        if wanted != "cpu":
            raise MissingError(
                f"{bundle.path}: cannot run on {wanted} here ({one_line(error)}); install "
                "'edgepeft[cuda]' on a machine with that device, or ask for the provider cpu"
            ) from error
        raise EdgepeftError(
            f"{bundle.path}: onnxruntime-genai cannot load it ({one_line(error)})"
        ) from error
    device = str(loaded.device_type)
    if wanted in _NAMED_DEVICES and device.lower() != wanted.lower():
        raise EdgepeftError(
            f"{bundle.path}: asked for {wanted}, onnxruntime-genai runs it on {device}; check the "
            "device and its driver, or ask for the provider cpu"
        )
    return loaded


def new_generator(model: og.Model | PlainModel, capacity: int, options: SearchOptions) -> Any:
    """A generator of either runtime with room for ``capacity`` tokens, prompt and answer together."""
    from edgepeft.runtime.plain import PlainModel

    if isinstance(model, PlainModel):
        return model.generator(capacity, options)
    import onnxruntime_genai as og

    params = og.GeneratorParams(model)
    params.set_search_options(max_length=capacity, **options)
    return og.Generator(model, params)


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


def provider_name(provider: str) -> str:
    """onnxruntime's name of a provider that may be given by its short one, as "cpu". Raises InputError."""
    for name, short in _PROVIDERS.items():
        if provider.lower() in (name.lower(), short.lower()):
            return name
    raise InputError(
        f"provider: {provider!r} is not one of {', '.join(short for short in _PROVIDERS.values())}"
    )
