"""GGUF files through the gguf library's own reader, read once and without its detours.

Container format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@functools.cache
def _reader_class() -> Any:
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """The library's reader over a plain array: every slice of a ``memmap`` costs three times as much."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    return Reader


def open_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader`` of a file; the tensors stay mapped. Raises whatever the library raises."""
    return _reader_class()(path)


def scalar_fields(reader: Any) -> Mapping[str, Any]:
    """The metadata of a file without its arrays, of which a tokenizer's are long."""
    from gguf import GGUFValueType

    return {
        key: field.contents()
        for key, field in reader.fields.items()
        if field.types and field.types[0] != GGUFValueType.ARRAY
    }


@contextlib.contextmanager
def each_file_read_once() -> Iterator[None]:
    """Within, transformers parses a GGUF file once.

    It opens the file anew for the configuration, the weights and the tokenizer, and builds the table of tensor
    names anew for every module: two thirds of the time it takes.
    """
    import gguf

    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.cache(_reader_class())
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = kept
