"""Names of execution providers, short and long, and how a software adapter is asked."""

from __future__ import annotations

from edgepeft.errors import InputError

# onnxruntime's names to onnxruntime-genai's, and whether the latter names the device after it.
PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "DML",
    "WebGpuExecutionProvider": "WebGPU",
    "NvTensorRTRTXExecutionProvider": "NvTensorRtRtx",
    "OpenVINOExecutionProvider": "OpenVINO",
    "QNNExecutionProvider": "QNN",
}

SOFTWARE_CHUNK = 16
"""Tokens of a prompt that a software adapter is given at once."""


def provider_name(provider: str) -> str:
    """onnxruntime's name of a provider that may be given by its short one, as "cpu". Raises InputError."""
    for name, short in PROVIDERS.items():
        if provider.lower() in (name.lower(), short.lower()):
            return name
    raise InputError(
        f"provider: {provider!r} is not one of {', '.join(short for short in PROVIDERS.values())}"
    )
