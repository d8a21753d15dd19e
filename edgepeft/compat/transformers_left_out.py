"""Tensors of a checkpoint that a model's class in transformers leaves out by design.

Written for transformers 5.23. Reads ``PreTrainedModel._keys_to_ignore_on_load_unexpected``, the class's own
list, as ``from_pretrained`` does. A public name of that list would make this unnecessary.
"""

from __future__ import annotations

import re
from typing import Any


def is_left_out(model: Any, name: str) -> bool:
    """Whether the class of ``model`` says that a checkpoint may hold ``name`` and that it is not loaded."""
    ignored = getattr(type(model), "_keys_to_ignore_on_load_unexpected", None) or ()
    return any(re.search(pattern, name) for pattern in ignored)
