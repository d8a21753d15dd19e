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


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far, in bytes.

    Not as getrusage has it on Linux, which counts what the parent held when it started this process.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
