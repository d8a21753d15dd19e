"""The shape of a key-value cache where a graph leaves it open, from the configuration that lies with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.bundle.files import read_json
from edgepeft.bundle.genai_config import GENAI_CONFIG
from edgepeft.errors import InputError


def cache_shape(model_file: Path) -> tuple[int, int]:
    """(kv heads, head size) from the configuration beside or above a graph that has them open.

    Raises InputError where none says them.
    """
    for folder in (model_file.parent, model_file.parent.parent):
        if (folder / GENAI_CONFIG).is_file():
            found = _object(_object(read_json(folder / GENAI_CONFIG), "model"), "decoder")
            heads, size = found.get("num_key_value_heads"), found.get("head_size")
        elif (folder / "config.json").is_file():
            found = read_json(folder / "config.json")
            queries, width = found.get("num_attention_heads"), found.get("hidden_size")
            heads, size = found.get("num_key_value_heads") or queries, found.get("head_dim")
            if not size and type(queries) is int and type(width) is int and queries > 0:
                size = width // queries
        else:
            continue
        if isinstance(heads, int) and isinstance(size, int) and heads > 0 and size > 0:
            return heads, size
    raise InputError(
        f"{model_file}: its cache has no fixed shape and no {GENAI_CONFIG} or config.json says it"
    )


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
