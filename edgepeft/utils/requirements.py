"""Which libraries a stage needs and which extra brings them, asked before anything starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from edgepeft.errors import MissingError

_MODEL = ("torch", "transformers", "safetensors", "accelerate")
_NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "base": {"export": (*_MODEL, "gguf")},
    "train": {"train": (*_MODEL, "peft", "trl", "bitsandbytes", "datasets")},
    "combine": {"export": (*_MODEL, "peft", "bitsandbytes")},
    "merge": {"export": (*_MODEL, "peft", "bitsandbytes")},
    "quantize": {"export": _MODEL},
    "export": {"export": (*_MODEL, "onnx_ir"), "cpu": ("onnxruntime_genai",)},
    "encoder": {"export": ("optimum", "onnxscript")},
    "witness": {"export": (*_MODEL, "peft", "bitsandbytes", "gguf")},
    "float-graph": {
        "export": (*_MODEL, "peft", "bitsandbytes", "onnx_ir"),
        "cpu": ("onnxruntime", "onnxruntime_genai"),
    },
    "reference": {"export": (*_MODEL, "peft", "bitsandbytes")},
    "verify": {"export": ("torch", "safetensors"), "cpu": ("onnxruntime", "onnxruntime_genai")},
}


def require_libraries(kinds: Iterable[str]) -> None:
    """Raise MissingError, naming what to install, unless every library of these stages is there."""
    missing: dict[str, str] = {}
    for kind in kinds:
        for extra, modules in _NEEDS[kind].items():
            for module in modules:
                if importlib.util.find_spec(module) is None:
                    missing.setdefault(extra, module)
    if missing:
        extras = ",".join(sorted(missing))
        module = next(iter(missing.values()))
        raise MissingError(f"{module} is not installed: pip install 'edgepeft[{extras}]'")
