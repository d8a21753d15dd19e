"""Loading a bundle into the runtime it is laid out for, and saying how that should choose tokens."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.layout import GENAI
from edgepeft.errors import EdgepeftError, MissingError, one_line
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU, find_adapter, register_with_genai
from edgepeft.runtime.pieces import PROMPT, prompt_chunk
from edgepeft.runtime.providers import PROVIDERS, SOFTWARE_CHUNK, provider_name
from edgepeft.runtime.search_options import SearchOptions
from edgepeft.utils.threads import chosen_threads

if TYPE_CHECKING:
    import onnxruntime_genai as og

    from edgepeft.runtime.plain import PlainModel

_FINDABLE = frozenset(PROVIDERS) - {"OpenVINOExecutionProvider", "QNNExecutionProvider"}
_NAMED_DEVICES = frozenset({"cuda", "DML", "WebGPU"})


@dataclass(frozen=True)
class GenaiModel:
    """A bundle in onnxruntime-genai, and how many tokens of a prompt it must be handed together; None for all,
    where it parts prompts itself.
    """

    native: og.Model
    at_once: int | None = None

    @property
    def device_type(self) -> str:
        """What runs it, as onnxruntime-genai calls it."""
        return str(self.native.device_type)


class _InParts:
    """A generator of onnxruntime-genai's that is handed ``at_once`` tokens at a time."""

    def __init__(self, generator: og.Generator, at_once: int) -> None:
        self._generator, self._at_once = generator, at_once

    def append_tokens(self, tokens: npt.NDArray[np.int32]) -> None:
        """Read tokens, int32 [n]."""
        for start in range(0, len(tokens), self._at_once):
            self._generator.append_tokens(tokens[start : start + self._at_once])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


def load_model(
    bundle: Bundle,
    stop_ids: Collection[int],
    *,
    threads: int | None,
    provider: str | None,
    plain: bool = False,
) -> GenaiModel | PlainModel:
    """Load ``bundle``'s graph with ``stop_ids`` as the tokens that end an answer.

    A bundle laid out without onnxruntime-genai goes to plain onnxruntime, as any does with ``plain``. Raises
    MissingError without the runtime or the provider, InputError for a provider that has no name here,
    EdgepeftError when the model does not load or loads on another device.
    """
    if plain or GENAI not in bundle.runtimes:
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
    wanted = PROVIDERS[full]
    search: dict[str, Any] = {}
    chunk = prompt_chunk(bundle.genai_config["model"]["vocab_size"])
    # For models with states it passes over the setting.
    at_once = chunk if bundle.keeps_states else None
    if chunk < PROMPT and bundle.rotary_switch is None:
        # Left alone, onnxruntime-genai reads a prompt at once: a gigabyte of logits for 1,000 tokens of 262,144.
        search["chunk_size"] = chunk
    if full != CPU and full in _FINDABLE:
        try:
            if find_adapter(full).software:
                # WebGPU's kernel for 32 tokens and more at once needs wider subgroups than software has.
                search["chunk_size"] = SOFTWARE_CHUNK
                at_once = SOFTWARE_CHUNK if bundle.keeps_states else None
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
    return GenaiModel(loaded, at_once)


def new_generator(model: GenaiModel | PlainModel, capacity: int, options: SearchOptions) -> Any:
    """A generator of either runtime with room for ``capacity`` tokens, prompt and answer together."""
    from edgepeft.runtime.plain import PlainModel

    if isinstance(model, PlainModel):
        return model.generator(capacity, options)
    import onnxruntime_genai as og

    params = og.GeneratorParams(model.native)
    params.set_search_options(max_length=capacity, **options)
    generator = og.Generator(model.native, params)
    return generator if model.at_once is None else _InParts(generator, model.at_once)
