"""On the device: opening a bundle, answering with it, and the logits of the graph that ships.

Needs numpy, onnxruntime, onnxruntime-genai, tokenizers and jinja2, never torch or transformers;
importing this package imports none of them: each name below arrives when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepeft.runtime.batch_runtime import BatchRuntime
    from edgepeft.runtime.bundle import Bundle
    from edgepeft.runtime.decoder_session import GraphSession
    from edgepeft.runtime.encoder import Encoder
    from edgepeft.runtime.generate import Completion, Runtime
    from edgepeft.runtime.logprobs import Score, TokenLogprob
    from edgepeft.runtime.sampling_params import SamplingParams
    from edgepeft.tool_calling.offered import Offered

__all__ = [
    "BatchRuntime",
    "Bundle",
    "Completion",
    "Encoder",
    "GraphSession",
    "Offered",
    "Runtime",
    "SamplingParams",
    "Score",
    "TokenLogprob",
]

_HOMES = {
    "BatchRuntime": "batch_runtime",
    "Bundle": "bundle",
    "Completion": "generate",
    "Encoder": "encoder",
    "GraphSession": "decoder_session",
    "Offered": "tool_use",
    "Runtime": "generate",
    "SamplingParams": "sampling_params",
    "Score": "logprobs",
    "TokenLogprob": "logprobs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
