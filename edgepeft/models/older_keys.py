"""Keys of a configuration that a family's first checkpoints have under other names, which transformers reads still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OLDER = {"lfm2": {"block_ff_dim": "intermediate_size", "tie_embedding": "tie_word_embeddings"}}
"""Today's names by the older ones, by type of model. Where both are there, the older one counts."""


def with_todays_keys(config: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` holds, with each older key under its name of today as well."""
    names: Mapping[str, str] = _OLDER.get(str(config.get("model_type")), {})
    return config | {new: config[old] for old, new in names.items() if old in config}
