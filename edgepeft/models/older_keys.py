"""Keys of a configuration that a family's first checkpoints have under other names; transformers reads both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TIED = {"tie_embedding": "tie_word_embeddings"}
_OLDER = {"lfm2": {**_TIED, "block_ff_dim": "intermediate_size"}, "lfm2_vl": _TIED}
"""Today's names by the older ones, by type of model. Where both are there, the older one counts."""


def in_todays_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` holds, with each older key under its name of today instead."""
    names: Mapping[str, str] = _OLDER.get(str(config.get("model_type")), {})
    renamed = {new: config[old] for old, new in names.items() if old in config}
    kept = {key: value for key, value in config.items() if key not in names}
    return {**kept, **renamed}
