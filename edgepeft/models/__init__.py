"""What a recipe's ``model`` means, and what can be known of a model from its headers alone.

Nothing here loads weights or imports torch: configuration and safetensors or GGUF headers are read, so that a
model that can't work is refused in a second.
"""

from edgepeft.models.info import ModelInfo
from edgepeft.models.inspect import inspect_model
from edgepeft.models.known import KNOWN_MODELS, KnownModel, find_model, packaged_file

__all__ = [
    "KNOWN_MODELS",
    "KnownModel",
    "ModelInfo",
    "find_model",
    "inspect_model",
    "packaged_file",
]
