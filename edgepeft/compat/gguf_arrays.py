"""GGUF files through the gguf library's own reader, over a plain array.

Written for gguf 0.19. ``GGUFReader.__init__`` sets ``self.data`` to a ``memmap`` and cuts every field and
tensor out of it; a slice of a ``memmap`` costs three times one of an array over the same memory. The setting is
caught and the array put in its place. A reader that does so itself would make this unnecessary.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def array_reader() -> Any:
    """The class: ``gguf.GGUFReader`` with ``data`` uint8 as a plain array that stays mapped."""
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """The library's reader over a plain array: every slice of a ``memmap`` costs three times as much."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    return Reader
