"""Lets a model that came from a GGUF file be saved.

Written for transformers 5.23. Takes ``hf_quantizer`` off the model and ``quantization_config`` off its
configuration. transformers dequantizes the weights when it loads them and leaves both marks, with which
``save_pretrained`` refuses. A loader that leaves no mark on float weights would make this unnecessary.
"""

from __future__ import annotations

from typing import Any


def forget_file(model: Any) -> None:
    """Take off a dequantized model what says that its weights are quantized."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
