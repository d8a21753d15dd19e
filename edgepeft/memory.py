"""Memory that a process has freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """Have glibc take blocks of 1 MiB and more from the system one by one and return each when it is freed.

    By default it raises that limit to the largest block freed so far (mallopt(3), M_MMAP_THRESHOLD), after which
    the tensors of one layer are cut from a heap whose gaps the next layer's don't fill: the process grows with
    every layer. The system calls this costs are few where a stage works through large tensors once. Does nothing
    where the C library is another.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
