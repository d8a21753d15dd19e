"""The names of a GGUF file's tensors, by those of the model in transformers.

Written for transformers 5.23. Uses ``get_gguf_hf_weights_map``, ``TENSOR_PROCESSORS`` and ``TensorProcessor``
of ``transformers.modeling_gguf_pytorch_utils``, parts of its loader. The loader passes over tensors that its
mapping has no place for and makes up those that a file lacks; with the mapping both are found before. A loader
that reports them would make this unnecessary.
"""

from __future__ import annotations

from typing import Any


def tensor_places(model: Any, architecture: str, config: Any) -> dict[str, str]:
    """Parameters of ``model`` by the names that a file of ``general.architecture`` has for them."""
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    found: dict[str, str] = get_gguf_hf_weights_map(model, processor)
    return found
