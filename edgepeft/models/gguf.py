"""GGUF files through the gguf library's own reader.

Container format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.compat.gguf_arrays import array_reader


def open_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader`` of a file; the tensors stay mapped. Raises whatever the library raises."""
    return array_reader()(path)


def scalar_fields(reader: Any) -> Mapping[str, Any]:
    """The metadata of a file without its arrays, of which a tokenizer's are long."""
    from gguf import GGUFValueType

    return {
        key: field.contents()
        for key, field in reader.fields.items()
        if field.types and field.types[0] != GGUFValueType.ARRAY
    }
