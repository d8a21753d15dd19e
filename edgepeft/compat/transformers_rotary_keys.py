"""The keys that transformers knows of rotary settings.

Written for transformers 5.23. Reads the annotations of ``RopeParameters``, a typed dictionary of
``transformers.modeling_rope_utils``, an internal module. A documented list of the keys would make this
unnecessary.
"""

from __future__ import annotations

import functools
from typing import get_type_hints


@functools.cache
def rotary_keys() -> frozenset[str]:
    """The keys of ``rope_parameters`` that transformers reads where a rotary type scales."""
    from transformers.modeling_rope_utils import RopeParameters

    return frozenset(get_type_hints(RopeParameters))
