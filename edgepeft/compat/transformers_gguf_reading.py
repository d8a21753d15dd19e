"""Has transformers parse a GGUF file once.

Written for transformers 5.23 and gguf 0.19. Replaces ``gguf.GGUFReader`` and ``gguf.get_tensor_name_map``,
which transformers imports from gguf anew in every call of its loader. It opens the file for the configuration,
the weights and the tokenizer, and builds the table of tensor names for every module: two thirds of the time it
takes. A loader that keeps the reader would make this unnecessary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from edgepeft.compat.gguf_arrays import array_reader


@contextlib.contextmanager
def each_file_read_once() -> Iterator[None]:
    """Within, transformers parses each GGUF file once."""
    import gguf

    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.cache(array_reader())
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = kept
