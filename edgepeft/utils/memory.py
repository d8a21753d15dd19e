"""What a process holds of memory at most, and giving back to the system what it has freed."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

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


def peak_memory_bytes(*, children: bool = False) -> int:
    """Largest resident set of this process so far, in bytes; with ``children`` also of any it has seen end.

    Its own not as getrusage has it on Linux, which counts what the parent held when it started this process.
    """
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    own = _high_water() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    if not children:
        return own
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale)


def _high_water() -> int | None:
    """The kernel's own count of it, in bytes, where there is one."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
